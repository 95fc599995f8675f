/* What stands in an image for functions that register something with the process: the
 * process keeps a pointer into the image, or the image a number of the process. */
#ifndef AT_INTERP_REGISTRATION_H
#define AT_INTERP_REGISTRATION_H

#include <Python.h>

/* Each has the contract of the function that it stands for. CPython has no call that
 * takes these back, so the images of the caller are never unmapped. */
int at_hook_add_audit_hook(Py_AuditHookFunction function, void *data);
void at_hook_set_allocator(PyMemAllocatorDomain domain, PyMemAllocatorEx *allocator);
void at_hook_set_arena_allocator(PyObjectArenaAllocator *allocator);
int at_hook_set_ref_tracer(PyRefTracer tracer, void *data);

/* A key that the image leaves behind is deleted when the image goes. */
int at_hook_tss_create(Py_tss_t *key);
void at_hook_tss_delete(Py_tss_t *key);
int at_hook_create_key(void);
void at_hook_delete_key(int key);

#endif
