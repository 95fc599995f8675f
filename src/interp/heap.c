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
 *
 * free() is where the time goes, since it is not told a size, and every object of every
 * interpreter ends there, main's too. Whether a block is one of the large ones is asked
 * of a table of the megabytes that have any (base/megabytes.h), before anything about
 * the thread: for small blocks the answer is no after two loads, since arenas are
 * mapped at multiples of their size and share no megabyte with large blocks.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interp/heap.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/megabytes.h"
#include "base/memory.h"
#include "base/pointer_set.h"
#include "interp/compat.h"

enum {
    SMALL_BYTES = 512,             /* obmalloc's SMALL_REQUEST_THRESHOLD */
    ARENA_BYTES = 1 << 20,         /* its ARENA_SIZE */
    MIDDLE_NODE_BYTES = 128 << 10, /* its arena_map_mid_t */
    BOTTOM_NODE_BYTES = 256 << 10, /* its arena_map_bot_t */
    TABLE_BYTES = 16 * 48,         /* its first table of arenas; it doubles */
    PAGE_BYTES = 4096,
};

/* A mapping: an arena of obmalloc, one of the much smaller chunks of the frames' stack
 * that the arena allocator is asked for too, a node of the radix tree, or the table of
 * arenas, which CPython leaves behind with them. */
typedef struct arena {
    struct arena *next;
    char *start;
    size_t size_bytes;
} arena;

typedef struct ledger {
    struct ledger *next;    /* guarded: ledgers.mutex */
    int64_t interpreter_id; /* fixed after init */
    at_pointer_set blocks;  /* guarded: the interpreter's GIL */
    bool has_table;         /* guarded: the interpreter's GIL; its table is an entry */
    size_t counted;         /* guarded: the interpreter's GIL; see free_block */
    arena *arenas;          /* guarded: ledgers.mutex */
    size_t arena_bytes;     /* guarded: ledgers.mutex */
    /* writer: who has the interpreter's GIL; of `blocks`, for at_heap_bytes */
    atomic_size_t block_bytes;
} ledger;

typedef struct domain {
    PyMemAllocatorEx beneath; /* fixed after install */
} domain;

static struct {
    pthread_mutex_t mutex;
    ledger *first;                        /* guarded: mutex */
    PyInterpreterState *main;             /* fixed after install; NULL before it */
    PyObjectArenaAllocator arena_beneath; /* fixed after install */
    domain raw, memory, object;           /* fixed after install */
    bool guards;                          /* fixed after install */
    at_megabytes noted;                   /* where the blocks of all ledgers begin */
} ledgers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The ledger this thread used last; an ID is never given twice, so it cannot go stale
 * while a thread state of that interpreter is attached. Initial-exec: a call for each
 * free() would cost more than the rest of it. */
static _Thread_local struct {
    int64_t interpreter_id;
    ledger *ledger;
    bool nodes_come_next; /* the call beneath that is under way was given an arena */
} recent __attribute__((tls_model("initial-exec")));

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
    if (state == NULL || state->interp == ledgers.main) {
        return NULL;
    }
    int64_t interpreter_id = PyInterpreterState_GetID(state->interp);
    if (recent.interpreter_id == interpreter_id) {
        return recent.ledger;
    }
    return meet_ledger(interpreter_id);
}

static inline void add_bytes(ledger *owner, size_t size_bytes)
{
    size_t before = atomic_load_explicit(&owner->block_bytes, memory_order_relaxed);
    atomic_store_explicit(&owner->block_bytes, before + size_bytes,
                          memory_order_relaxed);
}

/* Does the allocator beneath hand it to malloc? It does so with 0 bytes, too. */
static inline bool is_large(size_t size_bytes)
{
    return size_bytes - 1 >= SMALL_BYTES;
}

/* False for lack of memory. */
static bool note(ledger *owner, void *block)
{
    if (at_megabytes_add(&ledgers.noted, block) < 0) {
        return false;
    }
    if (at_pointer_set_add(&owner->blocks, block) < 0) {
        at_megabytes_remove(&ledgers.noted, block);
        return false;
    }
    add_bytes(owner, malloc_usable_size(block));
    return true;
}

/* Strike `block` off, if it is a large one of this interpreter's. */
static inline bool take_block(ledger *owner, void *block)
{
    if (!at_pointer_set_remove(&owner->blocks, block)) {
        return false;
    }
    at_megabytes_remove(&ledgers.noted, block);
    add_bytes(owner, -malloc_usable_size(block));
    return true;
}

/* The end of a block that was taken. obmalloc counts what it got from malloc, and an
 * interpreter whose count is not 0 at the end keeps all its arenas and its state of
 * 256 KiB. It counts a block that it moved out of an arena, but not one that we asked
 * for: as many as it counted, whichever they are, it must be the one to free. */
