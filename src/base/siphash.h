/* SipHash-1-3: a hash of bytes under a key, so that who does not know the key cannot
 * choose bytes that fall together (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF", 2012; one round for each word and three at the end).
 */
#ifndef AT_BASE_SIPHASH_H
#define AT_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* ctx: any */
uint64_t at_siphash(const uint64_t key[2], const void *data, size_t size_bytes);

#endif
