/* Bodies in chunks (RFC 9112 7.1); see h1.h.
 *
 * A machine that takes one byte of framing at a time and body bytes in one go, so where
 * the input is cut cannot matter. It takes exactly the grammar of the RFC without its
 * "bad" white space: no leading zeros without bound, no space behind the size, no line
 * feed alone; extensions are names with an optional token or quoted string.
 */
#include "http/h1.h"

#include <string.h>

#include "base/error.h"
#include "http/h1_text.h"

enum {
    SIZE_DIGITS_MAX = 16,
    EXTENSION_BYTES_MAX = 16384, /* of all size lines of a body together */
    TRAILER_BYTES_MAX = 8192,
};

/* Where the machine stands: what the next byte belongs to. */
enum {
    AT_SIZE,
    AT_SIZE_LF,
    AT_EXTENSION_NAME_START,
    AT_EXTENSION_NAME,
    AT_EXTENSION_VALUE_START,
    AT_EXTENSION_VALUE,
    AT_EXTENSION_QUOTED,
    AT_EXTENSION_QUOTED_PAIR,
    AT_EXTENSION_QUOTED_END,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_LINE_START, /* of a trailer, or of the empty line at the end */
    AT_TRAILER_NAME,
    AT_TRAILER_VALUE,
    AT_TRAILER_LF,
    AT_LAST_LF,
    AT_END,
    AT_FAILED,
};

void at_h1_chunked_init(at_h1_chunked *chunked)
{
    *chunked = (at_h1_chunked){.state = AT_SIZE};
}

static int refuse(at_h1_chunked *chunked, int code, int status, const char *text)
{
    chunked->state = AT_FAILED;
    chunked->error_status = status;
    chunked->error_text = text;
    return code;
}

static int malformed(at_h1_chunked *chunked, const char *text)
{
    return refuse(chunked, AT_EFORMAT, 400, text);
}

/* Count a byte that is neither size nor data. Returns 0 or an error. */
static int count_overhead(at_h1_chunked *chunked, uint32_t most, int status,
                          const char *text)
{
    return ++chunked->overhead > most ? refuse(chunked, AT_ELIMIT, status, text) : 0;
}

static int take_size(at_h1_chunked *chunked, char byte)
{
    int digit = at_h1_hex_digit(byte);
    if (digit >= 0) {
        if (chunked->digit_count == SIZE_DIGITS_MAX ||
            chunked->chunk_left > (uint64_t)INT64_MAX >> 4) {
            return malformed(chunked, "chunk size too large");
        }
        chunked->digit_count++;
        chunked->chunk_left = chunked->chunk_left << 4 | (unsigned)digit;
        return 0;
    }
    if (chunked->digit_count == 0 || (byte != '\r' && byte != ';')) {
        return malformed(chunked, "invalid chunk size");
    }
    chunked->state = byte == '\r' ? AT_SIZE_LF : AT_EXTENSION_NAME_START;
    return 0;
}

static int take_size_line_end(at_h1_chunked *chunked, char byte)
{
    if (byte != '\n') {
        return malformed(chunked, "carriage return without line feed");
    }
    chunked->digit_count = 0;
    if (chunked->chunk_left != 0) {
        chunked->state = AT_DATA;
    } else {
        chunked->state = AT_LINE_START;
        chunked->overhead = 0; /* from here on it counts trailers */
    }
    return 0;
}

/* The byte that ends an extension, or its name where `equals` may follow. */
static int take_extension_end(at_h1_chunked *chunked, char byte, bool equals)
{
    if (byte == '\r') {
        chunked->state = AT_SIZE_LF;
    } else if (byte == ';') {
        chunked->state = AT_EXTENSION_NAME_START;
    } else if (byte == '=' && equals) {
        chunked->state = AT_EXTENSION_VALUE_START;
    } else {
        return malformed(chunked, "invalid chunk extension");
    }
    return 0;
}

static bool is_quotable(char byte)
{
    return at_h1_is_space(byte) || (uint8_t)byte >= 0x80 ||
           (byte > 0x20 && byte < 0x7f);
}

static int take_extension(at_h1_chunked *chunked, char byte)
{
    bool token = at_h1_lower(byte) != 0;
    switch (chunked->state) {
    case AT_EXTENSION_NAME_START:
        chunked->state = AT_EXTENSION_NAME;
        return token ? 0 : malformed(chunked, "invalid chunk extension");
    case AT_EXTENSION_NAME:
        return token ? 0 : take_extension_end(chunked, byte, true);
    case AT_EXTENSION_VALUE_START:
        chunked->state = byte == '"' ? AT_EXTENSION_QUOTED : AT_EXTENSION_VALUE;
        return token || byte == '"' ? 0 : malformed(chunked, "invalid chunk extension");
    case AT_EXTENSION_VALUE:
        return token ? 0 : take_extension_end(chunked, byte, false);
    case AT_EXTENSION_QUOTED:
        if (byte == '"') {
            chunked->state = AT_EXTENSION_QUOTED_END;
        } else if (byte == '\\') {
            chunked->state = AT_EXTENSION_QUOTED_PAIR;
        } else if (!is_quotable(byte)) {
            return malformed(chunked, "invalid chunk extension");
        }
        return 0;
    case AT_EXTENSION_QUOTED_PAIR:
        chunked->state = AT_EXTENSION_QUOTED;
        return is_quotable(byte) ? 0 : malformed(chunked, "invalid chunk extension");
    default:
        return take_extension_end(chunked, byte, false);
    }
}

