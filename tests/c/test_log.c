/* Formats of access logs, and the log's thread. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "http/log_format.h"
#include "net/access_log.h"
#include "sys/clock.h"

#define SPAN(text) ((at_span){text, sizeof(text) - 1})

static at_log_format *format_of(const char *text)
{
    at_log_format *format = NULL;
    CHECK(at_log_format_new(&format, (at_span){text, strlen(text)}, NULL) == 0);
    return format;
}

static const at_log_record RECORD = {
    .peer = {"10.0.0.1", 8},
    .method = {"GET", 3},
    .target = {"/a/b?c=d?e", 10},
    .protocol = {"HTTP/1.1", 8},
    .clf_time = {"10/Oct/2000:13:55:36 -0700", 26},
    .iso_time = {"2000-10-10T13:55:36.123-07:00", 29},
    .status = 200,
    .process = 42,
    .sent_bytes = 1234,
    .duration_ns = 2345678901,
    .fields = {{"ref", 3}, {"agent", 5}, {"basic Ym9iOg==", 14}},
};

static void expect(const char *format_text, const at_log_record *record,
                   const char *line)
{
    at_log_format *format = format_of(format_text);
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_log_format_write(format, record, &out) == 0);
    CHECK(out.size == strlen(line) && memcmp(out.data, line, out.size) == 0);
    at_bytes_fini(&out);
    at_log_format_free(format);
}

static void atoms(void)
{
    expect("common", &RECORD,
           "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a/b?c=d?e HTTP/1.1\" 200 "
           "1234\n");
    at_log_record known = RECORD;
    known.fields[0] = SPAN("Basic cmVlZjpzZWNyZXQ=");
    known.fields[1] = RECORD.fields[0];
    known.fields[2] = RECORD.fields[1];
    expect(
        "combined", &known,
        "10.0.0.1 - reef [10/Oct/2000:13:55:36 -0700] \"GET /a/b?c=d?e HTTP/1.1\" 200 "
        "1234 \"ref\" \"agent\"\n");
    expect("json", &RECORD,
           "{\"time\":\"2000-10-10T13:55:36.123-07:00\",\"client\":\"10.0.0.1\","
           "\"method\":\"GET\",\"path\":\"/a/b\",\"query\":\"c=d?e\","
           "\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":1234,"
           "\"seconds\":2.345678,\"referer\":\"ref\",\"user_agent\":\"agent\","
           "\"user\":\"bob\",\"process\":42}\n");
    expect("%(m)s %(U)s %(q)s %(H)s %(s)s %(B)s %(b)s|%(T)s %(M)s %(D)s %(L)s|%(p)s%%",
           &RECORD,
           "GET /a/b c=d?e HTTP/1.1 200 1234 1234|2 2345 2345678 2.345678|<42>%\n");
    static const at_log_record nothing = {0};
    expect("%(h)s %(r)s %(s)s %(b)s %(B)s %(U)s %(q)s. %({x}i)s", &nothing,
           "- - - - 0 - . -\n");
}

static void users(void)
{
    static const struct {
        const char *credentials, *line;
    } cases[] = {
        {"Basic cmVlZjpzZWNyZXQ=", "reef\n"},
        {"bASIC   cmVlZjpzZWNyZXQ=", "reef\n"},
        {"Basic YSBiIjp4", "a\\x20b\\\"\n"}, /* a b":x */
        {"Basic IDp4", "\\x20\n"},
        {"Basic Cjp4", "\\x0a\n"},
        {"Basic OnBhc3M=", "-\n"}, /* nobody, with a password */
        {"Basic cmVlZg==", "-\n"}, /* no colon */
        {"Basic !!!!", "-\n"},     /* no base64 */
        {"Basic", "-\n"},
        {"Basi", "-\n"},
        {"Basic ", "-\n"},
        {"Bearer cmVlZjpzZWNyZXQ=", "-\n"},
        {"", "-\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_log_record record = RECORD;
        const char *credentials = cases[i].credentials;
        record.fields[0] = (at_span){credentials, strlen(credentials)};
        expect("%(u)s", &record, cases[i].line);
    }
    /* A name that is too long is nobody's. */
    char text[6 + 4000 + 1] = "Basic ";
    memset(text + 6, 'Y', 4000);
    at_log_record record = RECORD;
    record.fields[0] = (at_span){text, strlen(text)};
    expect("%(u)s", &record, "-\n");
}

static void escapes(void)
{
    at_log_record record = RECORD;
    record.fields[0] = SPAN("a\"b\\c\n\t\x7f\xc3\xa9");
    expect("%(f)s", &record, "a\\\"b\\\\c\\x0a\\x09\\x7f\\xc3\\xa9\n");
    record.target = SPAN("/\x01");
    record.peer = record.method = record.protocol = SPAN("");
    record.fields[1] = SPAN("\xff\"");
    at_log_format *format = format_of("json");
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_log_format_write(format, &record, &out) == 0);
    CHECK(at_bytes_append(&out, "", 1) == 0);
    CHECK(strstr(out.data, "\"path\":\"/\\u0001\"") != NULL);
    CHECK(strstr(out.data, "\"user_agent\":\"\\u00ff\\\"\"") != NULL);
    at_bytes_fini(&out);
    at_log_format_free(format);
}

