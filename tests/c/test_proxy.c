/* The PROXY protocol, whole and byte by byte; forwarding headers, and who is believed.
 */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "http/forwarded.h"
#include "http/proxy.h"

static at_proxy_header header;

static long parse_exact(const char *data, size_t size)
{
    char *copy = malloc(size != 0 ? size : 1);
    CHECK(copy != NULL);
    memcpy(copy, data, size);
    long result = at_proxy_parse(&header, copy, size);
    free(copy);
    header.extensions.data = data + (size - header.extensions.size); /* it moved */
    return result;
}

static long parse(const char *data, size_t size)
{
    long by_byte = AT_EAGAIN;
    for (size_t given = 0; given <= size && by_byte == AT_EAGAIN; given++) {
        by_byte = parse_exact(data, given);
    }
    long whole = parse_exact(data, size);
    CHECK(whole == by_byte);
    CHECK(whole >= 0 || whole == AT_EAGAIN || header.error_text != NULL);
    return whole;
}

static long parse_line(const char *text)
{
    return parse(text, strlen(text));
}

static void lines(void)
{
    CHECK(parse_line("PROXY TCP4 192.0.2.1 198.51.100.2 65535 443\r\nGET /") == 45);
    CHECK(header.version == 1 && header.has_addresses);
    CHECK(strcmp(header.source_host, "192.0.2.1") == 0 && header.source_port == 65535);
    CHECK(strcmp(header.destination_host, "198.51.100.2") == 0);
    CHECK(header.destination_port == 443);
    CHECK(parse_line("PROXY TCP6 2001:DB8:0::1 ::1 1 0\r\n") > 0);
    CHECK(strcmp(header.source_host, "2001:db8::1") == 0 && header.source_port == 1);
    CHECK(parse_line("PROXY UNKNOWN\r\n") > 0 && !header.has_addresses);
    CHECK(parse_line("PROXY UNKNOWN a b c d e\r\n") > 0 && !header.has_addresses);
    CHECK(parse_line("PROXY TCP4 192.0.2.1") == AT_EAGAIN);
}

static void refused_lines(void)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UNKNOWN "
        "01234567890123456789012345678901234567890123456789012345678901234567"
        "89012345678901234567890123456789\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(parse_line(bad[i]) == AT_EFORMAT);
        CHECK(!header.has_addresses);
    }
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void binary_heads(void)
{
    static const char four[] = SIGNATURE "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2"
                                         "\x30\x39\x01\xbb"
                                         "GET";
    CHECK(parse(four, sizeof four - 1) == 28);
    CHECK(header.version == 2 && header.has_addresses && header.extensions.size == 0);
    CHECK(strcmp(header.source_host, "192.0.2.1") == 0 && header.source_port == 12345);
    CHECK(strcmp(header.destination_host, "198.51.100.2") == 0);
    CHECK(header.destination_port == 443);

    static const char six[] = SIGNATURE "\x21\x21\0\x2b"
                                        "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                                        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
                                        "\0\1\0\2"
                                        "\1\0\1h\2\0\0";
    CHECK(parse(six, sizeof six - 1) == 59);
    CHECK(strcmp(header.source_host, "2001:db8::1") == 0 && header.source_port == 1);
    CHECK(strcmp(header.destination_host, "::1") == 0 && header.destination_port == 2);
    uint8_t type;
    at_span value;
    CHECK(at_proxy_next_extension(&header.extensions, &type, &value));
    CHECK(type == 1 && value.size == 1 && value.data[0] == 'h');
    CHECK(at_proxy_next_extension(&header.extensions, &type, &value));
    CHECK(type == 2 && value.size == 0);
    CHECK(!at_proxy_next_extension(&header.extensions, &type, &value));

    static const char local[] = SIGNATURE "\x20\0\0\2xx";
    CHECK(parse(local, sizeof local - 1) == 18 && !header.has_addresses);
    static const char unknown[] = SIGNATURE "\x21\0\0\0";
    CHECK(parse(unknown, sizeof unknown - 1) == 16 && !header.has_addresses);
}

