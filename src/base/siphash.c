/* SipHash-1-3; see siphash.h. */
#include "base/siphash.h"

#include <string.h>

enum { LAST_ROUNDS = 3 };

static uint64_t rotate(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

uint64_t at_siphash(const uint64_t key[2], const void *data, size_t size_bytes)
{
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
    const unsigned char *bytes = data;
    size_t left = size_bytes;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        absorb(v, word);
        bytes += sizeof word;
    }
    uint64_t last = (uint64_t)size_bytes << 56;
    for (size_t i = 0; i < left; i++) {
        last |= (uint64_t)bytes[i] << 8 * i;
    }
    absorb(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < LAST_ROUNDS; i++) {
        mix(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