static void fields(void)
{
    at_log_format *format = format_of("%({X-Id}i)s %(a)s %({x-id}i)s %({x-id}o)s");
    at_span name;
    bool of_response;
    CHECK(at_log_format_field(format, 0, &name, &of_response));
    CHECK(name.size == 4 && memcmp(name.data, "x-id", 4) == 0 && !of_response);
    CHECK(at_log_format_field(format, 1, &name, &of_response));
    CHECK(name.size == 10 && !of_response);
    CHECK(at_log_format_field(format, 2, &name, &of_response));
    CHECK(name.size == 4 && of_response);
    CHECK(!at_log_format_field(format, 3, &name, &of_response));
    at_log_format_free(format);
}

static void refused(void)
{
    static const char *const wrong[] = {
        "",           "%",          "%(",         "%(h",       "%(h)",
        "%(hh)s",     "%()s",       "%(x)s",      "%({}i)s",   "%({a}x)s",
        "%({a b}i)s", "%({a\n}i)s", "line\nline", "%({a}is)s", "%h",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        at_log_format *format;
        at_fault fault = {0};
        int result =
            at_log_format_new(&format, (at_span){wrong[i], strlen(wrong[i])}, &fault);
        CHECK(result == AT_EFORMAT || result == AT_ELIMIT);
        CHECK(strstr(fault.text, "access log format") != NULL);
    }
    char many[17 * 16 + 1] = "";
    for (int i = 0; i < 17; i++) {
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), "%%({h%d}i)s",
                       i);
    }
    at_log_format *format;
    CHECK(at_log_format_new(&format, (at_span){many, strlen(many)}, NULL) == AT_ELIMIT);
}

static int without_memory(void)
{
    at_log_format *format = NULL;
    at_bytes out;
    at_bytes_init(&out);
    int result = at_log_format_new(&format, SPAN("combined"), NULL);
    if (result == 0) {
        result = at_log_format_write(format, &RECORD, &out);
        CHECK(result == 0 || out.size == 0);
    }
    at_bytes_fini(&out);
    at_log_format_free(format);
    return result;
}

/* ---- the log --------------------------------------------------------------------- */

static char path[64];

static void set_path(void)
{
    (void)snprintf(path, sizeof path, "/tmp/atoll-test-log-%d", (int)getpid());
    (void)unlink(path);
}

static size_t count_lines(void)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    char buffer[4096];
    size_t lines = 0;
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            lines += buffer[i] == '\n';
        }
    }
    (void)close(file);
    return lines;
}

static at_access_entry *bare(void)
{
    at_address peer = {.host = "127.0.0.1", .port = 1};
    return at_access_entry_new_bare(&peer, at_clock_ns());
}

/* Everything that was taken is written before the end, though its ring was closed. */
static void all_is_written(void)
{
    set_path();
    at_access_log *log;
    CHECK(at_access_log_new(&log, path, SPAN("%(h)s"), NULL) == 0);
    at_access_ring *first = at_access_ring_open(log);
    at_access_ring *second = at_access_ring_open(log);
    CHECK(first != NULL && second != NULL);
    size_t went = 0;
    for (int i = 0; i < 20000; i++) {
        went += at_access_put(i % 2 ? first : second, bare(), 200, 0, at_clock_ns());
    }
    at_access_ring_close(first);
    at_access_ring_close(second);
    at_access_log_free(log);
    CHECK(went >= 8192 && count_lines() == went);
    (void)unlink(path);
}

/* Nobody reads the pipe: the ring fills, what is too much is refused; the end comes. */
static void full(void)
{
    set_path();
    CHECK(mkfifo(path, 0600) == 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(reader >= 0);
    at_access_log *log;
    CHECK(at_access_log_new(&log, path, SPAN("%(h)s"), NULL) == 0);
    at_access_ring *ring = at_access_ring_open(log);
    int refused_count = 0;
    for (int i = 0; i < 200000 && refused_count < 10; i++) {
        refused_count += !at_access_put(ring, bare(), 200, 0, at_clock_ns());
    }
    CHECK(refused_count == 10);
    at_access_ring_close(ring);
    (void)close(reader); /* writes fail from now on */
    at_access_log_free(log);
    (void)unlink(path);
}

static int log_without_memory(void)
{
    set_path();
    at_access_log *log = NULL;
    int result = at_access_log_new(&log, path, SPAN("json"), NULL);
    if (result == 0) {
        at_access_ring *ring = at_access_ring_open(log);
        result = ring != NULL ? 0 : AT_ENOMEM;
        at_access_ring_close(ring);
    }
    at_access_log_free(log);
    (void)unlink(path);
    return result;
}

int main(void)
{
    RUN(atoms);
    RUN(users);
    RUN(escapes);
    RUN(fields);
    RUN(refused);
    RUN_FAILING(without_memory);
    RUN(all_is_written);
    RUN(full);
    RUN_FAILING(log_without_memory);
    return 0;
}
