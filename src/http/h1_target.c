/* Request targets; see h1_target.h. */
#include "http/h1_target.h"

#include <string.h>

#include "http/h1_text.h"
#include "http/scan.h"

/* unreserved and sub-delims of RFC 3986; a percent sign is checked by its caller. */
static const bool reg_name_bytes[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true,
    ['.'] = true,         ['_'] = true,         ['~'] = true,         ['!'] = true,
    ['$'] = true,         ['&'] = true,         ['\''] = true,        ['('] = true,
    [')'] = true,         ['*'] = true,         ['+'] = true,         [','] = true,
    [';'] = true,         ['='] = true,
};

static bool is_reg_name_byte(char byte)
{
    return reg_name_bytes[(uint8_t)byte];
}

/* The end of the IP-literal that begins with '[' at text.data[0], or 0. Loose about
 * which literal it is: hexadecimal digits, colons and dots, or an IPvFuture. */
static size_t literal_end(at_span text)
{
    const char *close = memchr(text.data, ']', text.size);
    if (close == NULL || close == text.data + 1) {
        return 0;
    }
    bool future = (text.data[1] | 0x20) == 'v';
    for (const char *at = text.data + 1; at < close; at++) {
        bool address_byte = at_h1_hex_digit(*at) >= 0 || *at == ':' || *at == '.';
        if (!address_byte && !(future && is_reg_name_byte(*at))) {
            return 0;
        }
    }
    return (size_t)(close - text.data) + 1;
}

/* The end of the reg-name or IPv4 address at the beginning of `text`. */
static size_t name_end(at_span text)
{
    size_t i = 0;
    while (i < text.size) {
        if (is_reg_name_byte(text.data[i])) {
            i++;
        } else if (text.data[i] == '%' && text.size - i > 2 &&
                   at_h1_hex_digit(text.data[i + 1]) >= 0 &&
                   at_h1_hex_digit(text.data[i + 2]) >= 0) {
            i += 3;
        } else {
            break;
        }
    }
    return i;
}

bool at_h1_is_authority(at_span text)
{
    if (text.size == 0) {
        return true;
    }
    size_t at = text.data[0] == '[' ? literal_end(text) : name_end(text);
    if (at == 0 || at == text.size) {
        return at != 0;
    }
    if (text.data[at++] != ':' || text.size - at > 5) {
        return false;
    }
    unsigned port = 0; /* an empty port is allowed (RFC 3986 3.2.3) */
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(text.data[at] - '0');
    }
    return port <= 65535;
}

static void split_query(at_h1_request *request, at_span text)
{
    const char *mark = memchr(text.data, '?', text.size);
    if (mark == NULL) {
        request->path = text;
        return;
    }
    size_t path_size = (size_t)(mark - text.data);
    request->path = (at_span){text.data, path_size};
    request->query = (at_span){mark + 1, text.size - path_size - 1};
}

static size_t scheme_size(at_span target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (target.size >= size &&
            at_h1_equal((at_span){target.data, size}, schemes[i])) {
            return size;
        }
    }
    return 0;
}

static const char *read_absolute_form(at_h1_request *request, bool is_options)
{
    at_span target = request->target;
    size_t scheme = scheme_size(target);
    if (scheme == 0) {
        return "request target is neither a path nor an http URL";
    }
    size_t end = scheme;
    while (end < target.size && target.data[end] != '/' && target.data[end] != '?') {
        end++;
    }
    request->authority = (at_span){target.data + scheme, end - scheme};
    if (memchr(request->authority.data, '@', request->authority.size) != NULL) {
        return "user information in the request target";
    }
    if (request->authority.size == 0 || request->authority.data[0] == ':' ||
        !at_h1_is_authority(request->authority)) {
        return "invalid authority in the request target";
    }
    split_query(request, (at_span){target.data + end, target.size - end});
    if (request->path.size == 0) {
        bool whole_server = is_options && end == target.size; /* RFC 9112 3.2.4 */
        request->path = whole_server ? (at_span){"*", 1} : (at_span){"/", 1};
    }
    return NULL;
}

static const char *read_authority_form(at_h1_request *request)
{
    at_span target = request->target;
    const char *colon = memrchr(target.data, ':', target.size);
    size_t host_size = colon != NULL ? (size_t)(colon - target.data) : 0;
    if (host_size == 0 || host_size + 1 == target.size || !at_h1_is_authority(target)) {
        return "CONNECT needs host:port as its target";
    }
    request->authority = target;
    return NULL;
}

const char *at_h1_read_target(at_h1_request *request)
{
    at_span target = request->target;
    const char *end = target.data + target.size;
    if (target.size == 0) {
        return "empty request target";
    }
    if (at_scan_target(target.data, end) != end) {
        return "invalid character in the request target";
    }
    bool is_options =
        request->method.size == 7 && memcmp(request->method.data, "OPTIONS", 7) == 0;
    if (request->method.size == 7 && memcmp(request->method.data, "CONNECT", 7) == 0) {
        return read_authority_form(request);
    }
    if (target.data[0] == '/') {
        split_query(request, target);
        return NULL;
    }
    if (target.size == 1 && target.data[0] == '*') {
        request->path = target;
        return is_options ? NULL : "'*' as the target of a method other than OPTIONS";
    }
    return read_absolute_form(request, is_options);
}
