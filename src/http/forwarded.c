/* Forwarded and its X- relatives; see forwarded.h. */
#include "http/forwarded.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "http/h1_text.h"

/* ---- trust --------------------------------------------------------------- */

/* `text` as sixteen bytes, IPv4 mapped into IPv6. gives: 4, 6, or 0 (no address) */
static int read_address(at_span text, uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    if (text.size == 0 || text.size >= sizeof copy ||
        memchr(text.data, '\0', text.size) != NULL) {
        return 0;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (inet_pton(AF_INET, copy, address + 12) == 1) {
        memcpy(address, mapped, sizeof mapped);
        return 4;
    }
    return inet_pton(AF_INET6, copy, address) == 1 ? 6 : 0;
}

static bool read_number(at_span text, unsigned most, unsigned *number)
{
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned)(uint8_t)text.data[i] - '0';
        if (digit > 9 || (*number = *number * 10 + digit) > most) {
            return false;
        }
    }
    return text.size != 0;
}

static int add_network(at_trust *trust, at_span text)
{
    if (trust->network_count == AT_TRUST_NETWORKS_MAX) {
        return AT_ELIMIT;
    }
    const char *slash = memchr(text.data, '/', text.size);
    size_t size = slash != NULL ? (size_t)(slash - text.data) : text.size;
    uint8_t *address = trust->networks[trust->network_count].address;
    int family = read_address((at_span){text.data, size}, address);
    unsigned most = family == 4 ? 32 : 128;
    unsigned bits = most;
    if (family == 0 ||
        (slash != NULL &&
         !read_number((at_span){slash + 1, text.size - size - 1}, most, &bits))) {
        return AT_EFORMAT;
    }
    trust->networks[trust->network_count++].prefix_bits = (uint8_t)(128 - most + bits);
    return 0;
}

int at_trust_parse(at_trust *trust, at_span list)
{
    memset(trust, 0, sizeof *trust);
    at_span element;
    int result = 0;
    while (result == 0 && at_h1_next_element(&list, &element)) {
        if (at_h1_equal(element, "*")) {
            trust->everyone = true;
        } else if (at_h1_equal(element, "unix")) {
            trust->unix_sockets = true;
        } else {
            result = add_network(trust, element);
        }
    }
    return result;
}

static bool is_in_network(const uint8_t address[16], const uint8_t network[16],
                          unsigned bits)
{
    size_t whole = bits / 8;
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);
    return memcmp(address, network, whole) == 0 &&
           (bits % 8 == 0 || ((address[whole] ^ network[whole]) & mask) == 0);
}

bool at_trust_has(const at_trust *trust, at_span text)
{
    uint8_t address[16];
    if (trust->everyone || text.size == 0) {
        return trust->everyone || trust->unix_sockets;
    }
    if (read_address(text, address) == 0) {
        return false;
    }
    for (size_t i = 0; i < trust->network_count; i++) {
        if (is_in_network(address, trust->networks[i].address,
                          trust->networks[i].prefix_bits)) {
            return true;
        }
    }
    return false;
}

/* ---- one hop ------------------------------------------------------------- */

/* Split "address", "address:port", "[v6]" or "[v6]:port". False: no address. */
static bool read_node(at_span text, at_forwarded *hop)
{
    at_span host = text;
    at_span port = {NULL, 0};
    const char *colon = memchr(text.data, ':', text.size);
    if (text.size != 0 && text.data[0] == '[') {
        const char *close = memchr(text.data, ']', text.size);
        if (close == NULL) {
            return false;
        }
        host = (at_span){text.data + 1, (size_t)(close - text.data) - 1};
        port = (at_span){close + 1, text.size - host.size - 2};
        if (port.size != 0 && *port.data++ != ':') {
            return false;
        }
        port.size -= port.size != 0;
    } else if (colon != NULL && colon == memrchr(text.data, ':', text.size)) {
        host.size = (size_t)(colon - text.data);
        port = (at_span){colon + 1, text.size - host.size - 1};
    }
    uint8_t address[16];
    unsigned number = 0;
    if (read_address(host, address) == 0) {
        return false; /* "unknown" and obfuscated names too: nobody to answer for */
    }
    if (port.size != 0 && read_number(port, 65535, &number)) {
        hop->port = (uint16_t)number;
    }
    hop->client = host;
    return true;
}

static void read_scheme(at_span value, at_forwarded *hop)
{
    static const char *const schemes[] = {"http", "https", "ws", "wss"};
    for (size_t i = 0; i < 4; i++) {
        if (at_h1_equal(value, schemes[i])) {
            hop->scheme = value;
        }
    }
}

static void read_host(at_span value, at_forwarded *hop)
{
    if (value.size != 0 && at_h1_is_authority(value)) {
        hop->host = value;
    }
}

