/* The process: its one writable global of this part, the list of interpreters.
 *
 * On it are those that are alive, those that were left, and those that are closed until
 * their owner thread is joined. It holds a reference to each.
 */
#ifndef AT_INTERP_RUNTIME_H
#define AT_INTERP_RUNTIME_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "interp/interpreter.h"

/* Put on the list; false when the process exits and takes no more.
 * ctx: any */
bool at_runtime_add(at_interpreter *interpreter);

/* Take off the list; nothing happens when it is not on it. ctx: any */
void at_runtime_remove(at_interpreter *interpreter);

/* The interpreter called `id`: a reference, or NULL when there is none. ctx: any */
at_interpreter *at_runtime_find(int64_t id);

/* References to up to `capacity` of those on the list, oldest first; returns how many
 * there are in all. ctx: any */
size_t at_runtime_list(at_interpreter **interpreters, size_t capacity);

/* How many are on the list. ctx: any */
size_t at_runtime_count(void);

/* The definition of the _atoll module and the path of its file, told once by the module
 * itself: the owner puts the module into its interpreter without CPython's importer,
 * which would need main's GIL for it. `file` is copied.
 * ctx: attached, main; errs: AT_ENOMEM */
int at_runtime_set_module(PyModuleDef *definition, const char *file);
PyModuleDef *at_runtime_module(const char **file);

/* How a message looks to Python code, told once by the binding. `wrap` gives a new
 * object of the caller's interpreter, or NULL with an exception set; `unwrap` borrows
 * from one, or is NULL with an exception set. */
typedef struct at_message_binding {
    PyObject *(*wrap)(at_message *message);
    at_message *(*unwrap)(PyObject *object);
} at_message_binding;

void at_runtime_set_messages(const at_message_binding *binding);
const at_message_binding *at_runtime_messages(void);

/* Take no more interpreters from now on: the process exits. ctx: any */
void at_runtime_stop(void);

#endif
