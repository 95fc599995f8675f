/* The one translator between AT_E* codes and Python's exceptions.
 *
 * base/error.h names the exception of each code. A name is looked up in atoll._errors
 * first and in builtins then, so that every interpreter raises its own class objects
 * and each class has one identity in it.
 */
#ifndef AT_BIND_ERROR_H
#define AT_BIND_ERROR_H

#include <Python.h>

#include "base/contexts.h"
#include "base/error.h"

/* Set the exception that stands for `code`, with the code's standing text.
 * ctx:  attached, no exception set
 * returns NULL always, so that a caller can write `return at_raise(code)` */
PyObject *at_raise(int code) AT_ATTACHED;

/* The same with the sentence of `fault`; an OSError also gets its errno.
 * ctx:  attached, no exception set
 * returns NULL always */
PyObject *at_raise_fault(const at_fault *fault) AT_ATTACHED;

/* The same with a sentence of the caller's, in PyErr_Format()'s language.
 * ctx:  attached, no exception set
 * returns NULL always */
PyObject *at_raise_format(int code, const char *format, ...) AT_ATTACHED;

/* The class `name` of atoll._errors or builtins: a new reference, or NULL with an
 * exception set.
 * ctx:  attached */
PyObject *at_error_class(const char *name) AT_ATTACHED;

#endif
