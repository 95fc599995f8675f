/* atoll.SharedDict: what its files share. */
#ifndef AT_BIND_SHARED_DICT_H
#define AT_BIND_SHARED_DICT_H

#include <Python.h>
#include <stdint.h>

#include "base/contexts.h"
#include "chan/common_dict.h"
#include "chan/dict.h"
#include "parcel/parcel.h"

/* A key whose bytes lie in the object, in `owner`, or here; never moved. */
typedef struct at_dict_key_room {
    at_dict_key key;
    PyObject *owner; /* or NULL */
    int64_t number;
} at_dict_key_room;

/* The str, bytes or int `object` as a key, or one of a subclass that equals it; good
 * while `object` lives and until fini. ctx:  attached errs: -1 with TypeError for other
 * types */
int at_dict_key_init(at_dict_key_room *room, PyObject *object) AT_ATTACHED;
void at_dict_key_fini(at_dict_key_room *room) AT_ATTACHED;

/* A new object for `key`, or NULL with an exception set. ctx: attached */
PyObject *at_dict_key_object(const at_dict_key *key) AT_ATTACHED;

/* How much memory a dict between processes has where nobody says. */
enum { AT_SHARED_DICT_BYTES = 16 << 20 };

/* An interpreter's handle, to a dict of this process or to one of several. */
typedef struct at_shared_dict_object {
    PyObject_HEAD at_shared *thing; /* a reference; fixed after new */
    atomic_size_t cursor;           /* where any() found the last; a hint */
    PyObject *weak_references;
} at_shared_dict_object;

static inline at_shared *at_shared_dict_thing(PyObject *object)
{
    return ((at_shared_dict_object *)object)->thing;
}

/* The dict between processes, or NULL. */
static inline at_common_dict *at_shared_dict_common(PyObject *object)
{
    at_shared *thing = at_shared_dict_thing(object);
    return thing->kind == &at_common_dict_kind ? (at_common_dict *)thing : NULL;
}

/* A new handle to `thing`, of which it takes a reference of its own, or NULL with an
 * exception set. ctx: attached */
PyObject *at_shared_dict_wrap(PyTypeObject *type, at_shared *thing) AT_ATTACHED;

/* What stands for dicts between processes. */
extern const at_parcel_handle at_shared_dict_common_handle;

/* The end of every handle, by which they are known. */
void at_shared_dict_free(PyObject *object);

/* NULL is allowed. ctx: any */
static inline void at_shared_dict_unref(at_dict_entry *entry)
{
    at_shared_unref(entry != NULL ? &entry->shared : NULL);
}

/* 1 with a reference to the entry of `key`, 0 without one, or -1 with an exception.
 * ctx: attached */
int at_shared_dict_lookup(PyObject *object, PyObject *key,
                          at_dict_entry **found) AT_ATTACHED;

/* A new entry for this dict, or NULL with an exception set. ctx: attached */
at_dict_entry *at_shared_dict_entry(PyObject *object, const at_dict_key *key,
                                    PyObject *value) AT_ATTACHED;

/* A copy of the value of `entry`; the second lets the entry go. Where it cannot be
 * unpacked the exception has a note with its key. ctx: attached */
PyObject *at_shared_dict_copy(const at_dict_entry *entry) AT_ATTACHED;
PyObject *at_shared_dict_take(at_dict_entry *entry) AT_ATTACHED;

/* ---- shared_dict_reach.c: what both kinds of dict do -------------------------------
 *
 * ctx:  attached; a dict between processes may be waited for, detached
 * owns: takes the `entry` that is to be put, whatever comes of it; one that comes back
 *       is the caller's
 * errs: -1 with an exception set */

/* 1 with the entry of `key`, or 0. */
int at_shared_dict_find(PyObject *object, const at_dict_key *key,
                        at_dict_entry **found) AT_ATTACHED;
/* Whether there is one: 1 or 0. */
int at_shared_dict_has(PyObject *object, const at_dict_key *key) AT_ATTACHED;
int at_shared_dict_put(PyObject *object, at_dict_entry *entry) AT_ATTACHED;

/* 1, or 0 with the entry that there is. */
int at_shared_dict_put_new(PyObject *object, at_dict_entry *entry,
                           at_dict_entry **found) AT_ATTACHED;

/* Put `entry` (or NULL: nothing) in the place of `expected`: 1, or 0 where that is
 * there no more. */
int at_shared_dict_swap(PyObject *object, const at_dict_entry *expected,
                        at_dict_entry *entry) AT_ATTACHED;

/* Take `key` out: 1, or 0 where it is not there. */
int at_shared_dict_remove(PyObject *object, const at_dict_key *key) AT_ATTACHED;

/* Any entry, which stays: 1, or 0 where there is none. The next call begins with it,
 * but after pass(). */
int at_shared_dict_any(PyObject *object, at_dict_entry **found) AT_ATTACHED;
void at_shared_dict_pass(PyObject *object);
int at_shared_dict_remove_all(PyObject *object) AT_ATTACHED;
size_t at_shared_dict_count(PyObject *object);

/* What one entry becomes; it stays the caller's. */
typedef PyObject *at_shared_dict_make(const at_dict_entry *entry);
PyObject *at_shared_dict_pair(const at_dict_entry *entry) AT_ATTACHED;

/* A list of what `make` makes of each entry; without `values` those of a dict between
 * processes have none. NULL with an exception set. */
PyObject *at_shared_dict_list(PyObject *object, at_shared_dict_make *make,
                              bool values) AT_ATTACHED;

/* Set, or with a NULL `value` delete: 0, or -1 with an exception set. ctx: attached */
int at_shared_dict_store(PyObject *object, PyObject *key, PyObject *value) AT_ATTACHED;

/* ---- shared_dict_make.c -----------------------------------------------------------
 */

/* Slots and methods. */
PyObject *at_shared_dict_new(PyTypeObject *type, PyObject *arguments,
                             PyObject *keywords);
PyObject *at_shared_dict_update(PyObject *object, PyObject *arguments,
                                PyObject *keywords);
PyObject *at_shared_dict_describe(PyObject *object, PyObject *unused);
PyObject *at_shared_dict_deepcopy(PyObject *object, PyObject *memo);

/* Methods: shared_dict_change.c. */
PyObject *at_shared_dict_setdefault(PyObject *object, PyObject *const *arguments,
                                    Py_ssize_t count);
PyObject *at_shared_dict_compare_and_set(PyObject *object, PyObject *const *arguments,
                                         Py_ssize_t count);
PyObject *at_shared_dict_change(PyObject *object, PyObject *const *arguments,
                                Py_ssize_t count, PyObject *keyword_names);
PyObject *at_shared_dict_pop(PyObject *object, PyObject *const *arguments,
                             Py_ssize_t count);
PyObject *at_shared_dict_popitem(PyObject *object, PyObject *unused);
PyObject *at_shared_dict_plain(PyObject *object, PyObject *unused);

/* Slots: `|`, whose result is a plain dict, and `|=`. */
PyObject *at_shared_dict_or(PyObject *left, PyObject *right);
PyObject *at_shared_dict_inplace_or(PyObject *object, PyObject *other);

#endif
