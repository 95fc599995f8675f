/* An interpreter of ours, and the jobs that are sent to it.
 *
 * Each has one owner thread (owner.h) whose thread state is resident: every other
 * thread talks to it by message. Its life is a small state machine,
 *
 *     NEW → IDLE ⇄ RUNNING → CLOSING → CLOSED
 *        ↘ FAILED                    ↘ LEFT
 *
 * and only the owner moves it on, but for the step to CLOSING, which anyone may take
 * once. In CLOSING no job is accepted any more; those queued are still run until the
 * deadline. LEFT is an interpreter that could not be destroyed because something still
 * runs in it: CPython would abort the process ("not the last thread"), so it is given
 * up, with a report.
 *
 * Interpreters are named by CPython's ID, which is never used again; a pointer to one
 * of these is a reference and stays good after the close.
 *
 * Locks: `lock` guards the queue and what is marked so; nothing is called, woken,
 * allocated or freed under it.
 */
#ifndef AT_INTERP_INTERPRETER_H
#define AT_INTERP_INTERPRETER_H

#include <Python.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "interp/job.h"
#include "sys/thread.h"

typedef enum at_interpreter_state {
    AT_INTERPRETER_NEW,
    AT_INTERPRETER_IDLE,
    AT_INTERPRETER_RUNNING,
    AT_INTERPRETER_CLOSING,
    AT_INTERPRETER_CLOSED,
    AT_INTERPRETER_LEFT,
    AT_INTERPRETER_FAILED,
} at_interpreter_state;

/* How far the owner is with the job that it runs. */
typedef enum at_job_phase {
    AT_JOB_BEFORE, /* taken; its code has not begun */
    AT_JOB_INSIDE, /* its code runs */
    AT_JOB_AFTER,  /* its code is over */
} at_job_phase;

typedef struct at_interpreter {
    at_shared shared;
    struct at_interpreter *next; /* guarded: the runtime's lock */
    char *name;                  /* fixed after init */
    at_bytes start;              /* for atoll._remote.start(); fixed after init */
    at_bytes path;               /* sys.path, marshalled; fixed after init */

    /* Fixed when the state leaves NEW. */
    int64_t id;
    PyInterpreterState *interpreter; /* for the owner, and for visitors */
    unsigned long owner_ident;       /* threading.get_ident() of the owner */

    atomic_uint state;  /* the release of each step pairs with the acquire of its
                         * readers */
    atomic_uint bell;   /* changed by each post and by the step to CLOSING; its release
                         * pairs with the owner's acquire before it parks */
    at_wake_note rung;  /* of the last change of `bell` */
    at_spin jobs;       /* the owner's waits for the next job */
    at_spin calls;      /* others' waits for the end of one */
    atomic_uint gate;   /* visitors inside; the top bit says that nobody may come in */
    atomic_int handles; /* objects of Python that name it, in all interpreters */

    pthread_mutex_t lock;
    at_job *first;             /* guarded: lock */
    at_job *last;              /* guarded: lock */
    at_job *running;           /* guarded: lock; a reference */
    at_job_phase phase;        /* guarded: lock; of `running`. Moved on under `turn`
                                * too: who has that sees it stay */
    PyMutex turn;              /* attached threads only. A GIL would do, where there is
                                * one */
    PyObject *pending;         /* guarded: turn; the class that is to be raised when
                                * `running` begins, or NULL */
    int64_t close_deadline_ns; /* guarded: lock */
    bool ending;               /* guarded: lock; the owner destroys it */
    bool frozen;               /* guarded: lock; it must not be destroyed any more */
    bool thread_taken;         /* guarded: lock; somebody joins or detaches `thread` */

    at_thread thread; /* the owner's, started by at_interpreter_new */
    at_job *end;      /* over when the state is CLOSED or LEFT; fixed after init */
    at_bytes report;  /* writer: the owner; what FAILED or LEFT says to the user */
} at_interpreter;

