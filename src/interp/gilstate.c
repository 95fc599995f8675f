/* Foreign threads come in; see gilstate.h.
 *
 * What an Ensure did must be undone by the Release that matches it, and the only thing
 * that passes between the two is a PyGILState_STATE of which the caller may believe
 * that it is 0 or 1 (Rust keeps other values for itself). So each thread has a stack of
 * frames. Ensure and Release nest, on one thread, across all interpreters.
 *
 * Native frames, where CPython's own function does what is right because this thread's
 * last thread state is one of the interpreter in question, only need counting: the
 * state that the caller gives back is CPython's. They are folded into one frame, so the
 * depth grows only where a thread goes from one interpreter to another.
 */
#include "interp/gilstate.h"

#include <unistd.h>

#include "base/memory.h"

typedef enum frame_kind {
    FRAME_NATIVE,  /* `nested` calls of CPython's own Ensure */
    FRAME_CREATED, /* a thread state made here, deleted on release */
    FRAME_RESUMED, /* a created state of a frame below, attached again */
} frame_kind;

typedef struct frame {
    struct frame *below;
    frame_kind kind;
    size_t nested;
    at_slot *slot;
    PyThreadState *state;    /* what was attached */
    PyThreadState *previous; /* what was attached before it, or NULL */
} frame;

static _Thread_local frame *frames; /* the top */

static bool belongs(PyThreadState *state, const at_slot *slot)
{
    return state != NULL &&
           PyInterpreterState_GetID(PyThreadState_GetInterpreter(state)) ==
               slot->interpreter_id;
}

static frame *push(frame_kind kind, at_slot *slot)
{
    frame *top = at_alloc(sizeof *top);
    if (top == NULL) {
        Py_FatalError("atoll: out of memory in PyGILState_Ensure");
    }
    *top = (frame){.below = frames, .kind = kind, .slot = slot};
    frames = top;
    return top;
}

static frame pop(void)
{
    frame *top = frames;
    frame popped = *top;
    frames = popped.below;
    at_free(top);
    return popped;
}

static void count_native(at_slot *slot)
{
    if (frames == NULL || frames->kind != FRAME_NATIVE) {
        (void)push(FRAME_NATIVE, slot);
    }
    frames->nested++;
}

/* A thread state that a frame below made for the interpreter and that is detached now,
 * or NULL: the thread is inside already, and must not be turned away. */
static PyThreadState *state_below(const at_slot *slot)
{
    for (const frame *each = frames; each != NULL; each = each->below) {
        if (each->kind == FRAME_CREATED && each->slot == slot) {
            return each->state;
        }
    }
    return NULL;
}

static void attach(frame *top, PyThreadState *state)
{
    top->state = state;
    top->previous = PyThreadState_GetUnchecked();
    if (top->previous != NULL) {
        (void)PyThreadState_Swap(state);
    } else {
        PyEval_RestoreThread(state);
    }
}

/* The interpreter ends. Let go of whatever GIL this thread holds, or its own
 * interpreter could never end either. */
static void sleep_for_ever(at_slot *slot)
{
    atomic_fetch_add_explicit(&slot->hung_count, 1, memory_order_acq_rel);
    if (PyThreadState_GetUnchecked() != NULL) {
        (void)PyEval_SaveThread();
    }
    for (;;) {
        (void)pause();
    }
}

PyGILState_STATE at_gilstate_ensure(at_slot *slot)
{
    if (belongs(PyGILState_GetThisThreadState(), slot)) {
        count_native(slot);
        return PyGILState_Ensure();
    }
    PyThreadState *state = state_below(slot);
    if (state != NULL) {
        attach(push(FRAME_RESUMED, slot), state);
        return PyGILState_UNLOCKED;
    }
    if (!at_slot_enter(slot)) {
        sleep_for_ever(slot);
    }
    state = PyThreadState_New(slot->interpreter);
    if (state == NULL) {
        Py_FatalError("atoll: out of memory for the thread state of a foreign thread");
    }
    attach(push(FRAME_CREATED, slot), state);
    return PyGILState_UNLOCKED;
}

static void leave_created(const frame *top)
{
    /* Runs destructors, which may come back through ensure: this state is still bound
     * to the thread, so that nests natively. */
    PyThreadState_Clear(top->state);
    if (top->previous != NULL) {
        (void)PyThreadState_Swap(top->previous);
        PyThreadState_Delete(top->state);
    } else {
        PyThreadState_DeleteCurrent();
    }
    at_slot_leave(top->slot);
}

static void leave_resumed(const frame *top)
{
    if (top->previous != NULL) {
        (void)PyThreadState_Swap(top->previous);
    } else {
        (void)PyEval_SaveThread();
    }
}

void at_gilstate_release(PyGILState_STATE state)
{
    if (frames == NULL) {
        /* Ensured through CPython's own function (dlsym), released through ours. */
        PyGILState_Release(state);
    } else if (frames->kind == FRAME_NATIVE) {
        if (--frames->nested == 0) {
            (void)pop();
        }
        PyGILState_Release(state);
    } else {
        frame leaving = pop();
        if (leaving.kind == FRAME_CREATED) {
            leave_created(&leaving);
        } else {
            leave_resumed(&leaving);
        }
    }
}

int at_gilstate_check(at_slot *slot)
{
    return belongs(PyThreadState_GetUnchecked(), slot);
}
