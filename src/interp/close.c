/* Closing; see close.h.
 *
 * Py_EndInterpreter() joins non-daemon threads without a deadline and aborts the
 * process when a thread state is left. So everything it would wait for is done before,
 * with a deadline, and it is called only when nothing but the owner's thread state is
 * there.
 *
 * `ending` and `frozen` exclude each other: who wants to make a thread state in a
 * closing interpreter (freeze) must know that the owner will not destroy it meanwhile.
 */
#include "interp/close.h"

#include <stdio.h>

#include "base/memory.h"
#include "chan/peer.h"
#include "interp/attach.h"
#include "interp/extension.h"
#include "interp/forget.h"
#include "interp/remedy.h"
#include "sys/clock.h"
#include "sys/park.h"

enum { NS_PER_MS = 1000000 };

/* However late the close is, the interpreter's own functions get this long. */
static const int64_t grace_ns = 1000 * (int64_t)NS_PER_MS;

static int64_t close_deadline(at_interpreter *interpreter)
{
    int64_t least_ns = at_clock_deadline(grace_ns);
    (void)pthread_mutex_lock(&interpreter->lock);
    int64_t deadline_ns = interpreter->close_deadline_ns;
    (void)pthread_mutex_unlock(&interpreter->lock);
    return deadline_ns > least_ns ? deadline_ns : least_ns;
}

static void report(at_interpreter *interpreter, const char *text)
{
    if (interpreter->report.size > 0) {
        (void)at_bytes_append(&interpreter->report, "; ", 2);
    }
    (void)at_bytes_append(&interpreter->report, text, strlen(text));
}

/* atoll._remote.finish(): threads, atexit functions, event loops. */
static void finish_python(at_interpreter *interpreter, int64_t deadline_ns) AT_ATTACHED
{
    PyObject *remote = PyImport_ImportModule("atoll._remote");
    PyObject *left = remote != NULL ? PyObject_CallMethod(remote, "finish", "L",
                                                          (long long)deadline_ns)
                                    : NULL;
    const char *text = left != NULL ? PyUnicode_AsUTF8(left) : NULL;
    if (text == NULL) {
        PyErr_WriteUnraisable(remote);
    } else if (text[0] != '\0') {
        report(interpreter, text);
    }
    Py_XDECREF(left);
    Py_XDECREF(remote);
}

/* After the atexit functions, which may still need threads of extensions to come in. */
static void finish_extensions(at_interpreter *interpreter,
                              int64_t deadline_ns) AT_ATTACHED
{
    at_extensions_left left;
    at_extensions_prepare_close(interpreter->id, deadline_ns, &left);
    if (left.foreign_thread_count > 0) {
        char text[96];
        (void)snprintf(text, sizeof text, "%zu thread%s of extensions",
                       left.foreign_thread_count,
                       left.foreign_thread_count == 1 ? "" : "s");
        report(interpreter, text);
    }
}

/* Is there a thread state besides the caller's? Looks at the head of the list and at
 * the caller's own neighbour: where no GIL keeps the others still, one of them may be
 * freed while the list is walked. */
static bool other_threads(at_interpreter *interpreter) AT_ATTACHED
{
    PyThreadState *own = PyThreadState_Get();
    return PyInterpreterState_ThreadHead(interpreter->interpreter) != own ||
           PyThreadState_Next(own) != NULL;
}

static bool ending_begin(at_interpreter *interpreter)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    interpreter->ending = !interpreter->frozen;
    bool ending = interpreter->ending;
    (void)pthread_mutex_unlock(&interpreter->lock);
    return ending;
}

static bool freeze_begin(at_interpreter *interpreter)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    interpreter->frozen = !interpreter->ending;
    bool frozen = interpreter->frozen;
    (void)pthread_mutex_unlock(&interpreter->lock);
    return frozen;
}

/* What is left is a thread that atoll cannot join: one of _thread.start_new_thread(),
 * or of an extension that made its own thread state. CPython tells nobody when a thread
 * state goes, so this is the one place that has to look again and again. */
static bool wait_for_threads(at_interpreter *interpreter, PyThreadState *thread_state,
                             int64_t deadline_ns) AT_ATTACHED
{
    int64_t pause_ns = NS_PER_MS / 8;
    for (;;) {
        bool others = other_threads(interpreter);
        int64_t now_ns = at_clock_ns();
        if (!others || now_ns >= deadline_ns) {
            return others;
        }
        int64_t until_ns = now_ns + pause_ns;
        pause_ns = pause_ns < 50 * (int64_t)NS_PER_MS ? pause_ns * 2 : pause_ns;
        atomic_uint never = 0;
        (void)at_detach();
        (void)at_park_wait(&never, 0, until_ns < deadline_ns ? until_ns : deadline_ns,
                           AT_PARK_PRIVATE);
        at_attach(thread_state);
    }
}

bool at_close_interpreter(at_interpreter *interpreter, PyThreadState *thread_state)
{
    int64_t deadline_ns = close_deadline(interpreter);
    /* Threads that wait at a channel or a lock are woken: they have to end. */
    at_channels_interpreter_closing(interpreter->id);
    at_attach(thread_state);
    finish_python(interpreter, deadline_ns);
    finish_extensions(interpreter, deadline_ns);
    (void)at_detach();
    if (at_interpreter_gate_close(interpreter, deadline_ns) < 0) {
        report(interpreter, "a thread that came in to interrupt it is still there");
        return false;
    }
    at_attach(thread_state);
    bool told = interpreter->report.size > 0;
    bool others = told ? other_threads(interpreter)
                       : wait_for_threads(interpreter, thread_state, deadline_ns);
    others = others && !at_remedy_is_left_out(AT_REMEDY_LAST_THREAD);
    if (others || !ending_begin(interpreter)) {
        if (!told) {
            report(interpreter, "threads that Python's threading does not know");
        }
        (void)at_detach();
        return false;
    }
    interpreter->report.size = 0;
    at_attach_end(thread_state);
    return true;
}

/* ---- the process exits ---------------------------------------------------------- */

typedef struct freezer {
    at_interpreter *interpreter;
    atomic_uint holds; /* the GIL is taken; the release pairs with at_close_freeze */
} freezer;

static void freezer_main(void *data) AT_UNCHECKED
{
    freezer *self = data;
    (void)at_attach_new(self->interpreter->interpreter);
    atomic_store_explicit(&self->holds, 1, memory_order_release);
    at_park_wake(&self->holds, AT_PARK_ALL, AT_PARK_PRIVATE);
    atomic_uint never = 0;
    for (;;) {
        (void)at_park_wait(&never, 0, AT_NEVER, AT_PARK_PRIVATE);
    }
}

bool at_close_freeze(at_interpreter *interpreter, int64_t deadline_ns)
{
    bool held = false;
    /* Never freed: its thread lives as long as the process. */
    freezer *self = at_calloc(1, sizeof *self);
    at_thread thread;
    if (self != NULL && freeze_begin(interpreter)) {
        self->interpreter = at_interpreter_ref(interpreter);
        if (at_thread_start(&thread, "atoll-freeze", freezer_main, self, NULL) == 0) {
            at_thread_detach(&thread);
            while (atomic_load_explicit(&self->holds, memory_order_acquire) == 0) {
                if (at_park_wait(&self->holds, 0, deadline_ns, AT_PARK_PRIVATE) ==
                    AT_ETIMEOUT) {
                    break;
                }
            }
            held = atomic_load_explicit(&self->holds, memory_order_acquire) != 0;
        }
    }
    at_compat_forget_interpreter(interpreter->interpreter);
    return held;
}
