/* The PROXY protocol; see proxy.h. */
#include "http/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"

static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
enum { SIGNATURE_BYTES = 12, HEAD_BYTES = 16, LINE_BYTES_MAX = 107 };

static long refuse(at_proxy_header *header, int code, const char *text)
{
    header->error_text = text;
    header->has_addresses = false;
    return code;
}

/* ---- version 1: a line of text ------------------------------------------ */

/* Take the word up to the next space or the end; exactly one space is between two. */
static at_span next_word(at_span *rest)
{
    const char *space = memchr(rest->data, ' ', rest->size);
    size_t size = space != NULL ? (size_t)(space - rest->data) : rest->size;
    at_span word = {rest->data, size};
    size_t taken = space != NULL ? size + 1 : size;
    *rest = (at_span){rest->data + taken, rest->size - taken};
    return word;
}

static bool read_host(at_span word, int family, char host[AT_PROXY_HOST_BYTES])
{
    char text[AT_PROXY_HOST_BYTES];
    unsigned char address[16];
    if (word.size >= sizeof text || memchr(word.data, '\0', word.size) != NULL) {
        return false;
    }
    memcpy(text, word.data, word.size);
    text[word.size] = '\0';
    return inet_pton(family, text, address) == 1 &&
           inet_ntop(family, address, host, AT_PROXY_HOST_BYTES) != NULL;
}

static bool read_port(at_span word, uint16_t *port)
{
    unsigned number = 0;
    if (word.size == 0 || word.size > 5 || (word.size > 1 && word.data[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] < '0' || word.data[i] > '9') {
            return false;
        }
        number = number * 10 + (unsigned)(word.data[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= 65535;
}

static bool is_word(at_span word, const char *text)
{
    return word.size == strlen(text) && memcmp(word.data, text, word.size) == 0;
}

/* `line` is what stands between "PROXY " and CRLF. */
static bool read_line(at_proxy_header *header, at_span line)
{
    at_span kind = next_word(&line);
    if (is_word(kind, "UNKNOWN")) {
        return true; /* whatever follows */
    }
    int family = is_word(kind, "TCP4") ? AF_INET : is_word(kind, "TCP6") ? AF_INET6 : 0;
    header->has_addresses = true;
    if (family == 0 || !read_host(next_word(&line), family, header->source_host) ||
        !read_host(next_word(&line), family, header->destination_host) ||
        !read_port(next_word(&line), &header->source_port)) {
        return false;
    }
    return read_port(line,
                     &header->destination_port); /* the rest: no word may follow */
}

static long parse_text(at_proxy_header *header, const char *data, size_t size)
{
    header->version = 1;
    size_t searched = size < LINE_BYTES_MAX ? size : LINE_BYTES_MAX;
    const char *feed = memchr(data, '\n', searched);
    if (feed == NULL) {
        return size < LINE_BYTES_MAX
                   ? AT_EAGAIN
                   : refuse(header, AT_EFORMAT, "PROXY line too long");
    }
    size_t line_size = (size_t)(feed - data);
    if (line_size < 7 || data[line_size - 1] != '\r' ||
        !read_line(header, (at_span){data + 6, line_size - 7})) {
        return refuse(header, AT_EFORMAT, "invalid PROXY line");
    }
    return (long)line_size + 1;
}

/* ---- version 2: a binary head -------------------------------------------- */

static unsigned read_16(const char *data)
{
    return (unsigned)(uint8_t)data[0] << 8 | (uint8_t)data[1];
}

bool at_proxy_next_extension(at_span *extensions, uint8_t *type, at_span *value)
{
    if (extensions->size < 3) {
        return false;
    }
    size_t size = read_16(extensions->data + 1);
    if (size > extensions->size - 3) {
        return false;
    }
    *type = (uint8_t)extensions->data[0];
    *value = (at_span){extensions->data + 3, size};
    *extensions = (at_span){extensions->data + 3 + size, extensions->size - 3 - size};
    return true;
}

static bool are_well_formed(at_span extensions)
{
    uint8_t type;
    at_span value;
    while (at_proxy_next_extension(&extensions, &type, &value)) {
    }
    return extensions.size == 0;
}

/* Addresses and ports of a family with `address_bytes` each. */
static void read_addresses(at_proxy_header *header, const char *data, int family,
                           size_t address_bytes)
{
    (void)inet_ntop(family, data, header->source_host, AT_PROXY_HOST_BYTES);
    (void)inet_ntop(family, data + address_bytes, header->destination_host,
                    AT_PROXY_HOST_BYTES);
    header->source_port = (uint16_t)read_16(data + 2 * address_bytes);
    header->destination_port = (uint16_t)read_16(data + 2 * address_bytes + 2);
    header->has_addresses = true;
}

/* What follows the sixteen bytes of the head, which are here: `rest` is all of it. */
static long read_binary(at_proxy_header *header, const char *head, at_span rest)
{
    static const size_t sizes[4] = {0, 12, 36, 216}; /* none, IPv4, IPv6, Unix */
    unsigned command = (uint8_t)head[12] & 15;
    unsigned family = (uint8_t)head[13] >> 4;
    unsigned transport = (uint8_t)head[13] & 15;
    if ((uint8_t)head[12] >> 4 != 2 || command > 1 || family > 3 || transport > 2) {
        return refuse(header, AT_EFORMAT, "invalid PROXY head");
    }
    if (command == 0) { /* LOCAL: a health check of the balancer's own */
        return 0;
    }
    if (rest.size < sizes[family]) {
        return refuse(header, AT_EFORMAT, "PROXY head without its addresses");
    }
    if (family == 1 && transport == 1) {
        read_addresses(header, rest.data, AF_INET, 4);
    } else if (family == 2 && transport == 1) {
        read_addresses(header, rest.data, AF_INET6, 16);
    }
    header->extensions =
        (at_span){rest.data + sizes[family], rest.size - sizes[family]};
    if (!are_well_formed(header->extensions)) {
        return refuse(header, AT_EFORMAT, "invalid PROXY extensions");
    }
    return 0;
}

static long parse_binary(at_proxy_header *header, const char *data, size_t size)
{
    header->version = 2;
    if (size < HEAD_BYTES) {
        return AT_EAGAIN;
    }
    size_t rest = read_16(data + 14);
    if (HEAD_BYTES + rest > AT_PROXY_HEADER_MAX) {
        return refuse(header, AT_ELIMIT, "PROXY header too large");
    }
    if (size < HEAD_BYTES + rest) {
        return AT_EAGAIN;
    }
    long result = read_binary(header, data, (at_span){data + HEAD_BYTES, rest});
    return result != 0 ? result : (long)(HEAD_BYTES + rest);
}

long at_proxy_parse(at_proxy_header *header, const char *data, size_t size)
{
    static const struct {
        const char *begin;
        size_t size;
        long (*parse)(at_proxy_header *, const char *, size_t);
    } versions[] = {
        {"PROXY ", 6, parse_text},
        {signature, SIGNATURE_BYTES, parse_binary},
    };
    memset(header, 0, sizeof *header);
    for (size_t i = 0; i < 2 && size != 0; i++) {
        size_t compared = size < versions[i].size ? size : versions[i].size;
        if (memcmp(data, versions[i].begin, compared) == 0) {
            return compared < versions[i].size ? AT_EAGAIN
                                               : versions[i].parse(header, data, size);
        }
    }
    return size == 0 ? AT_EAGAIN
                     : refuse(header, AT_EFORMAT, "connection without PROXY header");
}
