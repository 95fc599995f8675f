/* Registrations of images with the process; see registration.h. */
#include "interp/registration.h"

#include "elf/image.h"
#include "elf/keys.h"

/* The functions, not the caller, say whose they are: a hook that a library registers
 * for somebody else is in somebody else's memory. */
static void pin_function(void (*function)(void))
{
    (void)at_image_pin((const void *)function);
}

int at_hook_add_audit_hook(Py_AuditHookFunction function, void *data)
{
    pin_function((void (*)(void))function);
    (void)at_image_pin(data);
    return PySys_AddAuditHook(function, data);
}

void at_hook_set_allocator(PyMemAllocatorDomain domain, PyMemAllocatorEx *allocator)
{
    pin_function((void (*)(void))allocator->malloc);
    pin_function((void (*)(void))allocator->free);
    PyMem_SetAllocator(domain, allocator);
}

void at_hook_set_arena_allocator(PyObjectArenaAllocator *allocator)
{
    pin_function((void (*)(void))allocator->alloc);
    pin_function((void (*)(void))allocator->free);
    PyObject_SetArenaAllocator(allocator);
}

int at_hook_set_ref_tracer(PyRefTracer tracer, void *data)
{
    pin_function((void (*)(void))tracer);
    (void)at_image_pin(data);
    return PyRefTracer_SetTracer(tracer, data);
}

int at_hook_tss_create(Py_tss_t *key)
{
    const bool is_new = !PyThread_tss_is_created(key);
    int result = PyThread_tss_create(key);
    if (result == 0 && is_new) {
        at_key_add(__builtin_return_address(0), key->_key);
    }
    return result;
}

void at_hook_tss_delete(Py_tss_t *key)
{
    if (PyThread_tss_is_created(key)) {
        at_key_remove(key->_key);
    }
    PyThread_tss_delete(key);
}

/* Deprecated, and still in many extensions. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

int at_hook_create_key(void)
{
    int key = PyThread_create_key();
    if (key >= 0) {
        at_key_add(__builtin_return_address(0), (pthread_key_t)key);
    }
    return key;
}

void at_hook_delete_key(int key)
{
    at_key_remove((pthread_key_t)key);
    PyThread_delete_key(key);
}

#pragma GCC diagnostic pop