/* ---- Forwarded (RFC 7239 4) ---------------------------------------------- */

/* The length of what stands before the next `stop` outside quotes. */
static size_t until(at_span text, char stop)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < text.size && (quoted || text.data[i] != stop); i++) {
        if (quoted && text.data[i] == '\\') {
            i++;
        } else if (text.data[i] == '"') {
            quoted = !quoted;
        }
    }
    return i < text.size ? i : text.size;
}

/* Take what stands before the next `stop`, trimmed. False at the end. */
static bool next_of(at_span *rest, char stop, at_span *part)
{
    if (rest->size == 0) {
        return false;
    }
    size_t size = until(*rest, stop);
    *part = at_h1_trim((at_span){rest->data, size});
    size_t taken = size < rest->size ? size + 1 : size;
    *rest = (at_span){rest->data + taken, rest->size - taken};
    return true;
}

/* Without its quotes; what holds a quoted pair is nothing that is understood here. */
static at_span unquoted(at_span value)
{
    if (value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"') {
        return (at_span){value.data + 1, value.size - 2};
    }
    return value;
}

static bool read_element(at_span element, at_forwarded *hop)
{
    bool has_node = false;
    at_span pair;
    memset(hop, 0, sizeof *hop);
    while (next_of(&element, ';', &pair)) {
        const char *equals = memchr(pair.data, '=', pair.size);
        if (equals == NULL) {
            continue;
        }
        at_span name = {pair.data, (size_t)(equals - pair.data)};
        at_span value = unquoted((at_span){equals + 1, pair.size - name.size - 1});
        if (at_h1_equal(name, "for")) {
            has_node = read_node(value, hop);
        } else if (at_h1_equal(name, "proto")) {
            read_scheme(value, hop);
        } else if (at_h1_equal(name, "host")) {
            read_host(value, hop);
        }
    }
    return has_node;
}

/* ---- the walk ------------------------------------------------------------ */

/* The last elements of a field that may stand in several lines. */
typedef struct element_list {
    at_span elements[AT_FORWARDED_ELEMENTS_MAX];
    size_t count;
} element_list;

static void add_element(element_list *list, at_span element)
{
    if (list->count == AT_FORWARDED_ELEMENTS_MAX) { /* the nearest proxies are last */
        list->count--;
        memmove(list->elements, list->elements + 1,
                list->count * sizeof list->elements[0]);
    }
    list->elements[list->count++] = element;
}

static void collect(const at_h1_header *headers, size_t header_count, const char *name,
                    bool quotes, element_list *list)
{
    list->count = 0;
    for (size_t i = 0; i < header_count; i++) {
        if (!at_h1_equal(headers[i].name, name)) {
            continue;
        }
        at_span rest = headers[i].value;
        at_span element;
        while (quotes ? next_of(&rest, ',', &element)
                      : at_h1_next_element(&rest, &element)) {
            if (element.size != 0) {
                add_element(list, element);
            }
        }
    }
}

/* The hop nearest to the client, of those that a trusted peer vouches for.
 * gives: its place in the list behind one, or 0 */
static size_t walk(const at_trust *trust, const element_list *list,
                   bool (*read)(at_span, at_forwarded *), at_forwarded *result)
{
    size_t found = 0;
    for (size_t i = list->count; i > 0; i--) {
        at_forwarded hop;
        memset(&hop, 0, sizeof hop);
        if (!read(list->elements[i - 1], &hop)) {
            break;
        }
        *result = hop;
        found = i;
        if (!at_trust_has(trust, hop.client)) {
            break;
        }
    }
    return found;
}

/* Of a list beside X-Forwarded-For: the element in the same place if there are as many,
 * else the one of the nearest proxy. */
static at_span beside(const element_list *list, size_t place, size_t count)
{
    if (list->count == 0) {
        return (at_span){NULL, 0};
    }
    return list
        ->elements[(list->count == count && place != 0 ? place : list->count) - 1];
}

int at_forwarded_read(const at_trust *trust, at_span peer, const at_h1_header *headers,
                      size_t header_count, at_forwarded *result)
{
    memset(result, 0, sizeof *result);
    if (!at_trust_has(trust, peer)) {
        return 0;
    }
    element_list list;
    collect(headers, header_count, "forwarded", true, &list);
    if (list.count != 0) {
        return walk(trust, &list, read_element, result) != 0;
    }
    collect(headers, header_count, "x-forwarded-for", false, &list);
    size_t count = list.count;
    size_t place = walk(trust, &list, read_node, result);
    collect(headers, header_count, "x-forwarded-proto", false, &list);
    read_scheme(beside(&list, place, count), result);
    collect(headers, header_count, "x-forwarded-host", false, &list);
    read_host(beside(&list, place, count), result);
    return result->client.size != 0 || result->scheme.size != 0 ||
           result->host.size != 0;
}
