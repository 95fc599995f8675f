/* Buffers in parcels; see buffer.h.
 *
 * A loan is a Py_buffer that its own interpreter holds for a block that others look at.
 * When the last of them lets go, on whatever thread, the loan is pushed onto the stack
 * of its home, which releases it when it next packs or unpacks anything. One that does
 * neither for long is asked to: by a pending call, which it runs between two bytecodes.
 * For one that runs none, since it waits in C, a thread comes (collector.h).
 */
#define PY_SSIZE_T_CLEAN
#include "parcel/buffer.h"

#include <string.h>

#include "base/memory.h"
#include "interp/compat.h"
#include "parcel/collector.h"

struct at_parcel_loan {
    at_parcel_loan *next;
    at_parcel_home *home;
    Py_buffer view;
};

/* Runs in main, between two bytecodes. */
AT_UNCHECKED static int take_when_asked(void *argument)
{
    at_parcel_home *home = argument;
    /* Also where everything was taken between the push and the asking. */
    atomic_store(&home->asked, false);
    at_parcel_take_returned(home);
    at_shared_unref(&home->shared);
    return 0;
}

/* Ask main, the only one that lends, to take what came back. ctx: any */
static void ask_home(at_parcel_home *home)
{
    PyInterpreterState *main = PyInterpreterState_Main();
    if (main == NULL || atomic_load(&home->closed) || atomic_load(&home->asked) ||
        atomic_exchange(&home->asked, true)) {
        return;
    }
    at_shared_ref(&home->shared);
    /* By whichever of its threads runs; by the main thread where that cannot be said.
     */
    int refused = _PyEval_AddPendingCall != NULL
                      ? _PyEval_AddPendingCall(main, take_when_asked, home, 0)
                      : Py_AddPendingCall(take_when_asked, home);
    if (refused != 0) { /* its queue is full: the next that comes back asks again */
        atomic_store(&home->asked, false);
        at_shared_unref(&home->shared);
    }
}

static void loan_return(void *context)
{
    at_parcel_loan *loan = context;
    at_parcel_home *home = loan->home;
    /* Until it is pushed: then its home may take it at once, and let go of itself. */
    at_shared_ref(&home->shared);
    size_t size_bytes = (size_t)loan->view.len;
    size_bytes += atomic_fetch_add_explicit(&home->returned_bytes, size_bytes,
                                            memory_order_relaxed);
    at_parcel_loan *head = atomic_load_explicit(&home->returned, memory_order_relaxed);
    do {
        loan->next = head;
    } while (!atomic_compare_exchange_weak(&home->returned, &head, loan));
    /* The loan's reference to its home goes with it, when it is taken; where nobody
     * takes it any more the home must stay, for the loan lies in its stack. */
    if (size_bytes >= AT_PARCEL_RETURNED_BYTES) {
        ask_home(home);
        at_parcel_collect_later(home);
    }
    at_shared_unref(&home->shared);
}

void at_parcel_take_returned(at_parcel_home *home)
{
    if (atomic_load(&home->returned) == NULL) {
        return;
    }
    /* What comes back from here on may ask again. */
    atomic_store(&home->asked, false);
    at_parcel_loan *loan =
        atomic_exchange_explicit(&home->returned, NULL, memory_order_acquire);
    while (loan != NULL) {
        at_parcel_loan *next = loan->next;
        size_t size_bytes = (size_t)loan->view.len;
        atomic_fetch_sub_explicit(&home->returned_bytes, size_bytes,
                                  memory_order_relaxed);
        atomic_fetch_sub_explicit(&home->lent_bytes, size_bytes, memory_order_relaxed);
        PyBuffer_Release(&loan->view);
        at_shared_unref(&loan->home->shared);
        at_free(loan);
        loan = next;
    }
}

static at_block *lend(at_parcel_state *state, PyObject *exporter)
{
    at_parcel_loan *loan = at_calloc(1, sizeof *loan);
    if (loan == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (PyObject_GetBuffer(exporter, &loan->view, PyBUF_FULL_RO) < 0) {
        at_free(loan);
        return NULL;
    }
    at_block *block =
        at_block_borrow(loan->view.buf, (size_t)loan->view.len, loan_return, loan);
    if (block == NULL) {
        PyBuffer_Release(&loan->view);
        at_free(loan);
        PyErr_NoMemory();
        return NULL;
    }
    loan->home = (at_parcel_home *)at_shared_ref(&state->home->shared);
    atomic_fetch_add_explicit(&loan->home->lent_bytes, block->size_bytes,
                              memory_order_relaxed);
    return block;
}

at_block *at_parcel_block_of(at_parcel_state *state, PyObject *exporter,
                             const Py_buffer *view)
{
    if (view->readonly && at_parcel_lends(state, (size_t)view->len)) {
        return lend(state, exporter);
    }
    size_t size_bytes = (size_t)view->len;
    at_block *block = at_block_new(size_bytes);
    if (block == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    block->readonly = view->readonly;
    if (size_bytes < AT_PARCEL_DETACHED_BYTES) {
        memcpy(block->data, view->buf, size_bytes);
    } else {
        at_parcel_expect(block->data, size_bytes);
        Py_BEGIN_ALLOW_THREADS memcpy(block->data, view->buf, size_bytes);
        Py_END_ALLOW_THREADS
    }
    return block;
}

typedef struct block_view {
    PyObject_HEAD at_block *block;
} block_view;

static int view_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    at_block *block = ((block_view *)self)->block;
    return PyBuffer_FillInfo(view, self, block->data, (Py_ssize_t)block->size_bytes,
                             block->readonly, flags);
}

static Py_ssize_t view_length(PyObject *self)
{
    return (Py_ssize_t)((block_view *)self)->block->size_bytes;
}

static void view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_shared_unref(&((block_view *)self)->block->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot view_slots[] = {
    {Py_tp_doc, "Memory that came in a message, as a buffer of bytes."},
    {Py_tp_dealloc, view_dealloc},
    {Py_bf_getbuffer, view_getbuffer},
    {Py_sq_length, view_length},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "atoll._atoll.BlockView",
    .basicsize = sizeof(block_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

PyTypeObject *at_parcel_view_type_new(void)
{
    return (PyTypeObject *)PyType_FromSpec(&view_spec);
}

PyObject *at_parcel_view_new(PyTypeObject *type, at_block *block)
{
    block_view *view = (block_view *)type->tp_alloc(type, 0);
    if (view == NULL) {
        return NULL;
    }
    view->block = (at_block *)at_shared_ref(&block->shared);
    return (PyObject *)view;
}
