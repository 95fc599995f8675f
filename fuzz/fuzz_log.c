/* The access log: up to the first NUL a format, behind it what a client sends. Whatever
 * both are, a line is one line of printable ASCII, and JSON stays JSON. */
#include "fuzz.h"

#include "base/error.h"
#include "http/log_format.h"

static void fill(at_log_record *record, const char *data, size_t size)
{
    at_span all = {data, size};
    *record = (at_log_record){
        .peer = all,
        .method = all,
        .target = all,
        .protocol = all,
        .clf_time = {"10/Oct/2000:13:55:36 -0700", 26},
        .iso_time = {"2000-10-10T13:55:36.123-07:00", 29},
        .status = 200,
        .sent_bytes = size,
        .duration_ns = 1,
    };
    for (int i = 0; i < AT_LOG_FIELDS_MAX; i++) {
        record->fields[i] = all;
    }
}

/* `literal`: bytes of the format itself may be anything but control characters. */
static void check_line(const at_bytes *line, int literal)
{
    HOLDS(line->size != 0 && line->data[line->size - 1] == '\n');
    for (size_t i = 0; i + 1 < line->size; i++) {
        unsigned char byte = (unsigned char)line->data[i];
        HOLDS((byte >= ' ' || (literal && byte == '\t')) && byte != 0x7f);
        HOLDS(byte < 0x80 || literal);
    }
}

/* Strings end where they should: outside of them come only these. */
static void check_json(const at_bytes *line)
{
    int inside = 0, strings = 0;
    for (size_t i = 0; i + 1 < line->size; i++) {
        char byte = line->data[i];
        if (inside && byte == '\\') {
            i++;
            HOLDS(strchr("\"\\u", line->data[i]) != NULL);
        } else if (byte == '"') {
            inside = !inside;
            strings += inside;
        } else if (!inside) {
            HOLDS(strchr("{}:,.0123456789", byte) != NULL);
        }
    }
    HOLDS(!inside && strings == 22);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size != 0 ? memchr(data, 0, size) : NULL;
    size_t format_size = nul != NULL ? (size_t)(nul - data) : size;
    size_t rest = nul != NULL ? size - format_size - 1 : 0;
    char *text = exact_copy(data, format_size);
    char *sent = exact_copy(data + size - rest, rest);
    at_log_record record;
    fill(&record, sent, rest);
    at_log_format *format;
    at_bytes line;
    at_bytes_init(&line);
    at_fault fault;
    int result = at_log_format_new(&format, (at_span){text, format_size}, &fault);
    HOLDS(result == 0 || result == AT_EFORMAT || result == AT_ELIMIT);
    if (result == 0) {
        HOLDS(at_log_format_write(format, &record, &line) == 0);
        int has_delete = memchr(text, 0x7f, format_size) != NULL;
        if (!has_delete) {
            check_line(&line, 1);
        }
        at_log_format_free(format);
    }
    line.size = 0;
    HOLDS(at_log_format_new(&format, (at_span){"json", 4}, &fault) == 0);
    HOLDS(at_log_format_write(format, &record, &line) == 0);
    check_line(&line, 0);
    check_json(&line);
    at_log_format_free(format);
    at_bytes_fini(&line);
    free(text);
    free(sent);
    return 0;
}
