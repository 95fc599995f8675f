/* Keys of thread-specific data that code of images created. There are 1,024 for the
 * process, and many libraries never delete theirs; and the destructor of one may be
 * called at the end of any thread, long after the image that it lies in. */
#ifndef AT_ELF_KEYS_H
#define AT_ELF_KEYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The replacement for an undefined symbol of an image, or NULL. ctx: any */
void *at_key_replacement(const char *symbol);

/* The code at `caller` has created this key; it counts if that is an image's. ctx: any
 */
void at_key_add(const void *caller, pthread_key_t key);

/* Somebody is about to delete the key. ctx: any */
void at_key_remove(pthread_key_t key);

/* From now on no destructor of a key of the space with this number is called. Returns
 * whether none is running either. ctx: any */
bool at_keys_disarm(uint64_t owner);

/* The space with this number ends: its keys are deleted, or stay for good.
 * ctx: any; with give_back no code of the space can run any more */
void at_keys_end(uint64_t owner, bool give_back);

#endif
