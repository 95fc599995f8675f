/* A growable run of bytes, embedded by its user.
 *
 * `data` moves when it grows: keep offsets, not pointers, across an append. One thread
 * at a time.
 */
#ifndef AT_BASE_BYTES_H
#define AT_BASE_BYTES_H

#include <stddef.h>

typedef struct at_bytes {
    char *data; /* NULL while capacity is 0 */
    size_t size;
    size_t capacity;
} at_bytes;

void at_bytes_init(at_bytes *bytes);
void at_bytes_fini(at_bytes *bytes);

/* Room for `extra_bytes` more behind the present end, which stays where it is.
 * errs: AT_ENOMEM, and then nothing changed */
int at_bytes_reserve(at_bytes *bytes, size_t extra_bytes);

/* Append a copy of `data`.
 * errs: AT_ENOMEM, and then nothing changed */
int at_bytes_append(at_bytes *bytes, const void *data, size_t size_bytes);

/* Drop the first `size_bytes`, which must be there, and close the gap. */
void at_bytes_consume(at_bytes *bytes, size_t size_bytes);

#endif
