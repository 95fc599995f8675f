/* The record of one interpreter that imports extensions, and its place in the table.
 *
 * A hook that CPython's API gives no argument (PyGILState_Ensure(void)) must know its
 * interpreter all the same. So there is a fixed table of slots, and for each slot a set
 * of compiled thunks that know its number (thunks.h). A slot that was given to an
 * interpreter is given to another one only when no image of the first is mapped any
 * more: a GOT somewhere may still hold its thunks.
 *
 * The gate counts the foreign threads inside the interpreter and closes behind the
 * last. One word, so that entering is one compare-and-swap: the top bit says closing,
 * the rest is the count. A thread that is let in may use `interpreter`, because whoever
 * destroys it waits first until the gate is empty.
 */
#ifndef AT_INTERP_SLOT_H
#define AT_INTERP_SLOT_H

#include <Python.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "elf/image.h"

#define AT_SLOT_COUNT 512

typedef enum at_slot_use {
    AT_SLOT_FREE,
    AT_SLOT_LIVE,
    AT_SLOT_RETIRED, /* its interpreter is gone, its images stay mapped for ever */
} at_slot_use;

typedef struct at_slot {
    at_slot_use use;        /* guarded: the table's lock */
    int64_t interpreter_id; /* fixed while live */
    /* Fixed while live. For a thread that is attached to it, or inside the gate. */
    PyInterpreterState *interpreter;
    at_image_space *space;    /* fixed while live */
    PyThreadState *anchor;    /* or NULL; see compat.h. For prepare_close alone */
    atomic_uint gate;         /* the release of a leave pairs with the wait's acquire */
    atomic_bool disowned;     /* nobody will say when its interpreter is gone */
    atomic_size_t hung_count; /* threads that came too late and sleep for ever */
    pthread_mutex_t lock;     /* guards what follows; nothing is called under it */
    void (**exit_functions)(void);
    size_t exit_count;
    size_t exit_capacity;
    void **blocks; /* raw memory that the images point to; freed when they are gone */
    size_t block_count;
    size_t block_capacity;
} at_slot;

/* The table; thunk number i belongs to at_slots[i]. */
extern at_slot at_slots[AT_SLOT_COUNT];

/* The live slot of interpreter `interpreter_id`, or NULL.
 * ctx: any */
at_slot *at_slot_find(int64_t interpreter_id);

/* The IDs of the live slots that are disowned; returns how many. ctx: any */
size_t at_slot_list_disowned(int64_t interpreter_ids[AT_SLOT_COUNT]);

/* Make the slot of that interpreter the caller's to retire, if it is disowned still.
 * False when another thread was quicker. ctx: any */
bool at_slot_take_disowned(at_slot *slot, int64_t interpreter_id);

/* A free slot, now live and the caller's to fill, or NULL when all are in use. The gate
 * is open and `space` NULL. ctx: any */
at_slot *at_slot_take(int64_t interpreter_id, PyInterpreterState *interpreter);

/* Give the slot back: for another interpreter, or (`retire`) to nobody.
 * ctx: any; no thread is inside the gate unless `retire` */
void at_slot_give(at_slot *slot, bool retire);

/* The number of the slot: its thunks' number. */
size_t at_slot_index(const at_slot *slot);

/* Let a foreign thread in; false when closing, and then the caller is not inside.
 * ctx: any */
bool at_slot_enter(at_slot *slot);
void at_slot_leave(at_slot *slot);

/* How many foreign threads are inside. ctx: any */
size_t at_slot_inside_count(const at_slot *slot);

/* Is the gate closing (or has been closed)? ctx: any */
bool at_slot_is_closing(const at_slot *slot);

/* Close the gate: nobody enters from now on. ctx: any */
void at_slot_close(at_slot *slot);

/* Wait until nobody is inside a closed gate; returns how many still are at the deadline
 * (at_clock_ns() time). ctx: detached */
size_t at_slot_wait_empty(at_slot *slot, int64_t deadline_ns) AT_DETACHED;

/* Remember a function for the close of the interpreter. errs: AT_ENOMEM. ctx: any */
int at_slot_add_exit(at_slot *slot, void (*function)(void));

/* The last function that was added, taken off, or NULL. ctx: any */
void (*at_slot_take_exit(at_slot *slot))(void);

/* Keep `block` (at_alloc) until the images are gone. errs: AT_ENOMEM. ctx: any */
int at_slot_own_block(at_slot *slot, void *block);

#endif
