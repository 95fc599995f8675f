/* The PROXY header, and the forwarding headers of the same bytes: read no further than
 * given, the same however cut, and only well-formed addresses out. */
#include <arpa/inet.h>

#include "fuzz.h"

#include "base/error.h"
#include "http/forwarded.h"
#include "http/proxy.h"

static long parse(at_proxy_header *header, const uint8_t *data, size_t size)
{
    char *copy = exact_copy(data, size);
    long result = at_proxy_parse(header, copy, size);
    HOLDS(result <= (long)size);
    if (result > 0) {
        at_span rest = header->extensions;
        uint8_t type;
        at_span value;
        while (at_proxy_next_extension(&rest, &type, &value)) {
            HOLDS(value.data >= copy && value.data + value.size <= copy + result);
        }
        HOLDS(rest.size == 0);
    }
    free(copy);
    return result;
}

static int is_address(const char *text)
{
    unsigned char address[16];
    return inet_pton(AF_INET, text, address) == 1 ||
           inet_pton(AF_INET6, text, address) == 1;
}

static void check_proxy(const uint8_t *data, size_t size)
{
    at_proxy_header whole;
    at_proxy_header piece;
    long by_byte = AT_EAGAIN;
    for (size_t given = 0; given <= size && by_byte == AT_EAGAIN; given++) {
        by_byte = parse(&piece, data, given);
    }
    long result = parse(&whole, data, size);
    HOLDS(result == by_byte && result != 0);
    HOLDS(whole.has_addresses == piece.has_addresses || result < 0);
    if (result > 0 && whole.has_addresses) {
        HOLDS(is_address(whole.source_host) && is_address(whole.destination_host));
        HOLDS(strcmp(whole.source_host, piece.source_host) == 0);
        HOLDS(whole.source_port == piece.source_port);
    }
}

static void check_forwarded(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"forwarded", "x-forwarded-for",
                                        "x-forwarded-proto", "x-forwarded-host"};
    char *copy = exact_copy(data, size);
    at_trust trust;
    int code = at_trust_parse(&trust, (at_span){copy, size});
    HOLDS(code == 0 || code == AT_EFORMAT || code == AT_ELIMIT);
    HOLDS(at_trust_parse(&trust, (at_span){"10.0.0.0/8", 10}) == 0);
    for (size_t i = 0; i < 4; i++) {
        at_h1_header headers[] = {{{names[i], strlen(names[i])}, {copy, size}},
                                  {{"x-forwarded-for", 15}, {"10.0.0.2", 8}}};
        at_forwarded result;
        (void)at_forwarded_read(&trust, (at_span){"10.0.0.1", 8}, headers, 2, &result);
        if (result.client.size != 0) {
            char text[64] = "";
            HOLDS(result.client.size < sizeof text);
            memcpy(text, result.client.data, result.client.size);
            HOLDS(is_address(text));
        }
        HOLDS(result.scheme.size <= 5 && at_h1_is_field_value(result.host));
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_proxy(data, size);
    check_forwarded(data, size);
    return 0;
}
