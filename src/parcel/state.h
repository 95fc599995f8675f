/* What parcel keeps for each interpreter: its handle types, and the Python objects that
 * the rare paths need. */
#ifndef AT_PARCEL_STATE_H
#define AT_PARCEL_STATE_H

#include <Python.h>
#include <stdatomic.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "parcel/key.h"
#include "parcel/parcel.h"
#include "parcel/spare.h"

enum {
    AT_PARCEL_HANDLES = 24,
    /* From 0 on: ints that Python keeps one of. */
    AT_PARCEL_SMALL_INTS = 256,
};

typedef struct at_parcel_loan at_parcel_loan;

/* Where loans come back to; outlives its interpreter as long as loans are out. */
typedef struct at_parcel_home {
    at_shared shared; /* first */
    /* A stack: pushed by whoever drops the last reference to a lent block, taken as a
     * whole by the interpreter itself. */
    _Atomic(at_parcel_loan *) returned;
    /* The interpreter, to take it. Who pushes does so before it looks at this, and who
     * takes clears this before it looks at the stack, all sequentially consistent: one
     * of the two sees the other. */
    atomic_bool asked;
    /* A hint, as the next: relaxed. What is out, and what lies in the stack. */
    atomic_size_t lent_bytes;
    atomic_size_t returned_bytes;
    atomic_bool closed;    /* nobody takes anything any more */
    atomic_uint collector; /* collector.c's, as the next: who comes to take it */
    atomic_int collector_process;
} at_parcel_home;

/* NULL until it is needed, then fixed. */
typedef _Atomic(PyObject *) at_parcel_late;

typedef struct at_parcel_state {
    int64_t interpreter_id;
    at_parcel_home *home;
    PyTypeObject *view_type; /* a block as a buffer: buffer.c */
    PyObject *small_ints[AT_PARCEL_SMALL_INTS];
    at_spares spare_ints, spare_floats;
    at_spares spare_bytes[AT_SPARE_CLASSES], spare_strs[AT_SPARE_CLASSES];
    at_keys keys;
    at_spares spare_tuples[AT_SPARE_TUPLE_MOST]; /* of length 1, 2, ... */
    /* function or type -> (module's name, name, module's dict): globals that were found
     * under their names; each use looks again */
    PyObject *known_globals;
    at_parcel_late dispatch;     /* copyreg.dispatch_table */
    at_parcel_late reducers;     /* atoll._parcel.REDUCERS: exact type -> function */
    at_parcel_late reduce_type;  /* atoll._parcel.reduce_type */
    at_parcel_late reduce_array; /* atoll._parcel.reduce_array */
    /* atoll._parcel.take_dataclasses: more reducers, once that module is imported */
    at_parcel_late take_dataclasses;
    atomic_bool has_dataclasses; /* they are among the reducers */
    at_parcel_late find_global;  /* atoll._parcel.find_global */
    at_parcel_late name_of;      /* atoll._parcel.name_of */
    /* atoll._parcel.known's, for known.c: */
    at_parcel_late known;          /* dict _known: functions and types by value */
    at_parcel_late received;       /* dict _received: token -> what was made here */
    at_parcel_late make_received;  /* makes one */
    at_parcel_late not_shareable;  /* NotShareableError */
    at_parcel_late pickling_error; /* the last: with it all are there */
    size_t handle_count;
    struct {
        PyTypeObject *type;
        const at_parcel_handle *handle;
    } handles[AT_PARCEL_HANDLES];
} at_parcel_state;

/* The state of the caller's interpreter, made on first use; NULL with an exception
 * set. */
at_parcel_state *at_parcel_state_get(void) AT_ATTACHED;

/* Import what the rare paths need, once. 0, or -1 with an exception set. */
int at_parcel_state_complete(at_parcel_state *state) AT_ATTACHED;

#endif