/* Create an interpreter and wait until it is IDLE. `path` and `start` are what the
 * owner gives to sys.path and to atoll._remote.start() before the first job. ctx:
 * detached owns: the caller gets one reference in `*result` errs: AT_ENOMEM, AT_EAGAIN,
 * AT_EBUSY while the process exits; AT_EINVALID with the remote traceback in `report`
 * when the interpreter could not start */
int at_interpreter_new(const char *name, at_bytes *path, at_bytes *start,
                       at_interpreter **result, at_fault *fault) AT_DETACHED;

/* ctx: any; NULL is allowed */
at_interpreter *at_interpreter_ref(at_interpreter *interpreter);
void at_interpreter_unref(at_interpreter *interpreter);

/* The state, in any context; it may have moved on by the time it is looked at. */
at_interpreter_state at_interpreter_state_now(const at_interpreter *interpreter);

/* "idle" for AT_INTERPRETER_IDLE. */
const char *at_interpreter_state_name(at_interpreter_state state);

/* Queue `job` behind those already there. `waits` says that the calling thread will
 * wait for it: then a job that could never run, because the code that waits is itself
 * run, at first or second hand, by a job of the same interpreter, is refused. ctx:  any
 * owns: the queue takes its own reference
 * errs: AT_ECLOSED, AT_EBUSY (the deadlock) */
int at_interpreter_post(at_interpreter *interpreter, at_job *job, bool waits,
                        at_fault *fault);

/* The same for a job that will be waited for, if nothing runs there or is queued.
 * errs: AT_ECLOSED, AT_EBUSY */
int at_interpreter_post_alone(at_interpreter *interpreter, at_job *job,
                              at_fault *fault);

/* Raise the exception class `exception_name` ("builtins:KeyboardInterrupt") in the code
 * of `job`, where it runs, or (NULL) of the job that runs now; 0 also where none does.
 * Returns at once: a helper thread attaches to the interpreter for it, because CPython
 * reaches only threads of the caller's interpreter. A job that has been taken and whose
 * code has not begun fails as it begins; one that is over by then, and the one after
 * it, are left alone.
 * ctx:  any
 * errs: AT_EAGAIN, AT_ENOMEM, AT_ECLOSED */
int at_interpreter_interrupt(at_interpreter *interpreter, at_job *job,
                             const char *exception_name, at_fault *fault);

/* Take the step to CLOSING: refuse new jobs, and end when those queued have run, or at
 * the deadline. Does not wait. A second call can only bring the deadline nearer.
 * ctx: any */
void at_interpreter_close_begin(at_interpreter *interpreter, int64_t deadline_ns);

/* The deadline of the close has come: end the waits at channels and locks of the code
 * that still runs, and interrupt it.
 * ctx:  any
 * errs: as at_interpreter_interrupt() */
int at_interpreter_close_hurry(at_interpreter *interpreter, at_fault *fault);

/* Wait until it is CLOSED or LEFT.
 * ctx:  detached, not on a thread of this interpreter
 * errs: AT_ETIMEOUT; AT_EINTERRUPTED when a signal handler ran */
int at_interpreter_close_wait(at_interpreter *interpreter,
                              int64_t deadline_ns) AT_DETACHED;

/* Have the end of a closing interpreter waited for by nobody in particular: a helper
 * thread puts away what it leaves.
 * ctx:  any
 * errs: AT_EAGAIN, AT_ENOMEM */
int at_interpreter_reap(at_interpreter *interpreter, at_fault *fault);

/* Keep the PyInterpreterState alive: true, and then at_interpreter_leave() must follow,
 * or false when it is closing.
 * ctx: any */
bool at_interpreter_visit(at_interpreter *interpreter);
void at_interpreter_leave(at_interpreter *interpreter);

/* Refuse visitors from now on and wait for those inside.
 * ctx:  detached, the owner
 * errs: AT_ETIMEOUT */
int at_interpreter_gate_close(at_interpreter *interpreter,
                              int64_t deadline_ns) AT_DETACHED;

/* The calling thread is the owner of `interpreter`, which it borrows. */
void at_interpreter_set_of_thread(at_interpreter *interpreter);

#endif
