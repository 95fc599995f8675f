/* Spaces and the list of all images; see image.h and space.h.
 *
 * `all.lock` guards the list of all images. No lock is held while
 * the loader or code of an image runs; a space's loader thread is a state, not a lock.
 */
#include "elf/image.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "elf/holdings.h"
#include "elf/keys.h"
#include "elf/load.h"
#include "elf/process.h"
#include "elf/relocate.h"
#include "elf/search.h"
#include "elf/threads.h"

static struct {
    pthread_mutex_t lock;
    at_image *first;      /* guarded: lock */
    uint64_t last_number; /* guarded: lock; of a space */
    at_image_stats stats; /* guarded: lock */
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- all images ---------------------------------------------------------------- */

static at_image *image_at(const void *address)
{
    at_image *image = all.first;
    while (image != NULL && !at_image_holds(image, address)) {
        image = image->next_of_all;
    }
    return image;
}

bool at_image_space_holds(const at_image_space *space, const void *address)
{
    const at_image *image = space->first;
    while (image != NULL && !at_image_holds(image, address)) {
        image = image->next;
    }
    return image != NULL;
}

at_image *at_image_at(const void *address)
{
    pthread_mutex_lock(&all.lock);
    at_image *image = image_at(address);
    pthread_mutex_unlock(&all.lock);
    return image;
}

at_thread_count *at_image_threads_at(const void *address)
{
    at_thread_count *threads = NULL;
    pthread_mutex_lock(&all.lock);
    at_image *image = image_at(address);
    if (image != NULL && image->space != NULL) {
        threads = image->space->threads;
        atomic_fetch_add_explicit(&threads->references, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&all.lock);
    return threads;
}

uint64_t at_image_owner_at(const void *address)
{
    pthread_mutex_lock(&all.lock);
    const at_image *image = image_at(address);
    const uint64_t number =
        image != NULL && image->space != NULL ? image->space->number : 0;
    pthread_mutex_unlock(&all.lock);
    return number;
}

const char *at_image_library_at(const void *address, uintptr_t *place)
{
    pthread_mutex_lock(&all.lock);
    const at_image *image = image_at(address);
    const bool is_there = image != NULL && image->space != NULL;
    const char *path = is_there ? image->library->file->path : NULL;
    *place = is_there ? (uintptr_t)address - image->base : 0;
    pthread_mutex_unlock(&all.lock);
    return path;
}

bool at_image_pin(const void *address)
{
    pthread_mutex_lock(&all.lock);
    const at_image *image = image_at(address);
    const bool is_pinned = image != NULL && image->space != NULL;
    if (is_pinned) {
        image->space->is_pinned = true;
    }
    pthread_mutex_unlock(&all.lock);
    return is_pinned;
}

bool at_image_space_pin_library_of(at_image_space *space, const void *address)
{
    pthread_mutex_lock(&all.lock);
    const at_image *image = image_at(address);
    const bool is_pinned =
        image != NULL && at_space_find(space, image->library) != NULL;
    space->is_pinned |= is_pinned;
    pthread_mutex_unlock(&all.lock);
    return is_pinned;
}

void at_thread_count_unref(at_thread_count *threads)
{
    if (threads != NULL &&
        atomic_fetch_sub_explicit(&threads->references, 1, memory_order_acq_rel) == 1) {
        at_free(threads);
    }
}

static void remove_from_all(at_image *image)
{
    pthread_mutex_lock(&all.lock);
    at_image **link = &all.first;
    while (*link != NULL && *link != image) {
        link = &(*link)->next_of_all;
    }
    if (*link != NULL) {
        *link = image->next_of_all;
        all.stats.unmapped_count++;
    }
    pthread_mutex_unlock(&all.lock);
}

void at_stats_count(size_t copied_bytes, size_t shared_bytes)
{
    pthread_mutex_lock(&all.lock);
    all.stats.loaded_count++;
    all.stats.bytes_copied += copied_bytes;
    all.stats.bytes_shared += shared_bytes;
    pthread_mutex_unlock(&all.lock);
}

at_image_stats at_image_get_stats(void)
{
    pthread_mutex_lock(&all.lock);
    at_image_stats stats = all.stats;
    pthread_mutex_unlock(&all.lock);
    return stats;
}

/* ---- spaces -------------------------------------------------------------------- */

int at_image_space_new(int64_t interpreter_id, const at_image_hooks *hooks,
                       at_image_space **space)
{
    at_image_space *made = at_calloc(1, sizeof *made);
    at_thread_count *threads = at_calloc(1, sizeof *threads);
    if (made == NULL || threads == NULL) {
        at_free(made);
        at_free(threads);
        return AT_ENOMEM;
    }
    atomic_init(&threads->references, 1);
    made->threads = threads;
    made->interpreter_id = interpreter_id;
    if (hooks != NULL) {
        made->hooks = *hooks;
    }
    pthread_mutex_lock(&all.lock);
    made->number = ++all.last_number;
    pthread_mutex_unlock(&all.lock);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->released, NULL);
    *space = made;
    return 0;
}

static void space_free(at_image_space *space)
{
    at_unique_table_fini(&space->unique);
    at_thread_count_unref(space->threads);
    pthread_cond_destroy(&space->released);
    pthread_mutex_destroy(&space->lock);
    at_free(space);
}

/* One thread at a time loads in a space, as the system's loader has it for the process:
 * an image that two threads want is loaded by the first, and ready when the second gets
 * it. Recursive for the constructors that open libraries. */
static void enter_loading(at_image_space *space)
{
    pthread_mutex_lock(&space->lock);
    while (space->loader_depth != 0 && !pthread_equal(space->loader, pthread_self())) {
        pthread_cond_wait(&space->released, &space->lock);
    }
    space->loader = pthread_self();
    space->loader_depth++;
    pthread_mutex_unlock(&space->lock);
}

static void leave_loading(at_image_space *space)
{
    pthread_mutex_lock(&space->lock);
    if (--space->loader_depth == 0) {
        pthread_cond_signal(&space->released);
    }
    pthread_mutex_unlock(&space->lock);
}

at_image *at_space_find(at_image_space *space, const at_library *library)
{
    at_image *image = space->first;
    while (image != NULL && image->library != library) {
        image = image->next;
    }
    return image;
}

at_image *at_space_find_name(at_image_space *space, const char *name)
{
    at_image *image = space->first;
    while (image != NULL && (image->library->file->soname == NULL ||
                             strcmp(image->library->file->soname, name) != 0)) {
        image = image->next;
    }
    return image;
}

void at_space_add(at_image_space *space, at_image *image)
{
    pthread_mutex_lock(&space->lock);
    image->next = NULL;
    if (space->last != NULL) {
        space->last->next = image;
    } else {
        space->first = image;
    }
    space->last = image;
    pthread_mutex_unlock(&space->lock);

    pthread_mutex_lock(&all.lock);
    image->space = space;
    image->next_of_all = all.first;
    all.first = image;
    pthread_mutex_unlock(&all.lock);
}

bool at_image_space_has_threads(const at_image_space *space)
{
    return atomic_load_explicit(&space->threads->alive, memory_order_acquire) != 0;
}

int at_image_set_policy(const char *private_names, const char *shared_names)
{
    return at_library_set_policy(private_names, shared_names);
}

/* ---- load ---------------------------------------------------------------------- */

/* An extension that the user wants shared (setproctitle, whose state is the process's):
 * the original, seen through an image that owns no memory. */
static int load_shared(at_image_space *space, at_library *library, at_image **image,
                       at_fault *fault)
{
    *image = at_space_find(space, library);
    if (*image != NULL) {
        return 0;
    }
    const char *path = library->file->path;
    at_image *made = at_calloc(1, sizeof *made);
    if (made == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "%s: out of memory", path);
    }
    made->library = library;
    made->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (made->handle == NULL ||
        dlinfo(made->handle, RTLD_DI_LINKMAP, &made->map) != 0) {
        const char *reason = dlerror();
        at_fault_set(fault, AT_ESYSTEM, "cannot load %s: %s", path,
                     reason != NULL ? reason : "the loader refuses it");
        at_image_free(made);
        return AT_ESYSTEM;
    }
    made->base = made->map->l_addr;
    at_space_add(space, made);
    *image = made;
    return 0;
}

