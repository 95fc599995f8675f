/* How an event loop waits for channels: private to atoll._aio.
 *
 * A Wakeups has a descriptor for the loop's add_reader(). arm() puts a waiter that
 * calls into the queue of a channel; its call, on whatever thread changed the channel,
 * puts it on the list of the fired and makes the descriptor readable; collect() on the
 * loop takes the list. The waiter is known by a number, so nothing of Python is touched
 * from the other thread.
 *
 * Locks: the mutex of a station, for its list alone.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>

#include "base/error.h"
#include "base/memory.h"
#include "bind/bind.h"
#include "bind/broadcast.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/type.h"
#include "chan/channel.h"
#include "sys/wakefd.h"

typedef struct armed armed;

/* What the armed waiters of one loop share. Outlives the loop while one is armed. */
typedef struct station {
    at_shared shared;
    int wakefd;
    pthread_mutex_t mutex;
    armed *fired; /* guarded: mutex; each with a reference */
} station;

struct armed {
    at_shared shared;
    at_waiter waiter;
    at_wait_link link;
    station *station; /* a reference */
    at_shared *thing; /* a reference: the queue is in it */
    long long number;
    armed *next_fired; /* guarded: the station's mutex */
};

static void station_free(at_shared *thing)
{
    station *self = (station *)thing;
    at_wakefd_close(self->wakefd);
    (void)pthread_mutex_destroy(&self->mutex);
    at_free(self);
}

static const at_shared_kind station_kind = {"station", station_free};

static void armed_free(at_shared *thing)
{
    armed *self = (armed *)thing;
    at_shared_unref(&self->station->shared);
    at_shared_unref(self->thing);
    at_free(self);
}

static const at_shared_kind armed_kind = {"armed", armed_free};

static void fire(at_waiter *waiter)
{
    armed *self = (armed *)waiter->owner;
    station *place = self->station;
    at_shared_ref(&self->shared);
    (void)pthread_mutex_lock(&place->mutex);
    bool is_first = place->fired == NULL;
    self->next_fired = place->fired;
    place->fired = self;
    (void)pthread_mutex_unlock(&place->mutex);
    if (is_first) {
        at_wakefd_set(place->wakefd);
    }
}

/* ---- one armed waiter ------------------------------------------------------------ */

#define ARMED_CAPSULE "atoll._atoll.armed"

/* The capsule holds the armed waiter, linked until disarm. */
static void armed_capsule_free(PyObject *capsule)
{
    armed *self = PyCapsule_GetPointer(capsule, ARMED_CAPSULE);
    at_wait_disarm(&self->waiter, &self->link, 1, false);
    at_shared_unref(&self->shared);
}

static armed *armed_new(station *place, at_shared *thing, at_wait_queue *queue,
                        long long number)
{
    armed *self = at_calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    at_shared_init(&self->shared, &armed_kind);
    self->station = (station *)at_shared_ref(&place->shared);
    self->thing = at_shared_ref(thing);
    self->number = number;
    self->waiter.call = fire;
    self->waiter.owner = &self->shared;
    self->link.queue = queue;
    return self;
}

/* disarm(armed, used) */
AT_UNCHECKED static PyObject *disarm(PyObject *module, PyObject *arguments)
{
    PyObject *capsule;
    int used;
    if (!PyArg_ParseTuple(arguments, "Op:disarm", &capsule, &used)) {
        return NULL;
    }
    armed *self = PyCapsule_GetPointer(capsule, ARMED_CAPSULE);
    if (self == NULL) {
        return NULL;
    }
    at_wait_disarm(&self->waiter, &self->link, 1, used != 0);
    /* The capsule's own disarm finds it unlinked, with nothing to pass on. */
    atomic_store(&self->waiter.state, AT_WAITER_ENDING);
    Py_RETURN_NONE;
}

/* ---- Wakeups --------------------------------------------------------------------- */

typedef struct wakeups_object {
    PyObject_HEAD station *station; /* a reference; fixed after new */
} wakeups_object;

AT_UNCHECKED static PyObject *wakeups_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    at_fault fault;
    station *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return at_raise(AT_ENOMEM);
    }
    fresh->wakefd = at_wakefd_open(&fault);
    if (fresh->wakefd < 0) {
        at_free(fresh);
        return at_raise_fault(&fault);
    }
    at_shared_init(&fresh->shared, &station_kind);
    (void)pthread_mutex_init(&fresh->mutex, NULL);
    wakeups_object *self = (wakeups_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        at_shared_unref(&fresh->shared);
        return NULL;
    }
    self->station = fresh;
    return (PyObject *)self;
}

