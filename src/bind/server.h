/* The methods of Service that lie in files of their own. Every function: ctx: attached;
 * NULL with an exception set. */
#ifndef AT_BIND_SERVER_H
#define AT_BIND_SERVER_H

#include <Python.h>

#include "net/service.h"

/* server.c: borrowed from the object. */
at_service *at_server_service_of(PyObject *self);

/* server_stats.c */
PyObject *at_server_reactors(PyObject *self, PyObject *unused);
PyObject *at_server_workers(PyObject *self, PyObject *unused);
PyObject *at_server_restarts(PyObject *self, PyObject *unused);
PyObject *at_server_count_restart(PyObject *self, PyObject *why);

/* server_control.c */
PyObject *at_server_open_boards(PyObject *self, PyObject *arguments);
PyObject *at_server_give_board(PyObject *self, PyObject *process);
PyObject *at_server_take_board_back(PyObject *self, PyObject *place);
PyObject *at_server_join_boards(PyObject *self, PyObject *arguments);
PyObject *at_server_metrics(PyObject *self, PyObject *unused);
PyObject *at_server_set_overload(PyObject *self, PyObject *arguments);
PyObject *at_server_set_control(PyObject *self, PyObject *arguments);
PyObject *at_server_listen_control(PyObject *self, PyObject *arguments);
PyObject *at_server_set_h2(PyObject *self, PyObject *arguments);
PyObject *at_server_set_most(PyObject *self, PyObject *arguments);
PyObject *at_server_spent(PyObject *self, PyObject *unused);
PyObject *at_server_clear_spent(PyObject *self, PyObject *unused);
PyObject *at_server_log_access(PyObject *self, PyObject *arguments);
PyObject *at_server_reopen_logs(PyObject *self, PyObject *unused);
PyObject *at_server_start_guard(PyObject *self, PyObject *unused);
PyObject *at_server_control_addresses(PyObject *self, PyObject *unused);

#endif
