/* Conditions, ranges and encodings of RFC 9110; see static.h. */
#include <string.h>

#include "net/static.h"

static bool is_space(char letter)
{
    return letter == ' ' || letter == '\t';
}

static at_span trim(at_span text)
{
    while (text.size != 0 && is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size != 0 && is_space(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

static bool same(at_span a, at_span b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Take the next element of a list in commas off *rest; false at its end. Quoted strings
 * of entity tags may hold commas. */
static bool element(at_span *rest, at_span *item)
{
    if (rest->size == 0) {
        return false;
    }
    size_t size = 0;
    bool quoted = false;
    while (size < rest->size && (quoted || rest->data[size] != ',')) {
        quoted ^= rest->data[size] == '"';
        size++;
    }
    *item = trim((at_span){rest->data, size});
    size_t past = size < rest->size ? size + 1 : size;
    rest->data += past;
    rest->size -= past;
    return true;
}

/* ---- conditions ------------------------------------------------------------------ */

/* Is the entity tag among those of any field of that name? Weakly, W/ does not count
 * against it. */
static bool has_tag(const at_h1_request *request, const char *name, at_span etag,
                    bool weakly)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!at_h1_equal(request->headers[i].name, name)) {
            continue;
        }
        at_span rest = request->headers[i].value;
        at_span item;
        while (element(&rest, &item)) {
            if (item.size == 1 && item.data[0] == '*') {
                return true;
            }
            if (weakly && item.size > 2 && memcmp(item.data, "W/", 2) == 0) {
                item.data += 2;
                item.size -= 2;
            }
            if (same(item, etag)) {
                return true;
            }
        }
    }
    return false;
}

static bool read_number(at_span text, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned)(unsigned char)text.data[i] - '0';
        if (digit > 9 || *number > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        *number = *number * 10 + digit;
    }
    return text.size != 0;
}

/* An IMF-fixdate as seconds since 1970; -1 for anything else, which is then ignored. */
static int64_t read_date(at_span text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (text.size != AT_HTTP_DATE_BYTES || memcmp(text.data + 25, " GMT", 4) != 0) {
        return -1;
    }
    uint64_t day, year, hour, minute, second;
    if (!read_number((at_span){text.data + 5, 2}, &day) ||
        !read_number((at_span){text.data + 12, 4}, &year) ||
        !read_number((at_span){text.data + 17, 2}, &hour) ||
        !read_number((at_span){text.data + 20, 2}, &minute) ||
        !read_number((at_span){text.data + 23, 2}, &second) || year < 1970) {
        return -1;
    }
    int month = 0;
    while (month < 12 && memcmp(months + (size_t)month * 3, text.data + 8, 3) != 0) {
        month++;
    }
    if (month == 12) {
        return -1;
    }
    /* Years that begin in March, as in at_http_date. */
    int64_t y = (int64_t)year - (month < 2);
    int64_t shifted = (month + 10) % 12;
    int64_t days = y * 365 + y / 4 - y / 100 + y / 400 + (shifted * 153 + 2) / 5 +
                   (int64_t)day - 1 - 719468;
    return days * 86400 + (int64_t)(hour * 3600 + minute * 60 + second);
}

static int64_t date_of(const at_h1_request *request, const char *name)
{
    const at_h1_header *header = at_h1_find(request, name);
    return header != NULL ? read_date(header->value) : -1;
}

/* 0 where the conditions let the request be answered (RFC 9110 13.2.2). */
static int conditions(const at_h1_request *request, const at_static_facts *facts)
{
    if (at_h1_find(request, "if-match") != NULL) {
        if (!has_tag(request, "if-match", facts->etag, false)) {
            return 412;
        }
    } else {
        int64_t date = date_of(request, "if-unmodified-since");
        if (date >= 0 && facts->modified_s > date) {
            return 412;
        }
    }
    if (at_h1_find(request, "if-none-match") != NULL) {
        return has_tag(request, "if-none-match", facts->etag, true) ? 304 : 0;
    }
    int64_t date = date_of(request, "if-modified-since");
    return date >= 0 && facts->modified_s <= date ? 304 : 0;
}

/* ---- ranges ---------------------------------------------------------------------- */

static bool range_is_current(const at_h1_request *request, const at_static_facts *facts)
{
    const at_h1_header *header = at_h1_find(request, "if-range");
    if (header == NULL || same(header->value, facts->etag)) {
        return true;
    }
    int64_t date = read_date(header->value);
    return date >= 0 && date == facts->modified_s;
}

/* One range of bytes. gives: 206, 416, or 200 where it is to be ignored: malformed, of
 * another unit, or several, which a server need not serve */
