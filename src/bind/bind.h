/* What each file of bind/ gives the module. Every function here:
 * ctx: attached; returns 0, or -1 with an exception set */
#ifndef AT_BIND_BIND_H
#define AT_BIND_BIND_H

#include <Python.h>

/* The module's entry point, for the importer. */
PyMODINIT_FUNC PyInit__atoll(void);

int at_bind_broadcast(PyObject *module);
int at_bind_buffer(PyObject *module);
int at_bind_capi(PyObject *module);
int at_bind_channel(PyObject *module);
int at_bind_frames(PyObject *module);
int at_bind_http(PyObject *module);
int at_bind_interpreter(PyObject *module);
int at_bind_extension(PyObject *module);
int at_bind_select(PyObject *module);
int at_bind_shared_dict(PyObject *module);
int at_bind_subscription(PyObject *module);
int at_bind_sync(PyObject *module);
int at_bind_wait(PyObject *module);
int at_bind_wakeups(PyObject *module);
int at_bind_server(PyObject *module);
int at_bind_parcel(PyObject *module);
int at_bind_pool(PyObject *module);
int at_bind_pool_desk(PyObject *module);
int at_bind_pool_feed(PyObject *module);
int at_bind_pool_future(PyObject *module);
int at_bind_queue(PyObject *module);
int at_bind_remedy(PyObject *module);
int at_bind_watch(PyObject *module);
int at_bind_process(PyObject *module);

#endif
