/* Ledgers of what each interpreter allocated; see heap.h.
 *
 * A ledger is touched by the threads of its interpreter only, which hold that
 * interpreter's GIL whenever they allocate in the MEM and OBJ domains, so it needs no
 * lock of its own. The list of ledgers has one, taken when a thread meets an
 * interpreter for the first time and never while allocating from Python. Arenas come
 * and go by the megabyte; all of theirs is under the same lock, since CPython may free
 * them on a thread that is attached elsewhere.
 *
 * Blocks over SMALL_BYTES bypass the allocator beneath, which would hand them to malloc
 * anyway: they are asked for in the RAW domain, so that they can be freed on any
 * thread.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interp/heap.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pointer_set.h"

enum { SMALL_BYTES = 512 }; /* obmalloc's SMALL_REQUEST_THRESHOLD */

typedef struct ledger {
    struct ledger *next;    /* guarded: ledgers.mutex */
    int64_t interpreter_id; /* fixed after init */
    at_pointer_set blocks;  /* guarded: the interpreter's GIL */
    at_pointer_set arenas;  /* guarded: ledgers.mutex */
    size_t arena_bytes;     /* guarded: ledgers.mutex; the size of each */
} ledger;

typedef struct domain {
    PyMemAllocatorEx beneath; /* fixed after install */
} domain;

static struct {
    pthread_mutex_t mutex;
    ledger *first; /* guarded: mutex */
    bool installed;
    PyObjectArenaAllocator arena_beneath; /* fixed after install */
    domain memory, object;                /* fixed after install */
} ledgers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The ledger this thread used last; an ID is never given twice, so it cannot go stale
 * while a thread state of that interpreter is attached. */
static _Thread_local struct {
    int64_t interpreter_id;
    ledger *ledger;
} recent;

static ledger *find_ledger(int64_t interpreter_id)
{
    ledger *found = ledgers.first;
    while (found != NULL && found->interpreter_id != interpreter_id) {
        found = found->next;
    }
    return found;
}

/* The ledger of the interpreter attached here, made when it is met first; NULL for
 * main, without a thread state, and where memory is short (then nothing is noted). */
static ledger *meet_ledger(int64_t interpreter_id)
{
    ledger *fresh = at_calloc(1, sizeof *fresh);
    pthread_mutex_lock(&ledgers.mutex);
    ledger *found = find_ledger(interpreter_id);
    if (found == NULL && fresh != NULL) {
        fresh->interpreter_id = interpreter_id;
        fresh->next = ledgers.first;
        ledgers.first = fresh;
        found = fresh;
        fresh = NULL;
    }
    pthread_mutex_unlock(&ledgers.mutex);
    at_free(fresh);
    if (found != NULL) {
        recent.interpreter_id = interpreter_id;
        recent.ledger = found;
    }
    return found;
}

static inline ledger *current_ledger(void)
{
    PyThreadState *state = PyThreadState_GetUnchecked();
    if (state == NULL) {
        return NULL;
    }
    int64_t interpreter_id = PyInterpreterState_GetID(state->interp);
    if (interpreter_id <= 0) {
        return NULL;
    }
    if (recent.interpreter_id == interpreter_id) {
        return recent.ledger;
    }
    return meet_ledger(interpreter_id);
}

static void note(ledger *owner, void *block)
{
    /* Unnoted for lack of memory, a block is merely not given back at the end. */
    (void)at_pointer_set_add(&owner->blocks, block);
}

static void *heap_malloc(void *context, size_t size_bytes)
{
    domain *self = context;
    ledger *owner = size_bytes > SMALL_BYTES ? current_ledger() : NULL;
    if (owner == NULL) {
        return self->beneath.malloc(self->beneath.ctx, size_bytes);
    }
    void *block = PyMem_RawMalloc(size_bytes);
    if (block != NULL) {
        note(owner, block);
    }
    return block;
}

static void *heap_calloc(void *context, size_t count, size_t size_bytes)
{
    domain *self = context;
    bool small = size_bytes == 0 || count <= SMALL_BYTES / size_bytes;
    ledger *owner = small ? NULL : current_ledger();
    if (owner == NULL) {
        return self->beneath.calloc(self->beneath.ctx, count, size_bytes);
    }
    void *block = PyMem_RawCalloc(count, size_bytes);
    if (block != NULL) {
        note(owner, block);
    }
    return block;
}

static void heap_free(void *context, void *block)
{
    domain *self = context;
    if (block == NULL) {
        return;
    }
    ledger *owner = current_ledger();
    if (owner != NULL && at_pointer_set_remove(&owner->blocks, block)) {
        PyMem_RawFree(block);
        return;
    }
    self->beneath.free(self->beneath.ctx, block);
}