static void refused_binary_heads(void)
{
    static const char bad[][29] = {
        SIGNATURE "\x11\x11\0\x0c............", SIGNATURE "\x22\x11\0\x0c............",
        SIGNATURE "\x21\x41\0\x0c............", SIGNATURE "\x21\x13\0\x0c............",
        SIGNATURE "\x21\x11\0\x0b............", SIGNATURE "\x21\x21\0\x0c............",
        SIGNATURE "\x21\0\0\x02............",   SIGNATURE "\x21\0\0\x04\1\0\2.......",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(parse(bad[i], 28) == AT_EFORMAT);
        CHECK(!header.has_addresses);
    }
    static const char large[] = SIGNATURE "\x21\x11\x10\x00";
    CHECK(parse(large, sizeof large - 1) == AT_ELIMIT);
}

/* ---- forwarding ---------------------------------------------------------- */

static at_span span(const char *text)
{
    return (at_span){text, strlen(text)};
}

static bool is(at_span value, const char *text)
{
    return value.size == strlen(text) &&
           (value.size == 0 || memcmp(value.data, text, value.size) == 0);
}

static void trusted_networks(void)
{
    at_trust trust;
    CHECK(at_trust_parse(&trust, span("127.0.0.1, 10.0.0.0/8,192.168.5.128/25, "
                                      "2001:db8::/33, ::1")) == 0);
    static const char *const in[] = {
        "127.0.0.1",     "10.1.2.3",        "::1",
        "192.168.5.129", "::ffff:10.0.0.1", "2001:db8:7fff::1"};
    static const char *const out[] = {"127.0.0.2", "11.0.0.1",        "::2",
                                      "",          "192.168.5.127",   "x",
                                      "10.1.2",    "2001:db8:8000::1"};
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        CHECK(at_trust_has(&trust, span(in[i])));
    }
    for (size_t i = 0; i < sizeof out / sizeof out[0]; i++) {
        CHECK(!at_trust_has(&trust, span(out[i])));
    }
    CHECK(at_trust_parse(&trust, span("unix")) == 0);
    CHECK(at_trust_has(&trust, span("")) && !at_trust_has(&trust, span("::1")));
    CHECK(at_trust_parse(&trust, span("*")) == 0);
    CHECK(at_trust_has(&trust, span("")) && at_trust_has(&trust, span("8.8.8.8")));
    static const char *const bad[] = {
        "x",        "1.2.3",  "1.2.3.4/33", "::1/129",
        "1.2.3.4/", "::1/-1", "localhost",  "1.2.3.4/4294967297"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(at_trust_parse(&trust, span(bad[i])) == AT_EFORMAT);
    }
    char many[AT_TRUST_NETWORKS_MAX * 4 + 10] = "";
    for (int i = 0; i <= AT_TRUST_NETWORKS_MAX; i++) {
        (void)strcat(many, "::,");
    }
    CHECK(at_trust_parse(&trust, span(many)) == AT_ELIMIT);
}