static int take_data_end(at_h1_chunked *chunked, char byte)
{
    bool first = chunked->state == AT_DATA_CR;
    if (byte != (first ? '\r' : '\n')) {
        return malformed(chunked, "chunk longer than its size");
    }
    chunked->state = first ? AT_DATA_LF : AT_SIZE;
    return 0;
}

/* A field that frames or routes a message may not come behind it (RFC 9110 6.5.1). */
static bool is_forbidden_trailer(const at_h1_chunked *chunked)
{
    at_span name = {chunked->name, chunked->name_size};
    return at_h1_equal(name, "content-length") ||
           at_h1_equal(name, "transfer-encoding") || at_h1_equal(name, "host");
}

static int take_trailer_name(at_h1_chunked *chunked, char byte)
{
    char lower = at_h1_lower(byte);
    if (lower != 0) {
        /* a longer name overflows to a size that equals no forbidden one's */
        if (chunked->name_size < sizeof chunked->name) {
            chunked->name[chunked->name_size] = lower;
        }
        chunked->name_size = chunked->name_size <= sizeof chunked->name
                                 ? (uint8_t)(chunked->name_size + 1)
                                 : chunked->name_size;
        return 0;
    }
    if (byte != ':' || chunked->name_size == 0) {
        return malformed(chunked, "invalid trailer");
    }
    if (chunked->name_size <= sizeof chunked->name && is_forbidden_trailer(chunked)) {
        return malformed(chunked, "forbidden trailer");
    }
    chunked->state = AT_TRAILER_VALUE;
    return 0;
}

static int take_trailer(at_h1_chunked *chunked, char byte)
{
    switch (chunked->state) {
    case AT_LINE_START:
        if (byte == '\r') {
            chunked->state = AT_LAST_LF;
            return 0;
        }
        chunked->name_size = 0;
        chunked->state = AT_TRAILER_NAME;
        return take_trailer_name(chunked, byte);
    case AT_TRAILER_NAME:
        return take_trailer_name(chunked, byte);
    case AT_TRAILER_VALUE:
        if (byte == '\r') {
            chunked->state = AT_TRAILER_LF;
            return 0;
        }
        return is_quotable(byte) ? 0 : malformed(chunked, "invalid trailer");
    default: /* AT_TRAILER_LF, AT_LAST_LF */
        if (byte != '\n') {
            return malformed(chunked, "carriage return without line feed");
        }
        chunked->state = chunked->state == AT_LAST_LF ? AT_END : AT_LINE_START;
        return 0;
    }
}

/* Take one byte that is not data. Returns 0 or an error. */
static int take_framing(at_h1_chunked *chunked, char byte)
{
    if (chunked->state == AT_SIZE) {
        return take_size(chunked, byte);
    }
    if (chunked->state == AT_SIZE_LF) {
        return take_size_line_end(chunked, byte);
    }
    if (chunked->state < AT_DATA) {
        int result = count_overhead(chunked, EXTENSION_BYTES_MAX, 400,
                                    "too many chunk extensions");
        return result != 0 ? result : take_extension(chunked, byte);
    }
    if (chunked->state < AT_LINE_START) {
        return take_data_end(chunked, byte);
    }
    int result = count_overhead(chunked, TRAILER_BYTES_MAX, 431, "trailers too large");
    return result != 0 ? result : take_trailer(chunked, byte);
}

int at_h1_chunked_next(at_h1_chunked *chunked, const char *data, size_t size,
                       size_t *used, at_span *piece)
{
    size_t at = 0;
    int result = AT_EAGAIN;
    *piece = (at_span){NULL, 0};
    while (at < size && result == AT_EAGAIN && chunked->state < AT_END) {
        if (chunked->state == AT_DATA) {
            size_t here = size - at;
            here = here < chunked->chunk_left ? here : (size_t)chunked->chunk_left;
            *piece = (at_span){data + at, here};
            at += here;
            chunked->chunk_left -= here;
            chunked->state = chunked->chunk_left != 0 ? AT_DATA : AT_DATA_CR;
            result = 1;
        } else {
            int error = take_framing(chunked, data[at++]);
            result = error != 0 ? error : result;
        }
    }
    *used = at;
    if (chunked->state == AT_END) {
        return 0;
    }
    return chunked->state == AT_FAILED && result == AT_EAGAIN ? AT_EFORMAT : result;
}
