/* atoll.select(): receiving from the first of several channels. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/bind.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/wait.h"
#include "interp/attach.h"
#include "sys/clock.h"

/* A new reference to (channel, object). */
static PyObject *selected(PyObject *channel, void *message) AT_ATTACHED
{
    PyObject *value = at_channel_unpack(message);
    if (value == NULL) {
        return NULL;
    }
    PyObject *pair = PyTuple_Pack(2, channel, value);
    Py_DECREF(value);
    return pair;
}

/* select(channels: tuple, timeout) */
AT_UNCHECKED static PyObject *select_channels(PyObject *module, PyObject *arguments)
{
    PyObject *tuple;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "O!O:select", &PyTuple_Type, &tuple, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(tuple);
    if (count == 0 || count > AT_SELECT_LIMIT) {
        return PyErr_Format(PyExc_ValueError,
                            "select() takes 1 to %d channels, not %zu", AT_SELECT_LIMIT,
                            count);
    }
    at_channel *channels[AT_SELECT_LIMIT];
    at_patience patience = {deadline_ns, NULL};
    for (size_t i = 0; i < count; i++) {
        PyObject *handle = PyTuple_GET_ITEM(tuple, (Py_ssize_t)i);
        if (PyList_Check(handle) || PyTuple_Check(handle)) {
            return PyErr_Format(PyExc_TypeError,
                                "select() takes channels, not a %s of them: "
                                "select(*channels)",
                                Py_TYPE(handle)->tp_name);
        }
        at_channel_object *channel = at_channel_object_from(handle);
        if (channel == NULL) {
            return NULL;
        }
        void *left;
        if (at_channel_left_take(channel, &left)) {
            return selected(handle, left);
        }
        at_member_receives(channel->member);
        channels[i] = channel->channel;
        patience.peer = channel->peer;
    }
    size_t start = (size_t)at_clock_ns() % count;
    void *message;
    size_t chosen;
    int result = at_channel_try_select(channels, count, start, &message, &chosen);
    if (result == AT_EEMPTY) {
        do {
            PyThreadState *state = at_detach();
            result =
                at_channel_select(channels, count, start, &message, &chosen, &patience);
            at_attach(state);
        } while (at_bind_wait_again(&result));
    }
    if (result == AT_ECLOSED) {
        return at_raise_format(result, "every channel is closed");
    }
    if (result == AT_ETIMEOUT) {
        return at_raise_format(result, "nothing came in time");
    }
    if (result == AT_ELAGGED) {
        PyObject *handle = PyTuple_GET_ITEM(tuple, (Py_ssize_t)chosen);
        return at_channel_received(at_channel_object_of(handle), result, message);
    }
    if (result != 0) {
        return at_bind_wait_failed(result);
    }
    return selected(PyTuple_GET_ITEM(tuple, (Py_ssize_t)chosen), message);
}

static PyMethodDef functions[] = {
    {"select", select_channels, METH_VARARGS,
     "select($module, channels, timeout, /)\n--\n\nSee atoll.select()."},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_select(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
