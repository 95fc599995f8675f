/* Formats of access logs; see log_format.h. A format becomes a list of pieces, literal
 * text or an atom each. */
#include "http/log_format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum {
    FORMAT_BYTES_MAX = 4096,
    PIECES_MAX = 256,
    NAME_BYTES_MAX = 64,
    USER_BYTES_MAX = 256,
};

typedef enum kind {
    LITERAL, /* bytes [start, start + size) of the text */
    ATOM,    /* the letter in `atom` */
    FIELD,   /* fields[field] */
    USER,    /* who is named in that */
} kind;

typedef struct piece {
    kind kind;
    char atom;
    uint8_t field;
    size_t start, size;
} piece;

typedef struct field {
    char name[NAME_BYTES_MAX];
    size_t size;
    bool of_response;
} field;

struct at_log_format {
    bool is_json;
    size_t piece_count, field_count;
    piece pieces[PIECES_MAX];
    field fields[AT_LOG_FIELDS_MAX];
    char text[FORMAT_BYTES_MAX];
};

static const char ATOMS[] = "hlutrmUqHsBbfaTMDLp";

static const char COMMON[] = "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s";
static const char COMBINED[] =
    "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"";

/* The headers of JSON, in this order. */
static const char JSON[] = "%(f)s%(a)s%(u)s";

/* ---- reading a format ------------------------------------------------------------ */

static int complain(at_fault *fault, const char *what, const char *at, size_t size)
{
    return at_fault_set(fault, AT_EFORMAT, "access log format: %s: %.*s", what,
                        (int)(size < 80 ? size : 80), at);
}

static bool is_name_letter(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '-' || letter == '_';
}

/* The place of a header among the fields, one more if need be. Negative: an error. */
static int find_field(at_log_format *format, const char *name, size_t size,
                      bool of_response, at_fault *fault)
{
    field wanted = {.size = size, .of_response = of_response};
    for (size_t i = 0; i < size; i++) {
        char letter = name[i];
        if (!is_name_letter(letter)) {
            return complain(fault, "not the name of a header", name, size);
        }
        wanted.name[i] =
            letter >= 'A' && letter <= 'Z' ? (char)(letter + 'a' - 'A') : letter;
    }
    for (size_t i = 0; i < format->field_count; i++) {
        const field *known = &format->fields[i];
        if (known->size == size && known->of_response == of_response &&
            memcmp(known->name, wanted.name, size) == 0) {
            return (int)i;
        }
    }
    if (format->field_count == AT_LOG_FIELDS_MAX) {
        return at_fault_set(fault, AT_ELIMIT,
                            "access log format: more than %d different headers",
                            (int)AT_LOG_FIELDS_MAX);
    }
    format->fields[format->field_count] = wanted;
    return (int)format->field_count++;
}

/* "(h)s" or "({name}i)s" at `text`, behind its '%'. Gives its size, or an error. */
static int read_atom(at_log_format *format, const char *text, size_t size, piece *found,
                     at_fault *fault)
{
    const char *close = size != 0 && text[0] == '(' ? memchr(text, ')', size) : NULL;
    if (close == NULL || (size_t)(close - text) + 1 == size || close[1] != 's') {
        return complain(fault, "an atom looks like %(h)s, and % alone like %%",
                        text - 1, size + 1);
    }
    const char *inside = text + 1;
    size_t inside_size = (size_t)(close - inside);
    int used = (int)(close - text) + 2;
    const char *name = NULL;
    size_t name_size = 0;
    char letter = inside_size == 1 ? inside[0] : '\0';
    if (inside_size > 3 && inside[0] == '{' && inside[inside_size - 2] == '}') {
        name = inside + 1;
        name_size = inside_size - 3;
        letter = inside[inside_size - 1];
    } else if (letter == 'f') {
        name = "referer";
        name_size = 7;
    } else if (letter == 'a') {
        name = "user-agent";
        name_size = 10;
    } else if (letter == 'u') {
        name = "authorization";
        name_size = 13;
    }
    bool of_header = name != NULL && inside[0] == '{';
    if (of_header ? (letter != 'i' && letter != 'o') || name_size >= NAME_BYTES_MAX
                  : letter == '\0' || strchr(ATOMS, letter) == NULL) {
        return complain(fault, "unknown atom", text - 1, (size_t)used + 1);
    }
    *found = (piece){.kind = ATOM, .atom = letter};
    if (name != NULL) {
        int place = find_field(format, name, name_size, letter == 'o', fault);
        if (place < 0) {
            return place;
        }
        found->kind = letter == 'u' ? USER : FIELD;
        found->field = (uint8_t)place;
    }
    return used;
}

