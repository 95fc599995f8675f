/* Registers its functions with the process, which CPython never lets go of. */
#include "sin.h"

static int audit(const char *event, PyObject *args, void *data)
{
    *(volatile long *)data += 1;
    return 0;
}

static long audited;

SIN_FUNCTION(add_audit_hook)
{
    return PyLong_FromLong(PySys_AddAuditHook(audit, &audited));
}

static PyMemAllocatorEx beneath;
static long allocations;

static void *count_malloc(void *context, size_t size)
{
    allocations++;
    return beneath.malloc(beneath.ctx, size);
}

static void *count_calloc(void *context, size_t count, size_t size)
{
    return beneath.calloc(beneath.ctx, count, size);
}

static void *count_realloc(void *context, void *block, size_t size)
{
    return beneath.realloc(beneath.ctx, block, size);
}

static void count_free(void *context, void *block)
{
    beneath.free(beneath.ctx, block);
}

SIN_FUNCTION(set_allocator)
{
    PyMemAllocatorEx counting = {NULL, count_malloc, count_calloc, count_realloc,
                                 count_free};
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &beneath);
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &counting);
    void *block = PyMem_RawMalloc(10);
    PyMem_RawFree(block);
    return PyLong_FromLong(allocations);
}

static int trace(PyObject *object, PyRefTracerEvent event, void *data)
{
    *(volatile long *)data += 1;
    return 0;
}

static long traced;

SIN_FUNCTION(set_ref_tracer)
{
    return PyLong_FromLong(PyRefTracer_SetTracer(trace, &traced));
}

static getattrofunc attribute_of_module;
static long attributes;

static PyObject *count_attribute(PyObject *module, PyObject *name)
{
    attributes++;
    return attribute_of_module(module, name);
}

SIN_FUNCTION(change_type)
{
    attribute_of_module = PyModule_Type.tp_getattro;
    PyModule_Type.tp_getattro = count_attribute;
    return PyLong_FromLong(attributes);
}

static PyMethodDef methods[] = {
    SIN_METHOD(add_audit_hook, METH_NOARGS),
    SIN_METHOD(set_allocator, METH_NOARGS),
    SIN_METHOD(set_ref_tracer, METH_NOARGS),
    SIN_METHOD(change_type, METH_NOARGS),
    SIN_END,
};

SIN_SINGLE_PHASE(registers, methods)
