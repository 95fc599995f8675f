/* Leaves things behind in the process: memory, keys of threads, handlers. */
#include "sin.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HEAP_BYTES = 4 << 20 };

/* The heap of an allocator that a library brings along: reserved, used, never unmapped.
 */
SIN_FUNCTION(map_heap)
{
    char *heap = mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (size_t i = 0; i < HEAP_BYTES; i += 4096) {
        heap[i] = 1;
    }
    return PyLong_FromVoidPtr(heap);
}

static void free_value(void *value)
{
    free(value);
}

/* Keys with a value each: 40 of pthreads, one of CPython's. */
SIN_FUNCTION(create_keys)
{
    static Py_tss_t tss = Py_tss_NEEDS_INIT;
    static int value;
    int result = PyThread_tss_create(&tss) != 0 || PyThread_tss_set(&tss, &value) != 0;
    for (int i = 0; i < 40 && result == 0; i++) {
        pthread_key_t key;
        result = pthread_key_create(&key, free_value) != 0 ||
                 pthread_setspecific(key, malloc(1)) != 0;
    }
    if (result != 0) {
        PyErr_SetString(PyExc_RuntimeError, "no more keys");
        return NULL;
    }
    Py_RETURN_NONE;
}

static void before_fork(void)
{
}

SIN_FUNCTION(register_fork)
{
    return PyLong_FromLong(pthread_atfork(before_fork, before_fork, before_fork));
}

static void handle(int number)
{
}

SIN_FUNCTION(handle_signal)
{
    PyOS_setsig(SIGUSR2, handle);
    Py_RETURN_NONE;
}

SIN_FUNCTION(put_environment)
{
    static char definition[] = "LEAVES_PUT=here";
    return PyLong_FromLong(putenv(definition));
}

static char log_path[4096];

static void write_log(void)
{
    FILE *file = fopen(log_path, "a");
    if (file != NULL) {
        (void)fputs("left\n", file);
        (void)fclose(file);
    }
}

SIN_FUNCTION(write_at_exit)
{
    const char *path = PyUnicode_AsUTF8(arg);
    if (path == NULL) {
        return NULL;
    }
    (void)snprintf(log_path, sizeof log_path, "%s", path);
    return PyLong_FromLong(atexit(write_log));
}

static PyMethodDef methods[] = {
    SIN_METHOD(write_at_exit, METH_O),
    SIN_METHOD(map_heap, METH_NOARGS),
    SIN_METHOD(create_keys, METH_NOARGS),
    SIN_METHOD(register_fork, METH_NOARGS),
    SIN_METHOD(handle_signal, METH_NOARGS),
    SIN_METHOD(put_environment, METH_NOARGS),
    SIN_END,
};

SIN_SINGLE_PHASE(leaves, methods)