static void free_block(domain *self, ledger *owner, void *block)
{
    if (owner->counted == 0) {
        PyMem_RawFree(block);
        return;
    }
    owner->counted--;
    self->beneath.free(self->beneath.ctx, block);
}

static void *heap_malloc(void *context, size_t size_bytes)
{
    domain *self = context;
    ledger *owner = is_large(size_bytes) ? current_ledger() : NULL;
    if (owner != NULL) {
        void *block = PyMem_RawMalloc(size_bytes);
        if (block == NULL || note(owner, block)) {
            return block;
        }
        PyMem_RawFree(block); /* what is not noted goes back by way of the count */
    }
    void *block = self->beneath.malloc(self->beneath.ctx, size_bytes);
    recent.nodes_come_next = false;
    return block;
}

static void *heap_calloc(void *context, size_t count, size_t size_bytes)
{
    domain *self = context;
    bool small = size_bytes != 0 && count != 0 && count <= SMALL_BYTES / size_bytes;
    ledger *owner = small ? NULL : current_ledger();
    if (owner != NULL) {
        void *block = PyMem_RawCalloc(count, size_bytes);
        if (block == NULL || note(owner, block)) {
            return block;
        }
        PyMem_RawFree(block);
    }
    void *block = self->beneath.calloc(self->beneath.ctx, count, size_bytes);
    recent.nodes_come_next = false;
    return block;
}

static void heap_free(void *context, void *block)
{
    domain *self = context;
    if (at_megabytes_has_any(&ledgers.noted, block)) {
        ledger *owner = current_ledger();
        if (owner != NULL && take_block(owner, block)) {
            free_block(self, owner, block);
            return;
        }
    }
    self->beneath.free(self->beneath.ctx, block);
}

static void *heap_realloc(void *context, void *block, size_t size_bytes)
{
    domain *self = context;
    if (block == NULL) {
        return heap_malloc(context, size_bytes);
    }
    bool large = at_megabytes_has_any(&ledgers.noted, block);
    ledger *owner = large || size_bytes > SMALL_BYTES ? current_ledger() : NULL;
    if (owner != NULL && large && take_block(owner, block)) {
        void *moved = PyMem_RawRealloc(block, size_bytes);
        (void)note(owner, moved != NULL ? moved : block);
        return moved;
    }
    /* What grows past the threshold leaves its arena for malloc; the allocator beneath
     * alone knows the old size, so it does the move, and counts the block. */
    void *moved = self->beneath.realloc(self->beneath.ctx, block, size_bytes);
    recent.nodes_come_next = false;
    if (owner != NULL && moved != NULL && moved != block && size_bytes > SMALL_BYTES &&
        note(owner, moved)) {
        owner->counted++;
    }
    return moved;
}

/* The end of an arena, and of a block that an interpreter left. Where the ledgers
 * guard, their addresses are never given out again: who still uses an arena faults at
 * once, and who takes a pointer from a block faults at 0xdbdb... */
static void give_back_mapping(char *start, size_t size_bytes)
{
    if (!ledgers.guards) {
        (void)munmap(start, size_bytes);
        return;
    }
    (void)madvise(start, size_bytes, MADV_DONTNEED);
    (void)mprotect(start, size_bytes, PROT_NONE);
}

static void give_back_block(void *block)
{
    if (!ledgers.guards) {
        PyMem_RawFree(block);
        return;
    }
    memset(block, 0xdb, malloc_usable_size(block));
}

