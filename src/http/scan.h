/* Sixteen bytes at a time: the few vector operations that the parsers of this part
 * need.
 *
 * SSE2 and NEON are in the baseline of the two supported processors, so nothing is
 * dispatched at run time. A mask has one bit set for each matching byte, AT_LANE_BITS
 * apart: the first match is at ctz(mask) / AT_LANE_BITS, and mask & (mask - 1) drops
 * it.
 */
#ifndef AT_HTTP_SCAN_H
#define AT_HTTP_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { AT_BLOCK_BYTES = 16 };

#if defined(__SSE2__)
#include <emmintrin.h>

typedef __m128i at_block;
enum { AT_LANE_BITS = 1 };

static inline at_block at_block_load(const char *data)
{
    return _mm_loadu_si128((const __m128i *)data);
}

static inline void at_block_store(char *data, at_block block)
{
    _mm_storeu_si128((__m128i *)data, block);
}

static inline at_block at_block_fill(uint8_t byte)
{
    return _mm_set1_epi8((char)byte);
}

static inline at_block at_block_equal(at_block block, uint8_t byte)
{
    return _mm_cmpeq_epi8(block, at_block_fill(byte));
}

/* Which bytes are, without sign, at most `byte`. */
static inline at_block at_block_at_most(at_block block, uint8_t byte)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(block, at_block_fill(byte)), block);
}

static inline at_block at_block_or(at_block a, at_block b)
{
    return _mm_or_si128(a, b);
}

static inline at_block at_block_xor(at_block a, at_block b)
{
    return _mm_xor_si128(a, b);
}

/* Those of `a` that are not in `b`. */
static inline at_block at_block_without(at_block a, at_block b)
{
    return _mm_andnot_si128(b, a);
}

static inline uint64_t at_block_mask(at_block block)
{
    return (uint64_t)(unsigned)_mm_movemask_epi8(block);
}

#elif defined(__ARM_NEON)
#include <arm_neon.h>

typedef uint8x16_t at_block;
enum { AT_LANE_BITS = 4 };

static inline at_block at_block_load(const char *data)
{
    return vld1q_u8((const uint8_t *)data);
}

static inline void at_block_store(char *data, at_block block)
{
    vst1q_u8((uint8_t *)data, block);
}

static inline at_block at_block_fill(uint8_t byte)
{
    return vdupq_n_u8(byte);
}

static inline at_block at_block_equal(at_block block, uint8_t byte)
{
    return vceqq_u8(block, vdupq_n_u8(byte));
}

static inline at_block at_block_at_most(at_block block, uint8_t byte)
{
    return vcleq_u8(block, vdupq_n_u8(byte));
}

static inline at_block at_block_or(at_block a, at_block b)
{
    return vorrq_u8(a, b);
}

static inline at_block at_block_xor(at_block a, at_block b)
{
    return veorq_u8(a, b);
}

static inline at_block at_block_without(at_block a, at_block b)
{
    return vbicq_u8(a, b);
}

/* NEON has no movemask: narrowing leaves four bits a byte, of which one is kept. */
static inline uint64_t at_block_mask(at_block block)
{
    uint8x8_t narrow = vshrn_n_u16(vreinterpretq_u16_u8(block), 4);
    return vget_lane_u64(vreinterpret_u64_u8(narrow), 0) & 0x8888888888888888u;
}

#else
#error "atoll runs on x86-64 (SSE2) and aarch64 (NEON)"
#endif

static inline size_t at_mask_first(uint64_t mask)
{
    return (size_t)__builtin_ctzll(mask) / AT_LANE_BITS;
}

/* The first byte of [at, end) that no field value may hold: a control character other
 * than the tab, or DEL; `end` where there is none. */
static inline const char *at_scan_value(const char *at, const char *end)
{
    for (; end - at >= AT_BLOCK_BYTES; at += AT_BLOCK_BYTES) {
        at_block block = at_block_load(at);
        at_block low = at_block_at_most(block, 0x1f);
        at_block bad = at_block_or(at_block_without(low, at_block_equal(block, '\t')),
                                   at_block_equal(block, 0x7f));
        uint64_t mask = at_block_mask(bad);
        if (mask != 0) {
            return at + at_mask_first(mask);
        }
    }
    for (; at < end; at++) {
        uint8_t byte = (uint8_t)*at;
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            break;
        }
    }
    return at;
}

/* The first byte of [at, end) that no request target may hold: anything but visible
 * ASCII, and '#', since a fragment stays with the client. */
static inline const char *at_scan_target(const char *at, const char *end)
{
    for (; end - at >= AT_BLOCK_BYTES; at += AT_BLOCK_BYTES) {
        at_block block = at_block_load(at);
        at_block bad = at_block_or(
            at_block_at_most(block, 0x20),
            at_block_at_most(at_block_xor(block, at_block_fill(0xff)), 0x80));
        uint64_t mask = at_block_mask(at_block_or(bad, at_block_equal(block, '#')));
        if (mask != 0) {
            return at + at_mask_first(mask);
        }
    }
    for (; at < end; at++) {
        uint8_t byte = (uint8_t)*at;
        if (byte <= 0x20 || byte >= 0x7f || byte == '#') {
            break;
        }
    }
    return at;
}

#endif
