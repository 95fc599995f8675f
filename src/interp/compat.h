/* What differs between CPython 3.13, 3.14 and 3.15, in one place.
 *
 * Three groups: functions that CPython exports for its own extension modules but
 * declares in internal headers only (declared here again, checked with `nm -D` on each
 * version), constants that came later, and the switches that the rest of the code asks
 * for by name instead of by version number.
 */
#ifndef AT_INTERP_COMPAT_H
#define AT_INTERP_COMPAT_H

#include <Python.h>
#include <stdatomic.h>

#if PY_VERSION_HEX < 0x030d0000
#error "atoll needs CPython 3.13 or newer"
#endif

/* Modules described by a PySlot array (PEP 793): PyModExport_NAME beside PyInit_NAME.
 */
#if PY_VERSION_HEX >= 0x030f0000
#define AT_HAVE_MODULE_EXPORT 1
#else
#define AT_HAVE_MODULE_EXPORT 0
#endif

/* 3.13 keeps the first thread state of an interpreter in the interpreter itself and
 * takes it again whenever the list of thread states is empty; it is put back to its
 * initial values after it left the list, without the lock. Two threads that come and go
 * while no other is inside corrupt it ("init_threadstate: thread state already
 * initialized"). An interpreter of atoll's has its owner's; others get one that stays,
 * an anchor. */
#if PY_VERSION_HEX < 0x030e0000
#define AT_NEEDS_ANCHOR 1
#else
#define AT_NEEDS_ANCHOR 0
#endif

/* CPython's C handler of every signal sets this bit in the eval_breaker of the main
 * thread's state (_PY_SIGNALS_PENDING_BIT of pycore_ceval.h); the field is public. */
#define AT_SIGNALS_PENDING_BIT (1U << 1)

/* PyThreadState_SetAsyncExc() sets this one in the state of the thread for which it has
 * left an exception (_PY_ASYNC_EXCEPTION_BIT), or has taken one back. */
#define AT_ASYNC_EXCEPTION_BIT (1U << 3)

/* Another thread wants the GIL of the one whose eval_breaker has this bit
 * (_PY_GIL_DROP_REQUEST_BIT): who gives the GIL up then waits for it to be taken. */
#define AT_GIL_WANTED_BIT (1U << 0)

/* The word of `state` that the bits are in: the low half on the byte order that we run
 * on. */
static inline const atomic_uint *at_compat_eval_breaker(const PyThreadState *state)
{
    return (const atomic_uint *)(const void *)&state->eval_breaker;
}

/* The exception that was left for the thread of `state`, a reference to its class, or
 * NULL; there is none afterwards. As CPython does it between two bytecodes. ctx:
 * attached, the thread of `state` */
static inline PyObject *at_compat_take_async_exception(PyThreadState *state)
{
    _Atomic(uintptr_t) *bits = (_Atomic(uintptr_t) *)(void *)&state->eval_breaker;
    if ((atomic_load(bits) & AT_ASYNC_EXCEPTION_BIT) == 0) {
        return NULL;
    }
    atomic_fetch_and(bits, ~(uintptr_t)AT_ASYNC_EXCEPTION_BIT);
    return atomic_exchange((_Atomic(PyObject *) *)(void *)&state->async_exc, NULL);
}

#ifdef Py_GIL_DISABLED
#define AT_FREE_THREADED 1
#else
#define AT_FREE_THREADED 0
#endif

/* Of each int from -5 to below this one there is one object alone. */
#if PY_VERSION_HEX < 0x030f0000
#define AT_SMALL_INTS_END 257
#else
#define AT_SMALL_INTS_END 1025
#endif

/* Forget the hash of a bytes object. The field is on its way out: its name warns. */
static inline void at_compat_bytes_forget_hash(PyObject *bytes)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1;
#pragma GCC diagnostic pop
}

/* The same for a tuple, which remembers its hash from 3.14 on. */
static inline void at_compat_tuple_forget_hash(PyObject *tuple)
{
#if PY_VERSION_HEX >= 0x030e0000
    ((PyTupleObject *)tuple)->ob_hash = -1;
#else
    (void)tuple;
#endif
}

/* Exported by libpython for its shared extension modules (_interpreters and
 * _testinternalcapi), so they stay; declared in internal headers only. Weak: where one
 * is missing the caller does without and says so. */

/* The interpreter with this ID, or NULL with InterpreterNotFoundError set. */
extern PyInterpreterState *_PyInterpreterState_LookUpID(int64_t id)
    __attribute__((weak));

/* 0, or nonzero when the queue of that interpreter is full. ctx: any */
extern int _PyEval_AddPendingCall(PyInterpreterState *interpreter,
                                  int (*function)(void *), void *argument, int flags)
    __attribute__((weak));

/* Py_mod_multiple_interpreters is slot 3 in every version; 3.15 gave it a second number
 * and takes both. */
static inline int at_compat_is_multiple_interpreters(int slot)
{
    return slot == 3 || slot == Py_mod_multiple_interpreters;
}

#endif