/* `ARENA_BYTES` of fresh memory at a multiple of ARENA_BYTES, or NULL. */
static char *map_aligned(void)
{
    char *start = mmap(NULL, 2 * (size_t)ARENA_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    size_t before = -(uintptr_t)start & (ARENA_BYTES - 1);
    if (before != 0) {
        (void)munmap(start, before);
    }
    (void)munmap(start + before + ARENA_BYTES, ARENA_BYTES - before);
    return start + before;
}

/* Map `size_bytes` for the interpreter of `owner`, at a multiple of ARENA_BYTES where
 * that is the size, and enter it. NULL where memory is short. */
static void *map_entered(ledger *owner, size_t size_bytes)
{
    arena *entry = at_alloc(sizeof *entry);
    if (entry == NULL) {
        return NULL;
    }
    entry->size_bytes = size_bytes;
    if (size_bytes == ARENA_BYTES) {
        entry->start = map_aligned();
    } else {
        entry->start = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (entry->start == NULL || entry->start == MAP_FAILED) {
        at_free(entry);
        return NULL;
    }
    pthread_mutex_lock(&ledgers.mutex);
    entry->next = owner->arenas;
    owner->arenas = entry;
    owner->arena_bytes += size_bytes;
    pthread_mutex_unlock(&ledgers.mutex);
    return entry->start;
}

static void *arena_alloc(void *context, size_t size_bytes)
{
    ledger *owner = current_ledger();
    if (owner == NULL) {
        return ledgers.arena_beneath.alloc(ledgers.arena_beneath.ctx, size_bytes);
    }
    recent.nodes_come_next = size_bytes == ARENA_BYTES;
    return map_entered(owner, size_bytes);
}

/* The link to the ledger entry of the arena at `start`, with its owner, or NULL. */
static arena **find_arena(const char *start, ledger **owner)
{
    for (*owner = ledgers.first; *owner != NULL; *owner = (*owner)->next) {
        arena **link = &(*owner)->arenas;
        while (*link != NULL && (*link)->start != start) {
            link = &(*link)->next;
        }
        if (*link != NULL) {
            return link;
        }
    }
    return NULL;
}

static void unlink_ledger(ledger *gone)
{
    ledger **link = &ledgers.first;
    while (*link != gone) {
        link = &(*link)->next;
    }
    *link = gone->next;
}

/* No thread state of its interpreter allocates any more, but the one that ends it is
 * attached still. */
static void free_ledger(ledger *gone)
{
    if (recent.ledger == gone) {
        recent.interpreter_id = 0; /* main's, which is never looked for */
        recent.ledger = NULL;
    }
    at_pointer_set_fini(&gone->blocks);
    at_free(gone);
}

/* The ledger entry of the arena at `start`, taken out, or NULL. The table of arenas
 * goes when the interpreter's heap does, and no entry is left when it leaked nothing:
 * then its ledger is taken out too, into `emptied`. The standard library's interpreters
 * are not dropped by anyone. */
static arena *leave_arena(const char *start, ledger **emptied)
{
    ledger *owner;
    arena **link = find_arena(start, &owner);
    if (link == NULL) {
        return NULL;
    }
    arena *entry = *link;
    *link = entry->next;
    owner->arena_bytes -= entry->size_bytes;
    if (owner->arenas == NULL && owner->has_table && owner->blocks.count == 0) {
        unlink_ledger(owner);
        *emptied = owner;
    }
    return entry;
}

/* Unmap what was mapped at `start` for an interpreter; false where nothing was. */
static bool unmap_entered(char *start)
{
    ledger *emptied = NULL;
    pthread_mutex_lock(&ledgers.mutex);
    arena *entry = leave_arena(start, &emptied);
    pthread_mutex_unlock(&ledgers.mutex);
    if (entry == NULL) {
        return false;
    }
    give_back_mapping(start, entry->size_bytes);
    at_free(entry);
    if (emptied != NULL) {
        free_ledger(emptied);
    }
    return true;
}

/* Give what was mapped at `start` for an interpreter another size, elsewhere maybe.
 * False where nothing was mapped there; `*moved` is NULL where memory is short. */
static bool resize_entered(const char *start, size_t size_bytes, void **moved)
{
    ledger *owner;
    *moved = NULL;
    pthread_mutex_lock(&ledgers.mutex);
    arena **link = find_arena(start, &owner);
    if (link != NULL) {
        arena *entry = *link;
        void *fresh =
            mremap(entry->start, entry->size_bytes, size_bytes, MREMAP_MAYMOVE);
        if (fresh != MAP_FAILED) {
            *moved = entry->start = fresh;
            owner->arena_bytes += size_bytes - entry->size_bytes;
            entry->size_bytes = size_bytes;
        }
    }
    pthread_mutex_unlock(&ledgers.mutex);
    return link != NULL;
}

static void arena_free(void *context, void *start, size_t size_bytes)
{
    /* NULL: CPython frees the unused entries of a dead interpreter's table too. */
    if (start != NULL && !unmap_entered(start)) {
        ledgers.arena_beneath.free(ledgers.arena_beneath.ctx, start, size_bytes);
    }
}

static void *raw_malloc(void *context, size_t size_bytes)
{
    PyMemAllocatorEx *beneath = &((domain *)context)->beneath;
    return beneath->malloc(beneath->ctx, size_bytes);
}

static void *raw_calloc(void *context, size_t count, size_t size_bytes)
{
    PyMemAllocatorEx *beneath = &((domain *)context)->beneath;
    if (recent.nodes_come_next && count == 1 &&
        (size_bytes == MIDDLE_NODE_BYTES || size_bytes == BOTTOM_NODE_BYTES)) {
        return map_entered(recent.ledger, size_bytes);
    }
    return beneath->calloc(beneath->ctx, count, size_bytes);
}

/* Mappings begin at a page; what malloc gives does not, it has a header. */
static inline bool may_be_entered(void *block)
{
    return block != NULL && ((uintptr_t)block & (PAGE_BYTES - 1)) == 0;
}

static void *raw_realloc(void *context, void *block, size_t size_bytes)
{
    PyMemAllocatorEx *beneath = &((domain *)context)->beneath;
    void *moved;
    if (may_be_entered(block) && resize_entered(block, size_bytes, &moved)) {
        return moved;
    }
    if (block == NULL && size_bytes == TABLE_BYTES) {
        /* The table of arenas comes before the first of them. */
        ledger *owner = current_ledger();
        if (owner != NULL && !owner->has_table) {
            void *table = map_entered(owner, size_bytes);
            owner->has_table = table != NULL;
            return table;
        }
    }
    return beneath->realloc(beneath->ctx, block, size_bytes);
}

static void raw_free(void *context, void *block)
{
    PyMemAllocatorEx *beneath = &((domain *)context)->beneath;
    if (may_be_entered(block) && unmap_entered(block)) {
        return;
    }
    beneath->free(beneath->ctx, block);
}

static void hook_domain(PyMemAllocatorDomain which, domain *hooked,
                        PyMemAllocatorEx ours)
{
    PyMem_GetAllocator(which, &hooked->beneath);
    ours.ctx = hooked;
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

/* A child must not find the lock held by a thread that it has not: any thread takes it
 * for a moment when it frees, or asks how large a heap is. */
static void before_fork(void)
{
    pthread_mutex_lock(&ledgers.mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&ledgers.mutex);
}

void at_heap_install(void)
{
    if (AT_FREE_THREADED) {
        return; /* CPython's own mimalloc keeps a heap for each thread */
    }
    bool others = PyInterpreterState_Next(PyInterpreterState_Head()) != NULL;
    if (ledgers.main != NULL || others || allocators_are_replaced()) {
        return;
    }
    if (pthread_atfork(before_fork, after_fork, after_fork) != 0) {
        return;
    }
    ledgers.main = PyInterpreterState_Main();
    const char *guard = getenv("ATOLL_HEAP_GUARD");
    ledgers.guards = guard != NULL && *guard != '\0';
    PyObject_GetArenaAllocator(&ledgers.arena_beneath);
    PyObjectArenaAllocator arenas = {NULL, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&arenas);
    PyMemAllocatorEx raw = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free};
    PyMemAllocatorEx heap = {NULL, heap_malloc, heap_calloc, heap_realloc, heap_free};
    hook_domain(PYMEM_DOMAIN_RAW, &ledgers.raw, raw);
    hook_domain(PYMEM_DOMAIN_MEM, &ledgers.memory, heap);
    hook_domain(PYMEM_DOMAIN_OBJ, &ledgers.object, heap);
}

static ledger *take_ledger(int64_t interpreter_id)
{
    pthread_mutex_lock(&ledgers.mutex);
    ledger *taken = find_ledger(interpreter_id);
    if (taken != NULL) {
        unlink_ledger(taken);
    }
    pthread_mutex_unlock(&ledgers.mutex);
    return taken;
}

/* Free what `left` lists, and itself; returns the bytes. */
static size_t drop(ledger *left)
{
    size_t dropped_bytes = 0;
    for (size_t i = 0; i < left->blocks.capacity; i++) {
        void *block = left->blocks.slots[i];
        if (block != NULL) {
            dropped_bytes += malloc_usable_size(block);
            at_megabytes_remove(&ledgers.noted, block);
            give_back_block(block);
        }
    }
    while (left->arenas != NULL) {
        arena *entry = left->arenas;
        left->arenas = entry->next;
        dropped_bytes += entry->size_bytes;
        give_back_mapping(entry->start, entry->size_bytes);
        at_free(entry);
    }
    free_ledger(left);
    return dropped_bytes;
}

size_t at_heap_drop(int64_t interpreter_id)
{
    if (ledgers.main == NULL) {
        return 0;
    }
    ledger *left = take_ledger(interpreter_id); /* NULL where nothing was leaked */
    size_t dropped_bytes = left != NULL ? drop(left) : 0;
    /* What extensions freed and what was dropped here lies in malloc's arenas, where it
     * stays resident until a thread that shares the arena asks for as much. */
    (void)malloc_trim(0);
    return dropped_bytes;
}

int64_t at_heap_bytes(int64_t interpreter_id)
{
    int64_t bytes = -1;
    pthread_mutex_lock(&ledgers.mutex);
    ledger *found = find_ledger(interpreter_id);
    if (found != NULL) {
        bytes =
            (int64_t)found->arena_bytes +
            (int64_t)atomic_load_explicit(&found->block_bytes, memory_order_relaxed);
    }
    pthread_mutex_unlock(&ledgers.mutex);
    return bytes;
}
