/* The methods of atoll._atoll.Scheduler for threads that feed a process, and the blocks
 * that go to and fro.
 *
 * A block is a head (kind, bytes, how many regions) and bytes, beside which the other
 * side may get one descriptor: atoll._pool.worker_process says of what. The head has a
 * check, so that what code in the process writes to its socket by mistake is found out
 * at once: nothing would come of the bytes that it seems to announce. A task's
 * payload is the block of its call, ready to be sent. feed() sends and receives small
 * blocks without a descriptor by itself, task after task, and never holds the GIL over
 * that. Whatever else there is to a task it hands out: the task, as a capsule, is then
 * ended by finish_bytes(), or put back where the process died before it had it. */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "bind/bind.h"
#include "bind/error.h"
#include "bind/pool.h"
#include "interp/attach.h"
#include "sys/clock.h"
#include "sys/talk.h"

enum {
    HEAD_BYTES = 17, /* kind: 1, bytes: 8, regions: 4, check: 4; little-endian */
    FIRST_BYTES = 4096,
    /* What is larger goes as a file of memory, if it can. */
    BLOCK_BYTES = 1 << 20,
};

/* What feed() comes back with; the same in atoll._pool.processes. */
typedef enum feed_state {
    FEED_OVER,   /* no more tasks */
    FEED_LIMIT,  /* as many were run as asked for */
    FEED_SETTLE, /* an interrupt is under way to the process */
    FEED_CALL,   /* this call is still to be sent */
    FEED_ANSWER, /* these are the first bytes of this task's answer */
    FEED_UNREAD, /* the process has gone and never had this call */
    FEED_GONE,   /* the process has gone */
    FEED_FAULT,  /* it sent what is no answer, or the socket failed: this is why */
} feed_state;

static const char not_a_head[] = "it is no block: its head does not check";
static const char task_capsule[] = "atoll.pool.task";

typedef struct head {
    unsigned kind;
    uint64_t size_bytes;
    uint32_t region_count;
} head;

/* Of each bit, and not 0 for zeros: two products by odd numbers, the upper halves. */
static uint32_t head_check(head of)
{
    uint64_t rest = (uint64_t)of.region_count << 8 | of.kind;
    uint64_t mixed = (of.size_bytes + 1) * UINT64_C(0x9E3779B97F4A7C15) ^
                     rest * UINT64_C(0xC2B2AE3D27D4EB4F);
    return (uint32_t)(mixed >> 32);
}

static void number_write(uint64_t number, char *to, int byte_count)
{
    for (int i = 0; i < byte_count; i++) {
        to[i] = (char)(number >> (8 * i));
    }
}

static uint64_t number_read(const char *from, int byte_count)
{
    uint64_t number = 0;
    for (int i = 0; i < byte_count; i++) {
        number |= (uint64_t)(unsigned char)from[i] << (8 * i);
    }
    return number;
}

static void head_write(head from, char *to)
{
    to[0] = (char)from.kind;
    number_write(from.size_bytes, to + 1, 8);
    number_write(from.region_count, to + 9, 4);
    number_write(head_check(from), to + 13, 4);
}

/* False: it is none. */
static bool head_read(const char *from, head *found)
{
    found->kind = (unsigned char)from[0];
    found->size_bytes = number_read(from + 1, 8);
    found->region_count = (uint32_t)number_read(from + 9, 4);
    return number_read(from + 13, 4) == head_check(*found);
}

/* ---- in -------------------------------------------------------------------------- */

AT_UNCHECKED PyObject *at_pool_submit_bytes(PyObject *self, PyObject *arguments)
{
    unsigned long long id;
    Py_buffer data;
    int worker, beside = 0;
    if (!PyArg_ParseTuple(arguments, "Ky*i|p:submit_bytes", &id, &data, &worker,
                          &beside)) {
        return NULL;
    }
    /* Whoever sends it then says how many regions there are. */
    head call = {.size_bytes = (uint64_t)data.len, .region_count = beside != 0};
    char start[HEAD_BYTES];
    head_write(call, start);
    at_message_writer writer;
    at_message_writer_init(&writer);
    at_message *payload = NULL;
    int result = at_message_writer_append(&writer, start, sizeof start);
    if (result == 0) {
        result = at_message_writer_append(&writer, data.buf, (size_t)data.len);
    }
    if (result == 0) {
        result = at_message_writer_finish(&writer, -1, &payload);
    }
    at_message_writer_fini(&writer);
    PyBuffer_Release(&data);
    if (result < 0) {
        return at_raise(result);
    }
    return at_pool_submit(at_pool_scheduler(self), id, payload, worker) == 0
               ? Py_NewRef(Py_None)
               : NULL;
}