static int binding_of(int flags)
{
    return (flags & RTLD_NOW) != 0 ? RTLD_NOW : RTLD_LAZY;
}

int at_image_load(at_image_space *space, const char *path, int flags, at_image **image,
                  at_fault *fault)
{
    at_library *library;
    int result = at_library_get(path, true, &library, fault);
    if (result < 0) {
        return result;
    }
    enter_loading(space);
    result = library->is_shared
                 ? load_shared(space, library, image, fault)
                 : at_load(space, library, binding_of(flags), image, fault);
    if (result == 0) {
        (*image)->is_global |= (flags & RTLD_GLOBAL) != 0;
    }
    leave_loading(space);
    return result;
}

void *at_image_symbol(at_image *image, const char *symbol)
{
    void *address = dlsym(image->handle, symbol);
    Dl_info info;
    struct link_map *map = NULL;
    if (address == NULL ||
        dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP) == 0) {
        return NULL;
    }
    return map == image->map ? address : NULL; /* dlsym looks into what it needs, too */
}

/* ---- end ----------------------------------------------------------------------- */

static at_image *reversed(at_image *first)
{
    at_image *result = NULL;
    while (first != NULL) {
        at_image *next = first->next;
        first->next = result;
        result = first;
        first = next;
    }
    return result;
}

