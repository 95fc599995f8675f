/* atoll.SharedDict: what its files share. */
#ifndef AT_BIND_SHARED_DICT_H
#define AT_BIND_SHARED_DICT_H

#include <Python.h>
#include <stdint.h>

#include "base/contexts.h"
#include "chan/dict.h"

/* A key whose bytes lie in the object, in `owner`, or here; never moved. */
typedef struct at_dict_key_room {
    at_dict_key key;
    PyObject *owner; /* or NULL */
    int64_t number;
} at_dict_key_room;

/* The str, bytes or int `object` as a key; good while `object` lives and until fini.
 * ctx:  attached
 * errs: -1 with TypeError for other types */
int at_dict_key_init(at_dict_key_room *room, PyObject *object) AT_ATTACHED;
void at_dict_key_fini(at_dict_key_room *room) AT_ATTACHED;

/* A new object for `key`, or NULL with an exception set. ctx: attached */
PyObject *at_dict_key_object(const at_dict_key *key) AT_ATTACHED;

/* An interpreter's handle. */
typedef struct at_shared_dict_object {
    PyObject_HEAD at_dict *dict; /* a reference; fixed after new */
} at_shared_dict_object;

static inline at_dict *at_shared_dict_of(PyObject *object)
{
    return ((at_shared_dict_object *)object)->dict;
}

/* NULL is allowed. ctx: any */
static inline void at_shared_dict_unref(at_dict_entry *entry)
{
    at_shared_unref(entry != NULL ? &entry->shared : NULL);
}

/* 1 with a reference to the entry of `key`, 0 without one, or -1 with an exception.
 * ctx: attached */
int at_shared_dict_lookup(PyObject *object, PyObject *key,
                          at_dict_entry **found) AT_ATTACHED;

/* A new entry, or NULL with an exception set. ctx: attached */
at_dict_entry *at_shared_dict_entry(const at_dict_key *key,
                                    PyObject *value) AT_ATTACHED;

/* A copy of the value of `entry`; the second lets the entry go. ctx: attached */
PyObject *at_shared_dict_copy(const at_dict_entry *entry) AT_ATTACHED;
PyObject *at_shared_dict_take(at_dict_entry *entry) AT_ATTACHED;

/* Methods: shared_dict_change.c. */
PyObject *at_shared_dict_setdefault(PyObject *object, PyObject *const *arguments,
                                    Py_ssize_t count);
PyObject *at_shared_dict_compare_and_set(PyObject *object, PyObject *const *arguments,
                                         Py_ssize_t count);
PyObject *at_shared_dict_change(PyObject *object, PyObject *const *arguments,
                                Py_ssize_t count);
PyObject *at_shared_dict_plain(PyObject *object, PyObject *unused);

/* Slots: `|`, whose result is a plain dict, and `|=`. */
PyObject *at_shared_dict_or(PyObject *left, PyObject *right);
PyObject *at_shared_dict_inplace_or(PyObject *object, PyObject *other);

#endif