static int add(at_log_format *format, const piece *added, at_fault *fault)
{
    if (format->piece_count == PIECES_MAX) {
        return at_fault_set(fault, AT_ELIMIT, "access log format: more than %d pieces",
                            (int)PIECES_MAX);
    }
    format->pieces[format->piece_count++] = *added;
    return 0;
}

static int compile(at_log_format *format, size_t size, at_fault *fault)
{
    const char *text = format->text;
    size_t at = 0;
    while (at < size) {
        piece next = {.kind = LITERAL, .start = at};
        if (text[at] != '%') {
            while (at < size && text[at] != '%') {
                if ((unsigned char)text[at] < ' ' && text[at] != '\t') {
                    return at_fault_set(fault, AT_EFORMAT,
                                        "access log format: a control character");
                }
                at++;
            }
            next.size = at - next.start;
        } else if (at + 1 < size && text[at + 1] == '%') {
            next.size = 1;
            at += 2;
        } else {
            int used = read_atom(format, text + at + 1, size - at - 1, &next, fault);
            if (used < 0) {
                return used;
            }
            at += (size_t)used + 1;
        }
        int result = add(format, &next, fault);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

static bool is(at_span text, const char *name)
{
    return text.size == strlen(name) && memcmp(text.data, name, text.size) == 0;
}

int at_log_format_new(at_log_format **out, at_span text, at_fault *fault)
{
    bool is_json = is(text, "json");
    if (is(text, "common")) {
        text = (at_span){COMMON, sizeof COMMON - 1};
    } else if (is(text, "combined")) {
        text = (at_span){COMBINED, sizeof COMBINED - 1};
    } else if (is_json) {
        text = (at_span){JSON, sizeof JSON - 1};
    }
    if (text.size == 0 || text.size > FORMAT_BYTES_MAX) {
        return at_fault_set(fault, AT_ELIMIT,
                            "access log format: empty, or longer than %d bytes",
                            (int)FORMAT_BYTES_MAX);
    }
    at_log_format *format = at_calloc(1, sizeof *format);
    if (format == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for a format");
    }
    memcpy(format->text, text.data, text.size);
    int result = compile(format, text.size, fault);
    if (result < 0) {
        at_free(format);
        return result;
    }
    format->is_json = is_json;
    *out = format;
    return 0;
}

void at_log_format_free(at_log_format *format)
{
    at_free(format);
}

bool at_log_format_field(const at_log_format *format, size_t index, at_span *name,
                         bool *of_response)
{
    if (index >= format->field_count) {
        return false;
    }
    const field *known = &format->fields[index];
    *name = (at_span){known->name, known->size};
    *of_response = known->of_response;
    return true;
}

/* ---- writing a line -------------------------------------------------------------- */

static int put(at_bytes *out, const char *text)
{
    return at_bytes_append(out, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static int say(at_bytes *out, const char *format,
                                                     ...)
{
    char text[96];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return at_bytes_append(out, text, size > 0 ? (size_t)size : 0);
}

/* `text` with what could be mistaken as `\xNN`, or for JSON as `\u00NN`. */
static int escape(at_bytes *out, at_span text, bool for_json)
{
    static const char HEX[] = "0123456789abcdef";
    if (text.size == 0) {
        return 0;
    }
    if (at_bytes_reserve(out, text.size * (for_json ? 6 : 4)) < 0) {
        return AT_ENOMEM;
    }
    char *at = out->data + out->size;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        if (byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\') {
            *at++ = (char)byte;
            continue;
        }
        *at++ = '\\';
        if (byte == '"' || byte == '\\') {
            *at++ = (char)byte;
            continue;
        }
        *at++ = for_json ? 'u' : 'x';
        if (for_json) {
            *at++ = '0';
            *at++ = '0';
        }
        *at++ = HEX[byte >> 4];
        *at++ = HEX[byte & 15];
    }
    out->size = (size_t)(at - out->data);
    return 0;
}

static int put_client(at_bytes *out, at_span text)
{
    return text.size == 0 ? put(out, "-") : escape(out, text, false);
}

/* The value of a letter of base64; negative: it is none. */
static int sextet(char letter)
{
    static const char LETTERS[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = letter != '\0' ? strchr(LETTERS, letter) : NULL;
    return at != NULL ? (int)(at - LETTERS) : -1;
}

/* Who "Basic dXNlcjpwYXNz" names: what is before the colon, in `room` that has space
 * for it. Nobody, where there is no colon; the rest, a password, is not decoded. */
static at_span user_of(at_span credentials, char room[USER_BYTES_MAX])
{
    static const char SCHEME[] = "basic ";
    size_t at = 0;
    for (; at < sizeof SCHEME - 1; at++) {
        if (at == credentials.size ||
            (credentials.data[at] | (at < 5 ? 0x20 : 0)) != SCHEME[at]) {
            return (at_span){NULL, 0};
        }
    }
    while (at < credentials.size && credentials.data[at] == ' ') {
        at++;
    }
    unsigned bits = 0, held = 0;
    size_t size = 0;
    for (; at < credentials.size && size < USER_BYTES_MAX; at++) {
        int value = sextet(credentials.data[at]);
        if (value < 0) {
            break;
        }
        bits = bits << 6 | (unsigned)value;
        held += 6;
        if (held < 8) {
            continue;
        }
        held -= 8;
        char byte = (char)(bits >> held & 0xff);
        if (byte == ':') {
            return (at_span){room, size};
        }
        room[size++] = byte;
    }
    return (at_span){NULL, 0};
}

/* A blank would begin the next column. */
static int put_user(at_bytes *out, at_span credentials)
{
    char room[USER_BYTES_MAX];
    at_span rest = user_of(credentials, room);
    if (rest.size == 0) {
        return put(out, "-");
    }
    while (rest.size != 0) {
        const char *blank = memchr(rest.data, ' ', rest.size);
        size_t size = blank != NULL ? (size_t)(blank - rest.data) : rest.size;
        if (escape(out, (at_span){rest.data, size}, false) < 0 ||
            (blank != NULL && put(out, "\\x20") < 0)) {
            return AT_ENOMEM;
        }
        size += blank != NULL;
        rest = (at_span){rest.data + size, rest.size - size};
    }
    return 0;
}

static at_span path_of(at_span target)
{
    const char *mark = target.size != 0 ? memchr(target.data, '?', target.size) : NULL;
    return (at_span){target.data,
                     mark != NULL ? (size_t)(mark - target.data) : target.size};
}

static at_span query_of(at_span target)
{
    at_span path = path_of(target);
    return path.size == target.size
               ? (at_span){NULL, 0}
               : (at_span){path.data + path.size + 1, target.size - path.size - 1};
}

static int put_request_line(const at_log_record *record, at_bytes *out)
{
    if (record->method.size == 0) {
        return put(out, "-");
    }
    return escape(out, record->method, false) < 0 || put(out, " ") < 0 ||
                   escape(out, record->target, false) < 0 || put(out, " ") < 0 ||
                   escape(out, record->protocol, false) < 0
               ? AT_ENOMEM
               : 0;
}

static int put_atom(char atom, const at_log_record *record, at_bytes *out)
{
    int64_t took = record->duration_ns;
    switch (atom) {
    case 'h':
        return put_client(out, record->peer);
    case 't':
        return put(out, "[") < 0 || escape(out, record->clf_time, false) < 0
                   ? AT_ENOMEM
                   : put(out, "]");
    case 'r':
        return put_request_line(record, out);
    case 'm':
        return put_client(out, record->method);
    case 'U':
        return put_client(out, path_of(record->target));
    case 'q':
        return escape(out, query_of(record->target), false);
    case 'H':
        return put_client(out, record->protocol);
    case 's':
        return record->status == 0 ? put(out, "-") : say(out, "%d", record->status);
    case 'b':
        if (record->sent_bytes == 0) {
            return put(out, "-");
        }
        return say(out, "%" PRIu64, record->sent_bytes);
    case 'B':
        return say(out, "%" PRIu64, record->sent_bytes);
    case 'T':
        return say(out, "%" PRId64, took / 1000000000);
    case 'M':
        return say(out, "%" PRId64, took / 1000000);
    case 'D':
        return say(out, "%" PRId64, took / 1000);
    case 'L':
        return say(out, "%" PRId64 ".%06" PRId64, took / 1000000000,
                   took % 1000000000 / 1000);
    case 'p':
        return say(out, "<%d>", record->process);
    default: /* l */
        return put(out, "-");
    }
}

static int write_pieces(const at_log_format *format, const at_log_record *record,
                        at_bytes *out)
{
    int result = 0;
    for (size_t i = 0; i < format->piece_count && result == 0; i++) {
        const piece *one = &format->pieces[i];
        result = one->kind == LITERAL
                     ? at_bytes_append(out, format->text + one->start, one->size)
                 : one->kind == ATOM ? put_atom(one->atom, record, out)
                 : one->kind == USER ? put_user(out, record->fields[one->field])
                                     : put_client(out, record->fields[one->field]);
    }
    return result;
}

static int put_string(at_bytes *out, const char *key, at_span value)
{
    return say(out, ",\"%s\":\"", key) < 0 || escape(out, value, true) < 0 ||
                   put(out, "\"") < 0
               ? AT_ENOMEM
               : 0;
}

static int write_json(const at_log_record *record, at_bytes *out)
{
    char room[USER_BYTES_MAX];
    bool failed =
        put(out, "{\"time\":\"") < 0 || escape(out, record->iso_time, true) < 0 ||
        put(out, "\"") < 0 || put_string(out, "client", record->peer) < 0 ||
        put_string(out, "method", record->method) < 0 ||
        put_string(out, "path", path_of(record->target)) < 0 ||
        put_string(out, "query", query_of(record->target)) < 0 ||
        put_string(out, "protocol", record->protocol) < 0 ||
        say(out,
            ",\"status\":%d,\"bytes\":%" PRIu64 ",\"seconds\":%" PRId64 ".%06" PRId64,
            record->status, record->sent_bytes, record->duration_ns / 1000000000,
            record->duration_ns % 1000000000 / 1000) < 0 ||
        put_string(out, "referer", record->fields[0]) < 0 ||
        put_string(out, "user_agent", record->fields[1]) < 0 ||
        put_string(out, "user", user_of(record->fields[2], room)) < 0 ||
        say(out, ",\"process\":%d}", record->process) < 0;
    return failed ? AT_ENOMEM : 0;
}

int at_log_format_write(const at_log_format *format, const at_log_record *record,
                        at_bytes *out)
{
    size_t before = out->size;
    int result =
        format->is_json ? write_json(record, out) : write_pieces(format, record, out);
    if (result == 0) {
        result = put(out, "\n");
    }
    if (result < 0) {
        out->size = before;
    }
    return result;
}
