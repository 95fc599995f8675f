/* Raw memory, one door for every part above the Python line.
 *
 * What crosses interpreters is allocated here and never by Python's allocators, whose
 * heaps belong to one interpreter each. Every function is callable from any thread with
 * or without a thread state, and never blocks on Python.
 *
 * Out of memory is an error (NULL), never an abort. With AT_DEBUG the i-th allocation
 * can be made to fail, so that a test can walk every error path (tests/c/check.h).
 */
#ifndef AT_BASE_MEMORY_H
#define AT_BASE_MEMORY_H

#include <stddef.h>

/* `size_bytes` of uninitialised memory, or NULL. A size of 0 gives a pointer to free.
 */
void *at_alloc(size_t size_bytes) __attribute__((malloc, warn_unused_result));

/* `count` zeroed elements of `size_bytes` each, or NULL (also where the product would
 * overflow). */
void *at_calloc(size_t count, size_t size_bytes)
    __attribute__((malloc, warn_unused_result));

/* `size_bytes` zeroed, at a multiple of `alignment` (a power of two), or NULL. */
void *at_calloc_aligned(size_t alignment, size_t size_bytes)
    __attribute__((malloc, warn_unused_result));

/* Resize; on NULL the old block is untouched and still the caller's. */
void *at_realloc(void *block, size_t size_bytes) __attribute__((warn_unused_result));

/* Give back what any of these returned; NULL is allowed. */
void at_free(void *block);

/* A copy of `text`, or NULL. */
char *at_strdup(const char *text) __attribute__((malloc, warn_unused_result));

/* Ask for the cache line at `place`, to write to it soon. A hint: any address will do.
 * The compiler's own asks to read where it may not assume that the processor has the
 * instruction; those of x86-64 that do not take it for nothing. */
static inline void at_prefetch_write(const void *place)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)place));
#else
    __builtin_prefetch(place, 1);
#endif
}

#ifdef AT_DEBUG
/* Let `count` more allocations succeed in this process, then fail one and go on
 * succeeding; a negative count fails none. Returns how many were asked for since the
 * last call. Tests only. */
long at_memory_fail_after(long count);
#endif

#endif