static const struct {
    const char *peer;
    const char *headers[4][2];
    const char *client; /* NULL: nothing is said */
    unsigned port;
    const char *scheme;
    const char *host;
} forwarded[] = {
    {"8.8.8.8", {{"x-forwarded-for", "1.2.3.4"}}, NULL, 0, "", ""},
    {"10.0.0.1", {{"accept", "*"}}, NULL, 0, "", ""},
    {"10.0.0.1", {{"x-forwarded-for", "1.2.3.4"}}, "1.2.3.4", 0, "", ""},
    /* the client's own lie is in front */
    {"10.0.0.1",
     {{"x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2"}},
     "1.2.3.4",
     0,
     "",
     ""},
    {"10.0.0.1",
     {{"x-forwarded-for", "6.6.6.6"}, {"x-forwarded-for", "1.2.3.4"}},
     "1.2.3.4",
     0,
     "",
     ""},
    {"10.0.0.1", {{"x-forwarded-for", "10.0.0.3,10.0.0.2"}}, "10.0.0.3", 0, "", ""},
    {"10.0.0.1", {{"x-forwarded-for", "1.2.3.4, nonsense"}}, NULL, 0, "", ""},
    {"10.0.0.1", {{"x-forwarded-for", "1.2.3.4:99"}}, "1.2.3.4", 99, "", ""},
    {"10.0.0.1", {{"x-forwarded-for", "[2001:db8::1]:99"}}, "2001:db8::1", 99, "", ""},
    {"10.0.0.1", {{"x-forwarded-for", "2001:db8::1"}}, "2001:db8::1", 0, "", ""},
    {"10.0.0.1",
     {{"x-forwarded-for", "1.2.3.4"},
      {"x-forwarded-proto", "HTTPS"},
      {"x-forwarded-host", "a.b:8"}},
     "1.2.3.4",
     0,
     "HTTPS",
     "a.b:8"},
    {"10.0.0.1",
     {{"x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2"},
      {"x-forwarded-proto", "ftp, https, http"}},
     "1.2.3.4",
     0,
     "https",
     ""},
    {"10.0.0.1",
     {{"x-forwarded-proto", "https"}, {"x-forwarded-host", "a/b"}},
     "",
     0,
     "https",
     ""},
    {"10.0.0.1", {{"x-forwarded-proto", "javascript"}}, NULL, 0, "", ""},
    {"10.0.0.1",
     {{"forwarded", "for=1.2.3.4;proto=https;host=a.b"}},
     "1.2.3.4",
     0,
     "https",
     "a.b"},
    {"10.0.0.1",
     {{"forwarded", "For=\"[2001:db8::1]:99\" ; by=x, for=10.0.0.2"}},
     "2001:db8::1",
     99,
     "",
     ""},
    {"10.0.0.1",
     {{"forwarded", "for=6.6.6.6, for=\"1.2.3.4:5\";host=\"a,b;c\""}},
     "1.2.3.4",
     5,
     "",
     "a,b;c"},
    {"10.0.0.1", {{"forwarded", "for=6.6.6.6, for=unknown"}}, NULL, 0, "", ""},
    {"10.0.0.1",
     {{"forwarded", "for=6.6.6.6, for=_hidden, for=10.0.0.2"}},
     "10.0.0.2",
     0,
     "",
     ""},
    {"10.0.0.1",
     {{"forwarded", "for=1.2.3.4"}, {"x-forwarded-for", "6.6.6.6"}},
     "1.2.3.4",
     0,
     "",
     ""},
    {"10.0.0.1", {{"forwarded", "for=\"1.2.3.4\\"}}, NULL, 0, "", ""},
};

static void forwarding(void)
{
    at_trust trust;
    CHECK(at_trust_parse(&trust, span("10.0.0.0/8")) == 0);
    for (size_t i = 0; i < sizeof forwarded / sizeof forwarded[0]; i++) {
        at_h1_header headers[4];
        size_t count = 0;
        while (count < 4 && forwarded[i].headers[count][0] != NULL) {
            headers[count] = (at_h1_header){span(forwarded[i].headers[count][0]),
                                            span(forwarded[i].headers[count][1])};
            count++;
        }
        at_forwarded result;
        int said =
            at_forwarded_read(&trust, span(forwarded[i].peer), headers, count, &result);
        const char *client = forwarded[i].client != NULL ? forwarded[i].client : "";
        if (said != (forwarded[i].client != NULL) || !is(result.client, client)) {
            (void)fprintf(stderr, "case %zu: %d, %.*s\n", i, said,
                          (int)result.client.size, result.client.data);
        }
        CHECK(said == (forwarded[i].client != NULL));
        CHECK(is(result.client, client) && result.port == forwarded[i].port);
        CHECK(is(result.scheme, forwarded[i].scheme) &&
              is(result.host, forwarded[i].host));
    }
}

static void long_chains(void)
{
    at_trust trust;
    CHECK(at_trust_parse(&trust, span("10.0.0.0/8")) == 0);
    char value[2000] = "6.6.6.6";
    for (int i = 0; i < 100; i++) {
        (void)strcat(value, ",10.0.0.2");
    }
    at_h1_header field = {span("x-forwarded-for"), span(value)};
    at_forwarded result;
    CHECK(at_forwarded_read(&trust, span("10.0.0.1"), &field, 1, &result) == 1);
    CHECK(is(result.client, "10.0.0.2")); /* no further than the bound */
}

int main(void)
{
    RUN(lines);
    RUN(refused_lines);
    RUN(binary_heads);
    RUN(refused_binary_heads);
    RUN(trusted_networks);
    RUN(forwarding);
    RUN(long_chains);
    return 0;
}
