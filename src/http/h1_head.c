/* Request heads; see h1.h.
 *
 * Two passes. The first looks for the empty line and can stop and go on anywhere: it
 * looks at line feeds alone, refuses one without its carriage return and one too far
 * out, and is the only part that sees incomplete input. The second reads the complete
 * head from the left, so its answer cannot depend on how the bytes came. What the first
 * refuses is refused at the lowest offset where it shows, for the same reason.
 */
#include "http/h1.h"

#include <string.h>

#include "base/error.h"
#include "http/h1_target.h"
#include "http/h1_text.h"
#include "http/scan.h"

static const char h2_preface[AT_H2_PREFACE_BYTES + 1] =
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

void at_h1_limits_init(at_h1_limits *limits)
{
    *limits = (at_h1_limits){
        .request_line_bytes = 8192,
        .head_bytes = 32768,
        .header_count = 100,
    };
}

static long refuse(at_h1_request *request, int status, const char *text)
{
    request->error_status = status;
    request->error_text = text;
    return status == 414 || status == 431 ? AT_ELIMIT : AT_EFORMAT;
}

/* ---- the first pass: where does the head end ---------------------------- */

/* What is being looked for, and how far. All offsets are from the buffer's beginning.
 */
typedef struct head_search {
    const char *data;
    size_t start;       /* of the request line */
    size_t line_budget; /* the first line feed is below this, */
    size_t head_budget; /* and the last one below that */
    bool in_first_line;
    size_t end; /* behind the empty line, once found */
} head_search;

/* Look at the line feed at `offset`.
 * gives: 1 (the head ends with it), 0, or what refuse() returned */
static long visit_line_feed(at_h1_request *request, head_search *search, size_t offset)
{
    const char *data = search->data;
    if (search->in_first_line && offset >= search->line_budget) {
        return refuse(request, 414, "request line too long");
    }
    if (offset >= search->head_budget) {
        return refuse(request, 431, "request head too large");
    }
    if (offset == search->start || data[offset - 1] != '\r') {
        return refuse(request, 400, "line feed without carriage return");
    }
    search->in_first_line = false;
    if (offset - search->start >= 2 && data[offset - 2] == '\n') {
        search->end = offset + 1;
        return 1;
    }
    return 0;
}