/* Nobody traces an address to the space any more. Returns the images, the last first.
 */
static at_image *detach_images(at_image_space *space, bool *is_pinned)
{
    pthread_mutex_lock(&all.lock);
    *is_pinned = space->is_pinned;
    for (at_image *image = space->first; image != NULL; image = image->next) {
        image->space = NULL;
    }
    pthread_mutex_unlock(&all.lock);
    at_image *last = reversed(space->first);
    space->first = space->last = NULL;
    return last;
}

static void unmap(at_image *image)
{
    while (image != NULL) {
        at_image *next = image->next;
        remove_from_all(image);
        at_image_free(image);
        image = next;
    }
}

/* Destructors are what ends the threads of some libraries (OpenBLAS). Exit functions
 * take things away that a thread may still use, so they wait until there is none. */
static bool is_quiet_after_destructors(const at_image_space *space, at_image *images)
{
    const bool had_threads = at_image_space_has_threads(space);
    for (at_image *image = images; image != NULL; image = image->next) {
        at_image_destruct(image);
        if (!had_threads) {
            at_image_run_exit_functions(image);
        }
    }
    if (at_image_space_has_threads(space)) {
        return false;
    }
    for (at_image *image = images; image != NULL && had_threads; image = image->next) {
        at_image_run_exit_functions(image);
    }
    return true;
}

/* What is asked first ends nothing; each of the others may end what the next asks for.
 */
static bool can_go(const at_image_space *space, at_image *images)
{
    return !at_process_has_handler_in(images) && at_thread_exits_run(space->threads) &&
           is_quiet_after_destructors(space, images) && at_keys_disarm(space->number);
}

bool at_image_space_end(at_image_space *space, at_image_fate fate)
{
    bool is_pinned;
    at_image *images = detach_images(space, &is_pinned);
    const bool goes = images == NULL ||
                      (fate == AT_IMAGE_UNMAP && !is_pinned && can_go(space, images));
    at_keys_end(space->number, goes);
    at_holdings_end(space->number, goes);
    if (goes) {
        unmap(images);
    }
    space_free(space);
    return goes;
}

/* ---- dlopen -------------------------------------------------------------------- */

/* dlerror() only ever repeats the loader: have it fail to open a file of that name. */
static void *fail_with(const char *text)
{
    char path[sizeof((at_fault *)0)->text + 1];
    (void)snprintf(path, sizeof path, "/%s", text);
    return dlopen(path, RTLD_LAZY);
}

static void *open_image(at_image_space *space, at_library *library, int flags)
{
    at_fault fault;
    at_image *image = at_space_find(space, library);
    if (image == NULL && (flags & RTLD_NOLOAD) != 0) {
        return fail_with("not loaded in this interpreter");
    }
    if (image == NULL &&
        at_load(space, library, binding_of(flags), &image, &fault) < 0) {
        return fail_with(fault.text);
    }
    image->is_global |= (flags & RTLD_GLOBAL) != 0;
    /* Counted, so that the caller's dlclose is the counterpart of this. */
    return dlopen(image->name, (flags & ~RTLD_GLOBAL) | RTLD_NOLOAD);
}

void *at_image_dlopen(at_image_space *space, const char *name, int flags,
                      const void *caller)
    AT_UNCHECKED /* hooks are called with what their caller holds */
{
    if (name == NULL || name[0] == '\0' || at_library_is_system(name)) {
        return dlopen(name, flags);
    }
    at_image *opener = caller != NULL ? at_image_at(caller) : NULL;
    at_library *library = NULL;
    char *path = NULL;
    enter_loading(space);
    at_image *known = at_space_find_name(space, name);
    void *handle = NULL;
    if (known != NULL) {
        library = known->library;
    } else if (at_elf_search(opener != NULL ? &opener->library->dependent : NULL, name,
                             &path) == 0) {
        at_fault fault;
        if (at_library_get(path, false, &library, &fault) < 0) {
            library = NULL; /* the loader says what is wrong with it */
        }
    }
    if (library != NULL && !library->is_shared) {
        handle = open_image(space, library, flags);
    } else {
        handle = dlopen(path != NULL ? path : name, flags);
    }
    leave_loading(space);
    at_free(path);
    return handle;
}
