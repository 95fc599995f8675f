/* The place of a module definition in every interpreter's list of modules. */
#ifndef AT_INTERP_MODULE_INDEX_H
#define AT_INTERP_MODULE_INDEX_H

#include <Python.h>

#include "base/contexts.h"

/* Stands in for PyModuleDef_Init in an image. ctx: attached */
PyObject *at_module_def_init(PyModuleDef *def) AT_UNCHECKED;

#endif
