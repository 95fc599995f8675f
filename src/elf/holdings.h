/* What code of images took from the process, and what goes back with them.
 *
 * A library that is in the process for good need not give these back, and many do not:
 *   - anonymous mappings: the heaps of allocators that a library brings along;
 *   - keys of thread-specific data: there are 1,024 of them for the process.
 * Who took a thing is told by the address of the call, as for threads (threads.h);
 * who gives it back, nobody asks: a thing that is gone must not be given back again.
 *
 * Blocks of malloc are not among them: libstdc++ frees what an image allocated, and the
 * other way round, without a call that could be seen here.
 */
#ifndef AT_ELF_HOLDINGS_H
#define AT_ELF_HOLDINGS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The replacement for an undefined symbol of an image, or NULL. ctx: any */
void *at_holding_replacement(const char *symbol);

/* The code at `caller` has created this key; it counts if that is an image's. ctx: any
 */
void at_holding_add_key(const void *caller, pthread_key_t key);

/* Somebody is about to delete the key. ctx: any */
void at_holding_remove_key(pthread_key_t key);

/* The space with this number (at_image_owner_at) ends: what it holds goes back to the
 * process, or stays for good. ctx: any; with give_back no code of the space can run any
 * more */
void at_holdings_end(uint64_t owner, bool give_back);

#endif