/* ---- to the process and back ----------------------------------------------------- */

/* What feed() has at hand. */
typedef struct feeder {
    at_scheduler *scheduler;
    unsigned worker;
    int socket;
    at_task *task; /* that is to be ended yet */
    long got;      /* how many bytes of an answer are in `first` */
    int descriptor;
    char first[FIRST_BYTES];
    at_fault fault;
} feeder;

/* Is it what a process answers to a call? */
static bool ends_task(unsigned kind)
{
    return kind == AT_OUTCOME_VALUE || kind == AT_OUTCOME_ERROR ||
           kind == AT_OUTCOME_REFUSED;
}

/* Why there is no answer, of `result`: what the talk gave. */
static feed_state no_answer(long result)
{
    if (result == 0) {
        return FEED_GONE;
    }
    return result == AT_ECLOSED ? FEED_UNREAD : FEED_FAULT;
}

/* Run the feeder's task in the process. 0: it is over; or as feed() comes back. */
static feed_state run_there(feeder *self) AT_DETACHED
{
    const at_message *call = self->task->payload;
    head sent;
    (void)head_read(call->data, &sent);
    if (sent.region_count != 0 || sent.size_bytes >= BLOCK_BYTES) {
        return FEED_CALL;
    }
    int result = at_talk_send(self->socket, call->data, call->size_bytes, &self->fault);
    if (result < 0) {
        return no_answer(result);
    }
    do {
        self->got = at_talk_receive(self->socket, self->first, sizeof self->first,
                                    &self->descriptor, &self->fault);
    } while (self->got == AT_EINTERRUPTED);
    if (self->got <= 0) {
        return no_answer(self->got);
    }
    head answer = {0};
    if (self->got >= HEAD_BYTES && !head_read(self->first, &answer)) {
        (void)at_fault_set(&self->fault, AT_EFORMAT, "%s", not_a_head);
        return FEED_FAULT;
    }
    if (self->got < HEAD_BYTES || self->descriptor >= 0 ||
        answer.size_bytes != (uint64_t)self->got - HEAD_BYTES) {
        return FEED_ANSWER;
    }
    if (!ends_task(answer.kind)) {
        (void)at_fault_set(&self->fault, AT_EFORMAT, "it is of kind %u", answer.kind);
        return FEED_FAULT;
    }
    at_message *words;
    at_outcome outcome = (at_outcome)answer.kind;
    if (at_message_new(self->first + HEAD_BYTES, (size_t)answer.size_bytes, -1,
                       &words) < 0) {
        words = NULL;
        outcome = AT_OUTCOME_ERROR;
    }
    at_task *task = self->task;
    self->task = NULL;
    int met = at_scheduler_finish(self->scheduler, task, outcome, words);
    return met < 0 ? FEED_SETTLE : FEED_OVER;
}

/* Run tasks in the process, up to `limit` (0: any number), until there is something to
 * do that is done elsewhere. */
static feed_state run_all(feeder *self, Py_ssize_t limit, Py_ssize_t *done) AT_DETACHED
{
    while (limit == 0 || *done < limit) {
        int result =
            at_scheduler_take(self->scheduler, self->worker, AT_NEVER, &self->task);
        if (result == AT_EINTERRUPTED) {
            continue; /* a signal; its handler runs on the main thread */
        }
        if (result < 0) {
            return FEED_OVER;
        }
        /* The process itself puts an interrupt off until it has loaded the call. */
        if (at_scheduler_begin(self->scheduler, self->task) < 0) {
            (void)at_scheduler_finish(self->scheduler, self->task, AT_OUTCOME_ERROR,
                                      NULL);
            self->task = NULL;
            continue;
        }
        ++*done;
        feed_state state = run_there(self);
        if (state != FEED_OVER) {
            return state;
        }
    }
    return FEED_LIMIT;
}

/* The task as a capsule, and its bytes: of the call, or the first of the answer, or
 * words. */
