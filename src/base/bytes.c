/* Growable bytes; see bytes.h. */
#include "base/bytes.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum { FIRST_CAPACITY_BYTES = 256 };

void at_bytes_init(at_bytes *bytes)
{
    *bytes = (at_bytes){0};
}

void at_bytes_fini(at_bytes *bytes)
{
    at_free(bytes->data);
    *bytes = (at_bytes){0};
}

int at_bytes_reserve(at_bytes *bytes, size_t extra_bytes)
{
    if (extra_bytes <= bytes->capacity - bytes->size) {
        return 0;
    }
    if (extra_bytes > SIZE_MAX / 4 - bytes->size) {
        return AT_ENOMEM;
    }
    size_t wanted = bytes->size + extra_bytes;
    size_t capacity = bytes->capacity != 0 ? bytes->capacity : FIRST_CAPACITY_BYTES;
    while (capacity < wanted) {
        capacity += capacity / 2;
    }
    char *data = at_realloc(bytes->data, capacity);
    if (data == NULL) {
        return AT_ENOMEM;
    }
    bytes->data = data;
    bytes->capacity = capacity;
    return 0;
}

int at_bytes_append(at_bytes *bytes, const void *data, size_t size_bytes)
{
    int result = at_bytes_reserve(bytes, size_bytes);
    if (result == 0 && size_bytes != 0) {
        memcpy(bytes->data + bytes->size, data, size_bytes);
        bytes->size += size_bytes;
    }
    return result;
}

void at_bytes_consume(at_bytes *bytes, size_t size_bytes)
{
    assert(size_bytes <= bytes->size);
    bytes->size -= size_bytes;
    if (bytes->size != 0 && size_bytes != 0) {
        memmove(bytes->data, bytes->data + size_bytes, bytes->size);
    }
}
