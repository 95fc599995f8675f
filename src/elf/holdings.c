/* Mappings of images; see holdings.h.
 *
 * Mappings are spans in one sorted table for the process, without overlap, because an
 * allocator unmaps the ends of what it has mapped to get an aligned middle. `lock`
 * guards it. Nothing is called or allocated under it: room is made before.
 *
 * What goes is removed from the table before the system is asked, what comes is added
 * afterwards: in between, another thread may be given the same address.
 */
#include "elf/holdings.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "elf/space.h"
#include "sys/map.h"

typedef struct span {
    uintptr_t start, end;
    uint64_t owner;
} span;

static struct {
    pthread_mutex_t lock;
    span *spans; /* guarded: lock, as the next two */
    size_t count;
    size_t capacity;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- spans ---------------------------------------------------------------------- */

/* Make room for two spans more than there are; the lock is held on return. False when
 * memory is short: then there is none. */
static bool lock_with_room(void)
{
    pthread_mutex_lock(&held.lock);
    while (held.count + 2 > held.capacity) {
        const size_t wanted = held.capacity != 0 ? held.capacity * 2 : 64;
        pthread_mutex_unlock(&held.lock);
        span *bigger = at_alloc(wanted * sizeof *bigger);
        pthread_mutex_lock(&held.lock);
        if (bigger == NULL) {
            return held.count + 2 <= held.capacity;
        }
        span *smaller = bigger;
        if (wanted > held.capacity) {
            smaller = held.spans;
            if (held.count != 0) {
                memcpy(bigger, held.spans, held.count * sizeof *bigger);
            }
            held.spans = bigger;
            held.capacity = wanted;
        }
        pthread_mutex_unlock(&held.lock);
        at_free(smaller);
        pthread_mutex_lock(&held.lock);
    }
    return true;
}

/* The first span that ends behind `address`. */
static size_t find_span(uintptr_t address)
{
    size_t low = 0, high = held.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (held.spans[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void insert_span(size_t place, span added)
{
    assert(held.spans != NULL && held.count < held.capacity);
    memmove(held.spans + place + 1, held.spans + place,
            (held.count - place) * sizeof *held.spans);
    held.spans[place] = added;
    held.count++;
}

static void drop_spans(size_t place, size_t count)
{
    if (count == 0) { /* of no array either, when there was never memory for one */
        return;
    }
    memmove(held.spans + place, held.spans + place + count,
            (held.count - place - count) * sizeof *held.spans);
    held.count -= count;
}

/* Take [start, end) out of all spans. One that it lies inside of becomes two; without
 * room for that, the rest behind it is forgotten, and leaks. */
static void cut_spans(uintptr_t start, uintptr_t end, bool has_room)
{
    size_t place = find_span(start);
    if (place < held.count && held.spans[place].start < start) {
        span *first = &held.spans[place++];
        const span behind = {end, first->end, first->owner};
        first->end = start;
        if (behind.end > end) {
            if (has_room) {
                insert_span(place, behind);
            }
            return;
        }
    }
    size_t covered = 0;
    while (place + covered < held.count && held.spans[place + covered].end <= end) {
        covered++;
    }
    drop_spans(place, covered);
    if (place < held.count && held.spans[place].start < end) {
        held.spans[place].start = end;
    }
}

static uintptr_t span_end(const void *address, size_t size_bytes)
{
    const size_t page = at_page_bytes();
    return ((uintptr_t)address + size_bytes + page - 1) / page * page;
}

static void forget_mapping(const void *address, size_t size_bytes)
{
    const bool has_room = lock_with_room();
    cut_spans((uintptr_t)address, span_end(address, size_bytes), has_room);
    pthread_mutex_unlock(&held.lock);
}

static void remember_mapping(uint64_t owner, const void *address, size_t size_bytes)
{
    const span added = {(uintptr_t)address, span_end(address, size_bytes), owner};
    if (lock_with_room()) {
        cut_spans(added.start, added.end, true);
        const size_t place = find_span(added.start);
        span *before = place > 0 ? &held.spans[place - 1] : NULL;
        if (before != NULL && before->end == added.start && before->owner == owner) {
            before->end = added.end;
        } else if (held.count < held.capacity) {
            insert_span(place, added);
        }
    }
    pthread_mutex_unlock(&held.lock);
}

/* ---- what images call ----------------------------------------------------------- */

static void *map(void *address, size_t size_bytes, int protection, int flags,
                 int descriptor, off_t offset)
{
    void *mapped = mmap(address, size_bytes, protection, flags, descriptor, offset);
    const uint64_t owner = mapped != MAP_FAILED && (flags & MAP_ANONYMOUS) != 0
                               ? at_image_owner_at(__builtin_return_address(0))
                               : 0;
    if (owner != 0) {
        remember_mapping(owner, mapped, size_bytes);
    }
    return mapped;
}

static int unmap(void *address, size_t size_bytes)
{
    forget_mapping(address, size_bytes);
    return munmap(address, size_bytes);
}

/* A mapping that moved or grew is the caller's; where the system refuses to, the old
 * one is still there, and whose it was is not known any more unless it is the
 * caller's. */
static void *remap(void *address, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    const uint64_t owner = at_image_owner_at(__builtin_return_address(0));
    forget_mapping(address, old_bytes);
    void *mapped = mremap(address, old_bytes, new_bytes, flags, wanted);
    if (owner != 0 && mapped != MAP_FAILED) {
        remember_mapping(owner, mapped, new_bytes);
    } else if (owner != 0) {
        remember_mapping(owner, address, old_bytes);
    }
    return mapped;
}

static const struct {
    const char *symbol;
    void *function;
} replacements[] = {
    {"mmap", (void *)map},
    {"mmap64", (void *)map},
    {"munmap", (void *)unmap},
    {"mremap", (void *)remap},
};

_Static_assert(sizeof(off_t) == sizeof(off64_t), "mmap and mmap64 are one function");

void *at_holding_replacement(const char *symbol)
{
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++) {
        if (strcmp(symbol, replacements[i].symbol) == 0) {
            return replacements[i].function;
        }
    }
    return NULL;
}

/* ---- the end -------------------------------------------------------------------- */

/* A span of the owner, taken out of the table. */
static bool take_span(uint64_t owner, span *taken)
{
    pthread_mutex_lock(&held.lock);
    size_t place = 0;
    while (place < held.count && held.spans[place].owner != owner) {
        place++;
    }
    const bool found = place < held.count;
    if (found) {
        *taken = held.spans[place];
        drop_spans(place, 1);
    }
    pthread_mutex_unlock(&held.lock);
    return found;
}

void at_holdings_end(uint64_t owner, bool give_back)
{
    span taken;
    while (take_span(owner, &taken)) {
        if (give_back) {
            (void)munmap((void *)taken.start, taken.end - taken.start);
        }
    }
}
