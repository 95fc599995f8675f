/* Inside elf/: what a space and an image consist of. image.h says what they are for.
 *
 * Who may write: the thread that loads. One thread at a time loads in a space
 * (`loader`, recursive, because a constructor may open libraries); it alone changes the
 * list, the unique symbols and the images, without a lock. `lock` guards the hand-over
 * and what other threads read: the list's links.
 *
 * All images of the process, of live spaces or not, are also in one list, so that an
 * address can be traced to its image (image.c).
 */
#ifndef AT_ELF_SPACE_H
#define AT_ELF_SPACE_H

#include <link.h>
#include <pthread.h>
#include <stdatomic.h>

#include "elf/closure.h"
#include "elf/image.h"

/* Where a name with STB_GNU_UNIQUE binding lives in this space: open addressing. */
typedef struct at_unique_entry {
    const char *name; /* NULL: free; lives in a library's file */
    void *address;
} at_unique_entry;

typedef struct at_unique_table {
    at_unique_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} at_unique_table;

/* Threads that code of a space started, and its thread-local objects on any thread.
 * Outlives the space with the last of them. */
typedef struct at_thread_count {
    atomic_size_t references;
    atomic_size_t alive; /* the release of the last pairs with the acquire of the end */
    atomic_size_t thread_exit_count; /* thread-local destructors to run, the same way */
} at_thread_count;

/* What code of an image gave to atexit(). */
typedef struct at_exit_function {
    struct at_exit_function *next;
    void (*function)(void *nothing);
} at_exit_function;

struct at_image {
    at_library *library; /* fixed after init, as all down to loader_name */
    char *name;          /* its SONAME, and what dependents need it by; unique */
    at_image **needs;    /* images that must be there before it */
    size_t need_count;
    void *handle; /* the loader's */
    struct link_map *map;
    uintptr_t base;    /* what the loader added to link-time addresses */
    char *shown_name;  /* map->l_name while loaded */
    char *loader_name; /* map->l_name as the loader set it */

    _Atomic(at_exit_function *) exit_functions; /* the last first */
    bool is_global;                             /* writer: the space's loader */
    bool has_global_original; /* writer: the space's loader; originals.h */
    bool is_constructed;      /* writer: the space's loader */
    at_image *next;           /* in the space, guarded: space lock */
    at_image_space *space;    /* NULL once it ended; guarded: the list of all images */
    at_image *next_of_all;    /* guarded: the list of all images */
};

struct at_image_space {
    int64_t interpreter_id; /* fixed after init */
    uint64_t number;        /* fixed after init; who holds what (holdings.h) */
    at_image_hooks hooks;   /* fixed after init */

    pthread_mutex_t lock;
    pthread_cond_t released; /* loader_depth fell to 0 */
    pthread_t loader;        /* guarded: lock; meaningful while loader_depth != 0 */
    unsigned loader_depth;   /* guarded: lock */
    at_image *first, *last;  /* guarded: lock; writer: loader */

    at_unique_table unique;   /* writer: loader */
    at_thread_count *threads; /* fixed after init; counted */
    bool is_pinned;           /* guarded: the list of all images */
};

/* The image whose memory holds `address`, or NULL. ctx: any */
at_image *at_image_at(const void *address);

/* The threads of the space of that image, or NULL if there is none, or it ended.
 * owns: the caller ends the reference with at_thread_count_unref. ctx: any */
at_thread_count *at_image_threads_at(const void *address);

/* The number of the space of that image, never 0 and never used again, or 0 if there is
 * none, or it ended. ctx: any */
uint64_t at_image_owner_at(const void *address);

/* Does the address lie in the image? ctx: any */
static inline bool at_image_holds(const at_image *image, const void *address)
{
    return (uintptr_t)address >= image->base &&
           (uintptr_t)address - image->base < image->library->file->end_address;
}

/* NULL is allowed. */
void at_thread_count_unref(at_thread_count *threads);

#endif
