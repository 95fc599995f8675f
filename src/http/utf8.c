/* UTF-8 as it comes; see utf8.h. */
#include "http/utf8.h"

#include "http/scan.h"

/* The first byte of [at, end) that is not ASCII. */
static const char *skip_ascii(const char *at, const char *end)
{
    for (; end - at >= AT_BLOCK_BYTES; at += AT_BLOCK_BYTES) {
        at_block ascii = at_block_at_most(at_block_load(at), 0x7f);
        uint64_t other = at_block_mask(at_block_xor(ascii, at_block_fill(0xff)));
        if (other != 0) {
            return at + at_mask_first(other);
        }
    }
    while (at < end && (uint8_t)*at < 0x80) {
        at++;
    }
    return at;
}

/* Begin the character whose first byte is `byte`, which is not ASCII. */
static bool begin_character(at_utf8 *utf8, uint8_t byte)
{
    utf8->low = 0x80;
    utf8->high = 0xbf;
    if (byte >= 0xc2 && byte <= 0xdf) {
        utf8->left = 1;
    } else if (byte >= 0xe0 && byte <= 0xef) {
        utf8->left = 2;
        utf8->low = byte == 0xe0 ? 0xa0 : 0x80;  /* overlong below */
        utf8->high = byte == 0xed ? 0x9f : 0xbf; /* surrogates above */
    } else if (byte >= 0xf0 && byte <= 0xf4) {
        utf8->left = 3;
        utf8->low = byte == 0xf0 ? 0x90 : 0x80;  /* overlong below */
        utf8->high = byte == 0xf4 ? 0x8f : 0xbf; /* above U+10FFFF */
    } else {
        return false;
    }
    return true;
}

bool at_utf8_feed(at_utf8 *utf8, at_span text)
{
    if (text.size == 0) {
        return true; /* perhaps without data */
    }
    const char *at = text.data;
    const char *end = at + text.size;
    for (;;) {
        if (utf8->left == 0) {
            at = skip_ascii(at, end);
        }
        if (at == end) {
            return true;
        }
        uint8_t byte = (uint8_t)*at++;
        if (utf8->left == 0) {
            if (!begin_character(utf8, byte)) {
                return false;
            }
        } else {
            if (byte < utf8->low || byte > utf8->high) {
                return false;
            }
            utf8->left--;
            utf8->low = 0x80;
            utf8->high = 0xbf;
        }
    }
}