static void *heap_realloc(void *context, void *block, size_t size_bytes)
{
    domain *self = context;
    if (block == NULL) {
        return heap_malloc(context, size_bytes);
    }
    ledger *owner = current_ledger();
    if (owner == NULL) {
        return self->beneath.realloc(self->beneath.ctx, block, size_bytes);
    }
    if (at_pointer_set_remove(&owner->blocks, block)) {
        void *moved = PyMem_RawRealloc(block, size_bytes);
        note(owner, moved != NULL ? moved : block);
        return moved;
    }
    /* What grows past the threshold leaves its arena for malloc; the allocator beneath
     * alone knows the old size, so it does the move. */
    void *moved = self->beneath.realloc(self->beneath.ctx, block, size_bytes);
    if (moved != NULL && moved != block && size_bytes > SMALL_BYTES) {
        note(owner, moved);
    }
    return moved;
}

static void *arena_alloc(void *context, size_t size_bytes)
{
    (void)context;
    void *arena = ledgers.arena_beneath.alloc(ledgers.arena_beneath.ctx, size_bytes);
    ledger *owner = arena != NULL ? current_ledger() : NULL;
    if (owner != NULL) {
        pthread_mutex_lock(&ledgers.mutex);
        owner->arena_bytes = size_bytes;
        (void)at_pointer_set_add(&owner->arenas, arena);
        pthread_mutex_unlock(&ledgers.mutex);
    }
    return arena;
}

static void arena_free(void *context, void *arena, size_t size_bytes)
{
    (void)context;
    if (arena == NULL) {
        return; /* CPython frees the unused entries of a dead interpreter's table too */
    }
    pthread_mutex_lock(&ledgers.mutex);
    ledger *owner = ledgers.first;
    while (owner != NULL && !at_pointer_set_remove(&owner->arenas, arena)) {
        owner = owner->next;
    }
    pthread_mutex_unlock(&ledgers.mutex);
    ledgers.arena_beneath.free(ledgers.arena_beneath.ctx, arena, size_bytes);
}

static void hook_domain(PyMemAllocatorDomain which, domain *hooked)
{
    PyMem_GetAllocator(which, &hooked->beneath);
    PyMemAllocatorEx ours = {hooked, heap_malloc, heap_calloc, heap_realloc, heap_free};
    PyMem_SetAllocator(which, &ours);
}

/* Debug allocators keep a header before each block, and the RAW domain's differs from
 * the OBJ domain's: blocks must not change sides. */
static bool allocators_are_replaced(void)
{
    const char *wanted = getenv("PYTHONMALLOC");
    const char *dev_mode = getenv("PYTHONDEVMODE");
    if ((wanted != NULL && *wanted != '\0') ||
        (dev_mode != NULL && *dev_mode != '\0')) {
        return true;
    }
    PyObject *flags = PySys_GetObject("flags"); /* borrowed */
    PyObject *mode = flags != NULL ? PyObject_GetAttrString(flags, "dev_mode") : NULL;
    bool replaced = mode == NULL || mode == Py_True;
    Py_XDECREF(mode);
    PyErr_Clear();
    return replaced;
}

void at_heap_install(void)
{
#ifndef Py_GIL_DISABLED
    if (ledgers.installed || allocators_are_replaced()) {
        return;
    }
    ledgers.installed = true;
    PyObject_GetArenaAllocator(&ledgers.arena_beneath);
    PyObjectArenaAllocator arenas = {NULL, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&arenas);
    hook_domain(PYMEM_DOMAIN_MEM, &ledgers.memory);
    hook_domain(PYMEM_DOMAIN_OBJ, &ledgers.object);
#endif
}

static ledger *take_ledger(int64_t interpreter_id)
{
    pthread_mutex_lock(&ledgers.mutex);
    ledger **link = &ledgers.first;
    while (*link != NULL && (*link)->interpreter_id != interpreter_id) {
        link = &(*link)->next;
    }
    ledger *taken = *link;
    if (taken != NULL) {
        *link = taken->next;
    }
    pthread_mutex_unlock(&ledgers.mutex);
    return taken;
}

size_t at_heap_drop(int64_t interpreter_id)
{
    ledger *left = take_ledger(interpreter_id);
    if (left == NULL) {
        return 0;
    }
    size_t dropped_bytes = 0;
    for (size_t i = 0; i < left->blocks.capacity; i++) {
        void *block = left->blocks.slots[i];
        if (block != NULL) {
            dropped_bytes += malloc_usable_size(block);
            PyMem_RawFree(block);
        }
    }
    for (size_t i = 0; i < left->arenas.capacity; i++) {
        void *arena = left->arenas.slots[i];
        if (arena != NULL) {
            dropped_bytes += left->arena_bytes;
            ledgers.arena_beneath.free(ledgers.arena_beneath.ctx, arena,
                                       left->arena_bytes);
        }
    }
    at_pointer_set_fini(&left->blocks);
    at_pointer_set_fini(&left->arenas);
    at_free(left);
    return dropped_bytes;
}
