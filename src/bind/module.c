/* The _atoll module: loaded natively by every interpreter, so that its C globals are
 * the one thing they all share. Each file of bind/ adds its types and functions. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "bind/bind.h"

static int module_exec(PyObject *module)
{
    /* One a line, so that additions merge. */
    /* clang-format off */
    static int (*const additions[])(PyObject *) = {
        at_bind_channel,
        at_bind_select,
        at_bind_broadcast,
        at_bind_subscription,
        at_bind_shared_dict,
        at_bind_http,
        at_bind_interpreter,
        at_bind_extension,
        at_bind_frames,
        at_bind_wait,
        at_bind_wakeups,
        at_bind_sync,
        at_bind_server,
        at_bind_parcel,
        at_bind_buffer,
        at_bind_pool,
        at_bind_pool_desk,
        at_bind_pool_feed,
        at_bind_pool_future,
        at_bind_queue,
        at_bind_remedy,
        at_bind_watch,
        at_bind_process,
        at_bind_capi,
        NULL, /* the end */
    };
    /* clang-format on */
    for (size_t i = 0; additions[i] != NULL; i++) {
        if (additions[i](module) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "atoll._atoll",
    .m_doc = "The C runtime of atoll. Use the atoll package; this module is private.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__atoll(void)
{
    return PyModuleDef_Init(&module_def);
}
