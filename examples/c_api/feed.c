/* A C thread that feeds a Python receiver, and one that hears from it: no thread state,
 * no GIL, no copy of the large buffers.
 *
 *     cc -shared -fPIC -pthread $(python3-config --includes) -I ATOLL/include \
 *         -o feed.so examples/c_api/feed.c
 *
 *     channel = atoll.Channel(16)
 *     feed.start(channel, 1000)       # numbers as bytes, one buffer, then closed
 *     for message in channel: ...
 *     feed.total(channel)             # waits in C for bytes and adds their lengths
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/atoll.h"

enum { BUFFER_BYTES = 1 << 20 };

static const atoll_api *api;

typedef struct feeder {
    atoll_channel *channel;
    long count;
} feeder;

static void *feed(void *data)
{
    feeder *self = data;
    int result = 0;
    for (long i = 0; i < self->count && result == 0; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "number %ld", i);
        result = api->channel_send_bytes(self->channel, text, (size_t)size, -1);
    }
    char *memory = malloc(BUFFER_BYTES);
    if (result == 0 && memory != NULL) {
        memset(memory, 'x', BUFFER_BYTES);
        result = api->channel_send_buffer(self->channel, memory, BUFFER_BYTES, free,
                                            memory, -1);
    }
    if (result != 0) {
        free(memory); /* still ours */
    }
    api->channel_close(self->channel);
    api->channel_unref(self->channel);
    free(self);
    return NULL;
}

static PyObject *start(PyObject *module, PyObject *arguments)
{
    PyObject *channel;
    long count;
    if (!PyArg_ParseTuple(arguments, "Ol", &channel, &count)) {
        return NULL;
    }
    feeder *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return PyErr_NoMemory();
    }
    self->count = count;
    self->channel = api->channel_of(channel);
    pthread_t thread;
    if (self->channel == NULL || pthread_create(&thread, NULL, feed, self) != 0) {
        if (self->channel != NULL) {
            api->channel_unref(self->channel);
            PyErr_SetString(PyExc_RuntimeError, "no thread");
        }
        free(self);
        return NULL;
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* The lengths of all bytes until the channel is closed, and how many were no bytes. */
static PyObject *total(PyObject *module, PyObject *object)
{
    atoll_channel *channel = api->channel_of(object);
    if (channel == NULL) {
        return NULL;
    }
    size_t bytes = 0;
    long others = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS atoll_message *message;
    while ((result = api->channel_recv(channel, &message, -1)) == 0 ||
           result == ATOLL_EINTERRUPTED) {
        const void *data;
        size_t size;
        if (result == ATOLL_EINTERRUPTED) {
            continue;
        }
        if (api->message_bytes(message, &data, &size) == 0) {
            bytes += size;
        } else {
            others++;
        }
        api->message_free(message);
    }
    Py_END_ALLOW_THREADS api->channel_unref(channel);
    return Py_BuildValue("nl", (Py_ssize_t)bytes, others);
}

static PyMethodDef methods[] = {
    {"start", start, METH_VARARGS, "start(channel, count)"},
    {"total", total, METH_O, "total(channel) -> (bytes, others)"},
    {NULL, NULL, 0, NULL},
};

static int feed_exec(PyObject *module)
{
    /* The table is the same in every interpreter of the process. */
    api = PyCapsule_Import(ATOLL_API_CAPSULE, 0);
    return api != NULL ? 0 : -1;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, feed_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "feed",
                                        .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_feed(void)
{
    return PyModuleDef_Init(&definition);
}