static PyObject *hand_over(feeder *self, feed_state state, Py_ssize_t done) AT_ATTACHED
{
    const char *bytes = self->first;
    Py_ssize_t size = state == FEED_ANSWER ? (Py_ssize_t)self->got : 0;
    if (state == FEED_CALL) {
        bytes = self->task->payload->data + HEAD_BYTES;
        size = (Py_ssize_t)self->task->payload->size_bytes - HEAD_BYTES;
    } else if (state == FEED_FAULT) {
        bytes = self->fault.text;
        size = (Py_ssize_t)strlen(bytes);
    }
    PyObject *capsule = PyCapsule_New(self->task, task_capsule, NULL);
    PyObject *found = NULL;
    if (capsule != NULL) {
        found = Py_BuildValue("inOKy#i", (int)state, done, capsule,
                              (unsigned long long)self->task->id, bytes, size,
                              self->descriptor);
    }
    if (found == NULL) {
        at_talk_drop(self->descriptor);
        (void)at_scheduler_finish(self->scheduler, self->task, AT_OUTCOME_ERROR, NULL);
    }
    Py_XDECREF(capsule);
    return found;
}

AT_UNCHECKED PyObject *at_pool_feed(PyObject *self, PyObject *arguments)
{
    feeder feeder = {.scheduler = at_pool_scheduler(self), .descriptor = -1};
    Py_ssize_t limit, done = 0;
    if (!PyArg_ParseTuple(arguments, "Iin:feed", &feeder.worker, &feeder.socket,
                          &limit)) {
        return NULL;
    }
    if (feeder.worker >= ((at_pool_object *)self)->worker_count) {
        return PyErr_Format(PyExc_IndexError, "no such worker");
    }
    PyThreadState *thread_state = at_detach();
    feed_state state = run_all(&feeder, limit, &done);
    at_attach(thread_state);
    if (feeder.task != NULL) {
        return hand_over(&feeder, state, done);
    }
    return Py_BuildValue("inOKyi", (int)state, done, Py_None, 0ULL, "", -1);
}

/* ---- the end of a task that was handed out --------------------------------------- */

/* The task of a capsule, which is good for one end. */
static at_task *task_of(PyObject *capsule) AT_ATTACHED
{
    at_task *task = PyCapsule_GetPointer(capsule, task_capsule);
    if (task != NULL) {
        (void)PyCapsule_SetName(capsule, "atoll.pool.task that is over");
    }
    return task;
}

AT_UNCHECKED PyObject *at_pool_finish_bytes(PyObject *self, PyObject *arguments)
{
    PyObject *capsule;
    int outcome;
    Py_buffer data;
    if (!PyArg_ParseTuple(arguments, "O!iy*:finish_bytes", &PyCapsule_Type, &capsule,
                          &outcome, &data)) {
        return NULL;
    }
    at_task *task = task_of(capsule);
    at_message *result = NULL;
    int code = 0;
    if (task != NULL && data.len != 0) {
        code = at_message_new(data.buf, (size_t)data.len, -1, &result);
    }
    PyBuffer_Release(&data);
    if (task == NULL) {
        return NULL;
    }
    int met = at_scheduler_finish(at_pool_scheduler(self), task,
                                  code < 0 ? AT_OUTCOME_ERROR : outcome,
                                  code < 0 ? NULL : result);
    return PyBool_FromLong(met == 0);
}

AT_UNCHECKED PyObject *at_pool_put_back(PyObject *self, PyObject *capsule)
{
    at_task *task = task_of(capsule);
    if (task == NULL) {
        return NULL;
    }
    return PyBool_FromLong(at_scheduler_put_back(at_pool_scheduler(self), task) == 0);
}

/* ---- blocks for Python ----------------------------------------------------------- */

