/* The WebSocket writer, and the key of the handshake; see websocket.h. */
#include "http/websocket.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/error.h"
#include "http/websocket_deflate.h"

static bool is_base64_byte(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '+' || byte == '/';
}

int at_ws_accept_key(at_span key, char accept[AT_WS_ACCEPT_BYTES])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    enum { KEY_BYTES = 24 }; /* sixteen bytes: twenty-two digits and "==" */
    if (key.size != KEY_BYTES || memcmp(key.data + KEY_BYTES - 2, "==", 2) != 0) {
        return AT_EFORMAT;
    }
    for (size_t i = 0; i < KEY_BYTES - 2; i++) {
        if (!is_base64_byte(key.data[i])) {
            return AT_EFORMAT;
        }
    }
    char text[KEY_BYTES + sizeof guid - 1];
    memcpy(text, key.data, KEY_BYTES);
    memcpy(text + KEY_BYTES, guid, sizeof guid - 1);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
    if (EVP_Digest(text, sizeof text, digest, &digest_size, EVP_sha1(), NULL) != 1) {
        return AT_ENOMEM;
    }
    unsigned char encoded[AT_WS_ACCEPT_BYTES + 1]; /* it terminates */
    (void)EVP_EncodeBlock(encoded, digest, (int)digest_size);
    memcpy(accept, encoded, AT_WS_ACCEPT_BYTES);
    return 0;
}

size_t at_ws_prefix(char prefix[AT_WS_PREFIX_BYTES_MAX], at_ws_opcode opcode,
                    bool is_deflated, uint64_t size_bytes)
{
    prefix[0] = (char)(0x80 | (is_deflated ? 0x40 : 0) | (unsigned)opcode);
    if (size_bytes < 126) {
        prefix[1] = (char)size_bytes;
        return 2;
    }
    size_t count = size_bytes < 65536 ? 2 : 8;
    prefix[1] = count == 2 ? 126 : 127;
    for (size_t i = 0; i < count; i++) {
        prefix[2 + i] = (char)(size_bytes >> (8 * (count - 1 - i)));
    }
    return 2 + count;
}

static int write_plain(at_bytes *out, at_ws_opcode opcode, at_span payload)
{
    char prefix[AT_WS_PREFIX_BYTES_MAX];
    size_t prefix_size = at_ws_prefix(prefix, opcode, false, payload.size);
    int result = at_bytes_reserve(out, prefix_size + payload.size);
    if (result != 0) {
        return result;
    }
    (void)at_bytes_append(out, prefix, prefix_size);
    return at_bytes_append(out, payload.data, payload.size);
}

/* The size is known only behind the payload: leave room for the largest head, and move
 * the payload up to the one that it gets. */
static int write_deflated(at_bytes *out, at_ws_deflate *deflate, at_ws_opcode opcode,
                          at_span payload)
{
    size_t begin = out->size;
    char prefix[AT_WS_PREFIX_BYTES_MAX] = {0};
    int result = at_bytes_append(out, prefix, sizeof prefix);
    result = result == 0 ? at_ws_deflate_message(deflate, payload, out) : result;
    if (result != 0) {
        out->size = begin;
        return result;
    }
    size_t size = out->size - begin - sizeof prefix;
    size_t prefix_size = at_ws_prefix(prefix, opcode, true, size);
    memcpy(out->data + begin, prefix, prefix_size);
    memmove(out->data + begin + prefix_size, out->data + begin + sizeof prefix, size);
    out->size = begin + prefix_size + size;
    return 0;
}

int at_ws_write_message(at_bytes *out, at_ws_deflate *deflate, at_ws_opcode opcode,
                        at_span payload)
{
    if (opcode >= AT_WS_CLOSE) {
        return payload.size > AT_WS_CONTROL_BYTES_MAX
                   ? AT_EINVALID
                   : write_plain(out, opcode, payload);
    }
    return deflate != NULL ? write_deflated(out, deflate, opcode, payload)
                           : write_plain(out, opcode, payload);
}

int at_ws_write_close(at_bytes *out, uint16_t code, at_span reason)
{
    char payload[AT_WS_CONTROL_BYTES_MAX];
    if (code == AT_WS_CODE_NONE) {
        return write_plain(out, AT_WS_CLOSE, (at_span){NULL, 0});
    }
    if (code < 1000 || code > 4999 || code == AT_WS_CODE_LOST || code == 1015) {
        return AT_EINVALID;
    }
    at_utf8 utf8 = {0};
    if (!at_utf8_feed(&utf8, reason) || !at_utf8_is_complete(&utf8)) {
        return AT_EINVALID;
    }
    size_t size = reason.size;
    if (size > sizeof payload - 2) {
        size = sizeof payload - 2;
        while (((uint8_t)reason.data[size] & 0xc0) == 0x80) {
            size--; /* not into a character */
        }
    }
    payload[0] = (char)(code >> 8);
    payload[1] = (char)code;
    if (size != 0) {
        memcpy(payload + 2, reason.data, size);
    }
    return write_plain(out, AT_WS_CLOSE, (at_span){payload, size + 2});
}