static armed *take_fired(station *place)
{
    (void)pthread_mutex_lock(&place->mutex);
    armed *fired = place->fired;
    place->fired = NULL;
    (void)pthread_mutex_unlock(&place->mutex);
    return fired;
}

static void wakeups_dealloc(PyObject *object)
{
    wakeups_object *self = (wakeups_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->station != NULL) {
        armed *fired = take_fired(self->station);
        while (fired != NULL) {
            armed *next = fired->next_fired;
            at_shared_unref(&fired->shared);
            fired = next;
        }
        at_shared_unref(&self->station->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

AT_UNCHECKED static PyObject *wakeups_fileno(PyObject *object, PyObject *unused)
{
    return PyLong_FromLong(((wakeups_object *)object)->station->wakefd);
}

/* Where senders or receivers of `object` wait, in the `*thing`; NULL with TypeError. */
static at_wait_queue *queue_of(PyObject *object, bool sends,
                               at_shared **thing) AT_ATTACHED
{
    at_broadcast *broadcast = at_broadcast_of(object);
    if (broadcast != NULL && sends) {
        *thing = (at_shared *)broadcast;
        return at_broadcast_senders(broadcast);
    }
    at_channel_object *self = at_channel_object_from(object);
    if (self == NULL) {
        return NULL;
    }
    *thing = (at_shared *)self->channel;
    return sends ? at_channel_senders(self->channel)
                 : at_channel_receivers(self->channel);
}

/* arm(channel, sends, number): a capsule for disarm(). */
AT_UNCHECKED static PyObject *wakeups_arm(PyObject *object, PyObject *arguments)
{
    PyObject *target;
    int sends;
    long long number;
    if (!PyArg_ParseTuple(arguments, "OpL:arm", &target, &sends, &number)) {
        return NULL;
    }
    at_shared *thing;
    at_wait_queue *queue = queue_of(target, sends != 0, &thing);
    if (queue == NULL) {
        return NULL;
    }
    station *place = ((wakeups_object *)object)->station;
    armed *fresh = armed_new(place, thing, queue, number);
    if (fresh == NULL) {
        return at_raise(AT_ENOMEM);
    }
    PyObject *capsule = PyCapsule_New(fresh, ARMED_CAPSULE, armed_capsule_free);
    if (capsule == NULL) {
        at_shared_unref(&fresh->shared);
        return NULL;
    }
    at_wait_arm(&fresh->waiter, &fresh->link, 1);
    return capsule;
}

/* collect(): the numbers of what fired since the last call. */
AT_UNCHECKED static PyObject *wakeups_collect(PyObject *object, PyObject *unused)
{
    station *place = ((wakeups_object *)object)->station;
    /* Clear first: what fires after this makes it readable again. */
    at_wakefd_clear(place->wakefd);
    armed *fired = take_fired(place);
    PyObject *numbers = PyList_New(0);
    while (fired != NULL) {
        armed *next = fired->next_fired;
        PyObject *number = PyLong_FromLongLong(fired->number);
        at_shared_unref(&fired->shared);
        fired = next;
        if (numbers != NULL && (number == NULL || PyList_Append(numbers, number) < 0)) {
            Py_CLEAR(numbers);
        }
        Py_XDECREF(number);
    }
    return numbers;
}

static PyMethodDef wakeups_methods[] = {
    {"fileno", wakeups_fileno, METH_NOARGS, NULL},
    {"arm", wakeups_arm, METH_VARARGS, NULL},
    {"collect", wakeups_collect, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wakeups_slots[] = {
    {Py_tp_new, wakeups_new},
    {Py_tp_dealloc, wakeups_dealloc},
    {Py_tp_methods, wakeups_methods},
    {0, NULL},
};

static PyType_Spec wakeups_spec = {
    .name = "atoll._atoll.Wakeups",
    .basicsize = sizeof(wakeups_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = wakeups_slots,
};

static PyMethodDef functions[] = {
    {"disarm", disarm, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_wakeups(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &wakeups_spec);
    if (type == NULL) {
        return -1;
    }
    Py_DECREF(type);
    return PyModule_AddFunctions(module, functions);
}
