/* What a service tells of itself, as Python objects. Every function: ctx: attached;
 * NULL with an exception set. */
#ifndef AT_BIND_SERVER_STATS_H
#define AT_BIND_SERVER_STATS_H

#include <Python.h>

#include "net/service.h"

PyObject *at_server_reactors(at_service *service);
PyObject *at_server_workers(at_service *service);
PyObject *at_server_restarts(at_service *service);
PyObject *at_server_count_restart(at_service *service, PyObject *why);

#endif