/* Visit the line feeds of data[from..size). Returns as visit_line_feed. */
static long visit_line_feeds(at_h1_request *request, head_search *search, size_t from,
                             size_t size)
{
    const char *data = search->data;
    size_t at = from;
    for (; size - at >= AT_BLOCK_BYTES; at += AT_BLOCK_BYTES) {
        uint64_t mask = at_block_mask(at_block_equal(at_block_load(data + at), '\n'));
        for (; mask != 0; mask &= mask - 1) {
            long result = visit_line_feed(request, search, at + at_mask_first(mask));
            if (result != 0) {
                return result;
            }
        }
    }
    for (; at < size; at++) {
        if (data[at] == '\n') {
            long result = visit_line_feed(request, search, at);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

/* A limit that can be added to without overflow. */
static size_t bounded(size_t limit)
{
    return limit < SIZE_MAX / 4 ? limit : SIZE_MAX / 4;
}

/* gives: the offset behind the head's empty line
 * errs:  AT_EAGAIN, AT_EFORMAT, AT_ELIMIT */
static long find_end(at_h1_request *request, const char *data, size_t start,
                     size_t size, size_t seen, const at_h1_limits *limits)
{
    size_t head_budget = start + bounded(limits->head_bytes);
    size_t line_budget = start + bounded(limits->request_line_bytes) + 2; /* its CRLF */
    head_search search = {
        .data = data,
        .start = start,
        .line_budget = line_budget < head_budget ? line_budget : head_budget,
        .head_budget = head_budget,
    };
    /* While the data could become HTTP/2's preface no line feed was looked at. */
    size_t from = seen > AT_H2_PREFACE_BYTES ? seen : start;
    /* An earlier call that went past the budget found the first line's end below it, or
     * it would have refused the head. */
    search.in_first_line =
        from <= search.line_budget && memchr(data + start, '\n', from - start) == NULL;
    long result = visit_line_feeds(request, &search, from, size);
    if (result != 0) {
        return result > 0 ? (long)search.end : result;
    }
    if (search.in_first_line && size >= search.line_budget) {
        return refuse(request, 414, "request line too long");
    }
    if (size >= search.head_budget) {
        return refuse(request, 431, "request head too large");
    }
    return AT_EAGAIN;
}

/* ---- the second pass: the request line ---------------------------------- */

/* Read "HTTP/x.y" that fills text. Returns 0 or an error. */
static long read_version(at_h1_request *request, at_span text)
{
    if (text.size != 8 || memcmp(text.data, "HTTP/", 5) != 0 || text.data[6] != '.' ||
        text.data[5] < '0' || text.data[5] > '9' || text.data[7] < '0' ||
        text.data[7] > '9') {
        return refuse(request, 400, "invalid HTTP version in the request line");
    }
    if (text.data[5] != '1' || text.data[7] > '1') {
        return refuse(request, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    request->version_minor = text.data[7] - '0';
    return 0;
}

/* Read the line that begins at `line`. Returns the next line, or NULL with the error in
 * *result. A line feed is only ever behind a carriage return: the first pass saw to it.
 */
static char *read_request_line(at_h1_request *request, char *line, char *end,
                               long *result)
{
    char *feed = memchr(line, '\n', (size_t)(end - line));
    char *stop = feed - 1;
    char *at = line;
    while (at_h1_lower(*at) != 0) {
        at++;
    }
    request->method = (at_span){line, (size_t)(at - line)};
    if (at == line || *at != ' ') {
        *result = refuse(request, 400, "invalid method");
        return NULL;
    }
    char *target = ++at;
    at = memchr(at, ' ', (size_t)(stop - at));
    if (at == NULL) {
        *result = refuse(request, 400, "request line without HTTP version");
        return NULL;
    }
    request->target = (at_span){target, (size_t)(at - target)};
    *result = read_version(request, (at_span){at + 1, (size_t)(stop - at - 1)});
    if (*result != 0) {
        return NULL;
    }
    const char *problem = at_h1_read_target(request);
    if (problem != NULL) {
        *result = refuse(request, 400, problem);
        return NULL;
    }
    return feed + 1;
}

/* ---- the second pass: the fields ---------------------------------------- */

/* What the fields said, kept until the last one is read. */
typedef struct head_facts {
    at_h1_header *host;
    const at_h1_header *transfer_encoding;
    bool has_length;
    bool close;
    bool keep_alive;
    bool connection_upgrade;
    bool upgrade_websocket;
    bool upgrade_h2c;
    bool expect_continue;
    unsigned h2_settings_count;
} head_facts;

static long read_content_length(at_h1_request *request, head_facts *facts,
                                at_span value)
{
    if (facts->has_length) {
        return refuse(request, 400, "Content-Length given twice");
    }
    facts->has_length = true;
    uint64_t length = 0;
    for (size_t i = 0; i < value.size; i++) {
        unsigned digit = (unsigned)(uint8_t)value.data[i] - '0';
        if (digit > 9 || length > ((uint64_t)INT64_MAX - digit) / 10) {
            return refuse(request, 400, "invalid Content-Length");
        }
        length = length * 10 + digit;
    }
    if (value.size == 0) {
        return refuse(request, 400, "invalid Content-Length");
    }
    request->content_length = length;
    return 0;
}

static void read_connection(head_facts *facts, at_span value)
{
    at_span option;
    while (at_h1_next_element(&value, &option)) {
        facts->close |= at_h1_equal(option, "close");
        facts->keep_alive |= at_h1_equal(option, "keep-alive");
        facts->connection_upgrade |= at_h1_equal(option, "upgrade");
    }
}

static long read_host(at_h1_request *request, head_facts *facts, at_h1_header *header)
{
    if (facts->host != NULL) {
        return refuse(request, 400, "Host given twice");
    }
    if (!at_h1_is_authority(header->value)) {
        return refuse(request, 400, "invalid Host");
    }
    facts->host = header;
    request->host = header->value;
    return 0;
}

static long read_expect(at_h1_request *request, head_facts *facts, at_span value)
{
    if (request->version_minor == 0) {
        return 0; /* RFC 9110 10.1.1: ignored in HTTP/1.0 */
    }
    if (!at_h1_equal(value, "100-continue")) {
        return refuse(request, 417, "unknown expectation");
    }
    facts->expect_continue = true;
    return 0;
}

static bool is_named(const at_h1_header *header, const char *name, size_t size)
{
    return header->name.size == size && memcmp(header->name.data, name, size) == 0;
}

/* Note what a field means for the message itself. Returns 0 or an error. */
static long read_meaning(at_h1_request *request, head_facts *facts,
                         at_h1_header *header)
{
    switch (header->name.size) {
    case 4:
        return is_named(header, "host", 4) ? read_host(request, facts, header) : 0;
    case 6:
        return is_named(header, "expect", 6)
                   ? read_expect(request, facts, header->value)
                   : 0;
    case 7:
        if (is_named(header, "upgrade", 7)) {
            facts->upgrade_websocket |= at_h1_has_token(header->value, "websocket");
            facts->upgrade_h2c |= at_h1_has_token(header->value, "h2c");
        }
        return 0;
    case 10:
        if (is_named(header, "connection", 10)) {
            read_connection(facts, header->value);
        }
        return 0;
    case 14:
        if (is_named(header, "http2-settings", 14)) {
            facts->h2_settings_count++;
        }
        return is_named(header, "content-length", 14)
                   ? read_content_length(request, facts, header->value)
                   : 0;
    case 17:
        if (is_named(header, "transfer-encoding", 17)) {
            if (facts->transfer_encoding != NULL) {
                return refuse(request, 400, "Transfer-Encoding given twice");
            }
            facts->transfer_encoding = header;
        }
        return 0;
    default:
        return 0;
    }
}

/* Read the field line at `line` into *header, its name in lower case. Returns the next
 * line, or NULL with the error in *result. */
static char *read_field(at_h1_request *request, char *line, char *end,
                        at_h1_header *header, long *result)
{
    char *at = line;
    for (char lower; (lower = at_h1_lower(*at)) != 0; at++) {
        *at = lower;
    }
    if (*at != ':' || at == line) {
        const char *text = at_h1_is_space(*line) ? "folded header line"
                           : at_h1_is_space(*at) ? "white space before a header's colon"
                                                 : "invalid header name";
        *result = refuse(request, 400, text);
        return NULL;
    }
    header->name = (at_span){line, (size_t)(at - line)};
    at++;
    while (at_h1_is_space(*at)) {
        at++;
    }
    char *value = at;
    at += at_scan_value(at, end) - at;
    if (*at != '\r' || at[1] != '\n') {
        *result = refuse(request, 400, "control character in a header");
        return NULL;
    }
    header->value = (at_span){value, (size_t)(at - value)};
    while (header->value.size != 0 &&
           at_h1_is_space(header->value.data[header->value.size - 1])) {
        header->value.size--;
    }
    return at + 2;
}

static long read_fields(at_h1_request *request, head_facts *facts, char *line,
                        char *end, const at_h1_limits *limits)
{
    size_t most = limits->header_count < AT_H1_HEADERS_MAX ? limits->header_count
                                                           : AT_H1_HEADERS_MAX;
    while (end - line != 2) { /* the empty line */
        if (request->header_count == most) {
            return refuse(request, 431, "too many headers");
        }
        at_h1_header *header = &request->headers[request->header_count];
        long result;
        line = read_field(request, line, end, header, &result);
        if (line == NULL) {
            return result;
        }
        request->header_count++;
        result = read_meaning(request, facts, header);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* ---- what it all means --------------------------------------------------- */

static long decide_host(at_h1_request *request, head_facts *facts)
{
    if (facts->host == NULL && request->version_minor == 1) {
        return refuse(request, 400, "no Host");
    }
    bool is_connect = request->path.size == 0;
    if (request->authority.size != 0 && !is_connect) {
        request->host = request->authority;
        if (facts->host != NULL) {
            facts->host->value = request->authority;
        }
    }
    return 0;
}

/* RFC 9112 6.1 and 6.3; the only coding is chunked, which HTTP/1.0 does not know. */
static long decide_framing(at_h1_request *request, const head_facts *facts)
{
    if (facts->transfer_encoding == NULL) {
        request->framing = request->content_length != 0 ? AT_H1_LENGTH : AT_H1_NO_BODY;
        return 0;
    }
    if (facts->has_length) {
        return refuse(request, 400, "Transfer-Encoding and Content-Length together");
    }
    if (request->version_minor == 0) {
        return refuse(request, 400, "Transfer-Encoding in HTTP/1.0");
    }
    at_span value = facts->transfer_encoding->value;
    if (at_h1_equal(value, "chunked")) {
        request->framing = AT_H1_CHUNKED;
        return 0;
    }
    at_span coding = {NULL, 0};
    while (at_h1_next_element(&value, &coding)) {
    }
    return at_h1_equal(coding, "chunked")
               ? refuse(request, 501, "unknown transfer coding")
               : refuse(request, 400, "Transfer-Encoding does not end in chunked");
}

static void decide_connection(at_h1_request *request, const head_facts *facts)
{
    bool is_11 = request->version_minor == 1;
    bool has_body = request->framing != AT_H1_NO_BODY;
    request->keep_alive = !facts->close && (is_11 || facts->keep_alive);
    request->expect_continue = facts->expect_continue && has_body;
    bool upgrade = is_11 && facts->connection_upgrade;
    request->upgrade_websocket = upgrade && facts->upgrade_websocket && !has_body &&
                                 request->method.size == 3 &&
                                 memcmp(request->method.data, "GET", 3) == 0;
    request->upgrade_h2c =
        upgrade && facts->upgrade_h2c && facts->h2_settings_count == 1 && !has_body;
}

static void request_reset(at_h1_request *request)
{
    memset(request, 0, offsetof(at_h1_request, headers)); /* they are 4 KiB */
    request->error_status = 0;
    request->error_text = NULL;
}

/* gives: 1 (data begins with the preface), 0 (it does not)
 * errs:  AT_EAGAIN (it may) */
static int match_preface(const char *data, size_t size)
{
    size_t compared = size < AT_H2_PREFACE_BYTES ? size : AT_H2_PREFACE_BYTES;
    if (memcmp(data, h2_preface, compared) != 0) {
        return 0;
    }
    return compared == AT_H2_PREFACE_BYTES ? 1 : AT_EAGAIN;
}

long at_h1_parse_head(at_h1_request *request, char *data, size_t size, size_t seen,
                      const at_h1_limits *limits)
{
    request_reset(request);
    if (size == 0) {
        return AT_EAGAIN;
    }
    size_t start = 0;
    if (data[0] == '\r') {
        if (size < 3) {
            return size == 2 && data[1] != '\n'
                       ? refuse(request, 400, "carriage return without line feed")
                       : AT_EAGAIN;
        }
        if (data[1] != '\n') {
            return refuse(request, 400, "carriage return without line feed");
        }
        start = 2;
    } else if (data[0] == 'P') {
        int preface = match_preface(data, size);
        if (preface != 0) {
            return preface == 1 ? 0 : preface;
        }
    }
    if (at_h1_lower(data[start]) == 0) {
        return refuse(request, 400, "invalid method"); /* TLS, most often */
    }
    long head = find_end(request, data, start, size, seen, limits);
    if (head < 0) {
        return head;
    }
    head_facts facts = {0};
    char *end = data + head;
    long result = 0;
    char *fields = read_request_line(request, data + start, end, &result);
    if (fields == NULL) {
        return result;
    }
    result = read_fields(request, &facts, fields, end, limits);
    result = result == 0 ? decide_host(request, &facts) : result;
    result = result == 0 ? decide_framing(request, &facts) : result;
    if (result != 0) {
        return result;
    }
    decide_connection(request, &facts);
    return head;
}

const at_h1_header *at_h1_find(const at_h1_request *request, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < request->header_count; i++) {
        if (is_named(&request->headers[i], name, size)) {
            return &request->headers[i];
        }
    }
    return NULL;
}