/* `result`: what the talk gave. */
static PyObject *raise_no_block(long result, const at_fault *fault) AT_ATTACHED
{
    if (result == 0 || result == AT_ECLOSED) {
        return PyErr_Format(result == 0 ? PyExc_EOFError : PyExc_ConnectionResetError,
                            "the other side of the socket has gone");
    }
    if (fault->system_error == 0) {
        return at_raise_fault(fault);
    }
    PyObject *error =
        PyObject_CallFunction(PyExc_OSError, "is", fault->system_error, fault->text);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

AT_UNCHECKED static PyObject *block_send(PyObject *Py_UNUSED(module),
                                         PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(arguments[2])) {
        return PyErr_Format(PyExc_TypeError, "block_send() takes two ints and bytes");
    }
    int socket = PyLong_AsInt(arguments[0]);
    int kind = PyLong_AsInt(arguments[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    size_t size_bytes = (size_t)PyBytes_GET_SIZE(arguments[2]);
    char first[FIRST_BYTES];
    at_fault fault;
    size_t in_first =
        size_bytes < FIRST_BYTES - HEAD_BYTES ? size_bytes : FIRST_BYTES - HEAD_BYTES;
    const char *data = PyBytes_AS_STRING(arguments[2]);
    head_write((head){.kind = (unsigned)kind, .size_bytes = size_bytes}, first);
    memcpy(first + HEAD_BYTES, data, in_first);
    PyThreadState *thread_state = at_detach();
    int result = at_talk_send(socket, first, HEAD_BYTES + in_first, &fault);
    if (result == 0 && in_first < size_bytes) {
        result = at_talk_send(socket, data + in_first, size_bytes - in_first, &fault);
    }
    at_attach(thread_state);
    return result == 0 ? Py_NewRef(Py_None) : raise_no_block(result, &fault);
}

AT_UNCHECKED static PyObject *block_receive(PyObject *Py_UNUSED(module),
                                            PyObject *number)
{
    int socket = PyLong_AsInt(number);
    if (socket == -1 && PyErr_Occurred()) {
        return NULL;
    }
    char first[FIRST_BYTES];
    at_fault fault;
    int descriptor;
    long got;
    do {
        PyThreadState *thread_state = at_detach();
        got = at_talk_receive(socket, first, sizeof first, &descriptor, &fault);
        at_attach(thread_state);
        if (got == AT_EINTERRUPTED && PyErr_CheckSignals() < 0) {
            return NULL;
        }
    } while (got == AT_EINTERRUPTED);
    if (got <= 0) {
        return raise_no_block(got, &fault);
    }
    if (got >= HEAD_BYTES && descriptor < 0) {
        head found;
        if (!head_read(first, &found)) {
            PyErr_SetString(PyExc_ValueError, not_a_head);
            return NULL;
        }
        if (found.size_bytes == (uint64_t)got - HEAD_BYTES) {
            return Py_BuildValue("iy#i", (int)found.kind, first + HEAD_BYTES,
                                 (Py_ssize_t)found.size_bytes, -1);
        }
    }
    PyObject *some = Py_BuildValue("iy#i", -1, first, (Py_ssize_t)got, descriptor);
    if (some == NULL) {
        at_talk_drop(descriptor);
    }
    return some;
}

AT_UNCHECKED static PyObject *block_head(PyObject *Py_UNUSED(module),
                                         PyObject *arguments)
{
    unsigned char kind;
    unsigned long long size_bytes;
    unsigned int region_count;
    if (!PyArg_ParseTuple(arguments, "bKI:block_head", &kind, &size_bytes,
                          &region_count)) {
        return NULL;
    }
    char bytes[HEAD_BYTES];
    head_write((head){kind, size_bytes, region_count}, bytes);
    return PyBytes_FromStringAndSize(bytes, sizeof bytes);
}

AT_UNCHECKED static PyObject *block_head_read(PyObject *Py_UNUSED(module),
                                              PyObject *bytes)
{
    Py_buffer view;
    head found = {0};
    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    bool valid = view.len >= HEAD_BYTES && head_read(view.buf, &found);
    PyBuffer_Release(&view);
    if (!valid) {
        PyErr_SetString(PyExc_ValueError, not_a_head);
        return NULL;
    }
    return Py_BuildValue("iKI", (int)found.kind, (unsigned long long)found.size_bytes,
                         (unsigned)found.region_count);
}

static PyMethodDef functions[] = {
    {"block_head", block_head, METH_VARARGS,
     "block_head(kind, size_bytes, region_count) -> what a block begins with"},
    {"block_head_read", block_head_read, METH_O,
     "block_head_read(bytes) -> (kind, size_bytes, region_count) of those they begin "
     "with; ValueError where that is no head"},
    {"block_send", (PyCFunction)(void (*)(void))block_send, METH_FASTCALL,
     "block_send(socket, kind, data)"},
    {"block_receive", block_receive, METH_O,
     "block_receive(socket) -> (kind, data, -1), or of what is not a small block "
     "without a descriptor (-1, first bytes, descriptor or -1)"},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_pool_feed(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