static int read_range(at_span value, uint64_t size, at_static_verdict *verdict)
{
    if (value.size < 7 || !at_h1_equal((at_span){value.data, 6}, "bytes=")) {
        return 200;
    }
    at_span range = trim((at_span){value.data + 6, value.size - 6});
    const char *dash = memchr(range.data, '-', range.size);
    if (dash == NULL || memchr(range.data, ',', range.size) != NULL) {
        return 200;
    }
    at_span from = {range.data, (size_t)(dash - range.data)};
    at_span to = {dash + 1, range.size - from.size - 1};
    uint64_t first = 0, last = 0;
    if (from.size == 0) {
        if (!read_number(to, &last)) {
            return 200;
        }
        if (last == 0 || size == 0) {
            return 416;
        }
        verdict->count = last < size ? last : size;
        verdict->first = size - verdict->count;
        return 206;
    }
    if (!read_number(from, &first) || (to.size != 0 && !read_number(to, &last)) ||
        (to.size != 0 && last < first)) {
        return 200;
    }
    if (first >= size) {
        return 416;
    }
    if (to.size == 0 || last >= size) {
        last = size - 1;
    }
    verdict->first = first;
    verdict->count = last - first + 1;
    return 206;
}

at_static_verdict at_static_judge(const at_h1_request *request,
                                  const at_static_facts *facts)
{
    at_static_verdict verdict = {.count = facts->size_bytes};
    verdict.status = conditions(request, facts);
    if (verdict.status != 0) {
        return verdict;
    }
    verdict.status = 200;
    const at_h1_header *range = at_h1_find(request, "range");
    bool is_get =
        request->method.size == 3 && memcmp(request->method.data, "GET", 3) == 0;
    if (range != NULL && is_get && range_is_current(request, facts)) {
        verdict.status = read_range(range->value, facts->size_bytes, &verdict);
    }
    return verdict;
}

/* ---- encodings and types --------------------------------------------------------- */

/* Is a quality of "q=0", "q=0.0" and so on? */
static bool is_refused(at_span parameters)
{
    const char *at = memchr(parameters.data, '=', parameters.size);
    if (at == NULL) {
        return false;
    }
    const char *end = parameters.data + parameters.size;
    for (at++; at < end; at++) {
        if (*at >= '1' && *at <= '9') {
            return false;
        }
    }
    return true;
}

bool at_static_accepts(const at_h1_request *request, const char *coding)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!at_h1_equal(request->headers[i].name, "accept-encoding")) {
            continue;
        }
        at_span rest = request->headers[i].value;
        at_span item;
        while (element(&rest, &item)) {
            const char *mark = memchr(item.data, ';', item.size);
            size_t size = mark != NULL ? (size_t)(mark - item.data) : item.size;
            if (at_h1_equal(trim((at_span){item.data, size}), coding)) {
                return mark == NULL ||
                       !is_refused((at_span){mark + 1, item.size - size - 1});
            }
        }
    }
    return false;
}

/* X(end of the name, type, worth a precompressed form) */
#define TYPES(X)                                                                       \
    X("html", "text/html; charset=utf-8", true)                                        \
    X("htm", "text/html; charset=utf-8", true)                                         \
    X("css", "text/css; charset=utf-8", true)                                          \
    X("js", "text/javascript; charset=utf-8", true)                                    \
    X("mjs", "text/javascript; charset=utf-8", true)                                   \
    X("json", "application/json", true)                                                \
    X("map", "application/json", true)                                                 \
    X("webmanifest", "application/manifest+json", true)                                \
    X("txt", "text/plain; charset=utf-8", true)                                        \
    X("md", "text/markdown; charset=utf-8", true)                                      \
    X("csv", "text/csv; charset=utf-8", true)                                          \
    X("xml", "application/xml", true)                                                  \
    X("svg", "image/svg+xml", true)                                                    \
    X("wasm", "application/wasm", true)                                                \
    X("ico", "image/x-icon", true)                                                     \
    X("ttf", "font/ttf", true)                                                         \
    X("otf", "font/otf", true)                                                         \
    X("woff", "font/woff", false)                                                      \
    X("woff2", "font/woff2", false)                                                    \
    X("png", "image/png", false)                                                       \
    X("jpg", "image/jpeg", false)                                                      \
    X("jpeg", "image/jpeg", false)                                                     \
    X("gif", "image/gif", false)                                                       \
    X("webp", "image/webp", false)                                                     \
    X("avif", "image/avif", false)                                                     \
    X("mp4", "video/mp4", false)                                                       \
    X("webm", "video/webm", false)                                                     \
    X("mp3", "audio/mpeg", false)                                                      \
    X("ogg", "audio/ogg", false)                                                       \
    X("wav", "audio/wav", false)                                                       \
    X("pdf", "application/pdf", false)                                                 \
    X("zip", "application/zip", false)                                                 \
    X("gz", "application/gzip", false)

const char *at_static_type(const char *path, bool *compressible)
{
    static const struct {
        const char *end, *type;
        bool compressible;
    } types[] = {
#define TYPE_ROW(end, type, worth) {end, type, worth},
        TYPES(TYPE_ROW)
#undef TYPE_ROW
    };
    *compressible = false;
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash != NULL ? slash : path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof *types; i++) {
        if (at_h1_equal((at_span){dot + 1, strlen(dot + 1)}, types[i].end)) {
            *compressible = types[i].compressible;
            return types[i].type;
        }
    }
    return "application/octet-stream";
}
