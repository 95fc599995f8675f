/* Anonymous memory that code of images mapped: the heaps of allocators that a library
 * brings along. A library that is in the process for good need not unmap it, and many
 * do not, so it goes with the image.
 *
 * Whose it is, the address of the call tells, as for threads (threads.h); who unmaps
 * it, nobody asks: what is gone must not be unmapped again.
 *
 * Blocks of malloc cannot be counted like this: libstdc++ frees what an image
 * allocated, and the other way round, without a call that could be seen here.
 */
#ifndef AT_ELF_HOLDINGS_H
#define AT_ELF_HOLDINGS_H

#include <stdbool.h>
#include <stdint.h>

/* The replacement for an undefined symbol of an image, or NULL. ctx: any */
void *at_holding_replacement(const char *symbol);

/* The space with this number (at_image_owner_at) ends: what it holds is unmapped, or
 * stays for good.
 * ctx: any; with give_back no code of the space can run any more */
void at_holdings_end(uint64_t owner, bool give_back);

#endif
