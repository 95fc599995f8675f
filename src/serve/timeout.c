/* Requests that take too long: those that wait are told to Python, which cancels their
 * tasks; one that keeps the loop to itself is interrupted from another thread.
 *
 * An interrupt is an exception that CPython raises between two bytecodes of the loop's
 * thread, and so it could come when what it was meant for is over: an event of the loop
 * would be lost. So it is sent only to a loop that was asked for a batch and has begun
 * none for a while. For the first step of a request, which runs below `run` in
 * request.c, the rest is excluded too: when the step is over the exception is
 * withdrawn, with no bytecode in between. Later steps run from the loop's own code;
 * should one end at that very moment, the loop logs the exception (asyncio), or it is
 * raised in the next task that runs (uvloop).
 */
#include "serve/timeout.h"

#include "serve/both.h"
#include "sys/clock.h"

int at_timeout_prepare(at_worker *worker)
{
    worker->timeout_class = at_serve_timeout_class();
    worker->loop_ident = PyThread_get_thread_ident();
    return worker->timeout_class != NULL ? 0 : -1;
}

bool at_timeout_interrupt(at_worker *worker, uint64_t batches)
{
    /* With the GIL held here, the loop's thread does not move on. */
    if (worker->reactor == NULL || at_reactor_batches(worker->reactor) != batches) {
        return false;
    }
    atomic_store(&worker->interrupted, true);
    return PyThreadState_SetAsyncExc(worker->loop_ident, worker->timeout_class) == 1;
}

void at_timeout_withdraw(at_worker *worker)
{
    atomic_store(&worker->interrupted, false);
    (void)PyThreadState_SetAsyncExc(worker->loop_ident, NULL);
}

/* Since when the request has had its time anew. */
static int64_t since(const at_request *request)
{
    return request->late_ns != 0 ? request->late_ns : request->begun_ns;
}

/* (task, scope) into the list. */
static int tell(PyObject *list, const at_request *request)
{
    PyObject *pair = PyTuple_Pack(2, request->task, request->scope);
    int failed = pair != NULL ? PyList_Append(list, pair) : -1;
    Py_XDECREF(pair);
    return failed;
}

PyObject *at_timeout_overdue(at_worker *worker, int64_t allowed_ns)
{
    int64_t now_ns = at_clock_ns();
    int64_t next_ns = allowed_ns;
    PyObject *late = PyList_New(0);
    if (late == NULL) {
        return NULL;
    }
    for (at_request *request = worker->running; request != NULL;
         request = request->after) {
        if (request->is_websocket || request->start_given) {
            continue;
        }
        int64_t left_ns = since(request) + allowed_ns - now_ns;
        if (left_ns > 0) {
            next_ns = left_ns < next_ns ? left_ns : next_ns;
            continue;
        }
        request->late_ns = now_ns;
        if (tell(late, request) < 0) {
            Py_DECREF(late);
            return NULL;
        }
    }
    return Py_BuildValue("(Nd)", late, (double)next_ns / 1e9);
}
