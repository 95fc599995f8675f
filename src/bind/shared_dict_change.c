/* atoll.SharedDict: what reads, and writes if nothing has changed, in one step.
 *
 * The entry that was read stands for what was there: at_dict_swap() puts the new one
 * only where the old one still is, and who comes too late starts again. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/error.h"
#include "bind/shared_dict.h"
#include "bind/type.h"

AT_UNCHECKED PyObject *at_shared_dict_setdefault(PyObject *object,
                                                 PyObject *const *arguments,
                                                 Py_ssize_t count)
{
    if (at_bind_count("setdefault", count, 1, 2) < 0) {
        return NULL;
    }
    at_dict_entry *found = NULL;
    int there = at_shared_dict_lookup(object, arguments[0], &found);
    if (there != 0) {
        return there == 1 ? at_shared_dict_take(found) : NULL;
    }
    at_dict_key_room room;
    if (at_dict_key_init(&room, arguments[0]) < 0) {
        return NULL;
    }
    PyObject *value = count == 2 ? arguments[1] : Py_None;
    at_dict_entry *entry = at_shared_dict_entry(object, &room.key, value);
    at_dict_key_fini(&room);
    if (entry == NULL) {
        return NULL;
    }
    int result = at_shared_dict_put_new(object, entry, &found);
    if (result == 1) {
        return Py_NewRef(value);
    }
    return result == 0 ? at_shared_dict_take(found) : NULL;
}

/* ---- taking out ------------------------------------------------------------------ */

/* What `make` makes of `found`, which it takes out, if it is still there then. What
 * cannot be made stays: nobody else would get it. NULL with `*done` false and no
 * exception where somebody else was faster. Lets `found` go. */
static PyObject *take_out(PyObject *object, at_dict_entry *found,
                          at_shared_dict_make *make, bool *done) AT_ATTACHED
{
    PyObject *made = make(found);
    int status = made != NULL ? at_shared_dict_swap(object, found, NULL) : -1;
    at_shared_dict_unref(found);
    if (status != 1) {
        *done = status < 0;
        Py_CLEAR(made);
    }
    return made;
}

AT_UNCHECKED PyObject *at_shared_dict_pop(PyObject *object, PyObject *const *arguments,
                                          Py_ssize_t count)
{
    if (at_bind_count("pop", count, 1, 2) < 0) {
        return NULL;
    }
    for (;;) {
        at_dict_entry *found;
        int there = at_shared_dict_lookup(object, arguments[0], &found);
        if (there == 0 && count == 2) {
            return Py_NewRef(arguments[1]);
        }
        if (there == 0) {
            PyErr_SetObject(PyExc_KeyError, arguments[0]);
        }
        bool done = true;
        PyObject *value =
            there == 1 ? take_out(object, found, at_shared_dict_copy, &done) : NULL;
        if (done || PyErr_CheckSignals() < 0) { /* as in change() */
            return value;
        }
    }
}

AT_UNCHECKED PyObject *at_shared_dict_popitem(PyObject *object, PyObject *unused)
{
    for (;;) {
        at_dict_entry *found;
        int there = at_shared_dict_any(object, &found);
        if (there == 0) {
            PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
        }
        bool done = true;
        PyObject *pair =
            there == 1 ? take_out(object, found, at_shared_dict_pair, &done) : NULL;
        if (done && pair == NULL) {
            at_shared_dict_pass(object);
        }
        if (done || PyErr_CheckSignals() < 0) { /* as in change() */
            return pair;
        }
    }
}

/* ---- comparing and changing ------------------------------------------------------ */

/* Exchange `old` for `value`, or say that it is there no more: 1, 0, or -1. */
static int exchange(PyObject *object, at_dict_entry *old, PyObject *value) AT_ATTACHED
{
    at_dict_entry *entry = at_shared_dict_entry(object, &old->key, value);
    return entry != NULL ? at_shared_dict_swap(object, old, entry) : -1;
}

/* Does the value of `entry` equal `expected`: 1, 0, or -1. */
static int equals(const at_dict_entry *entry, PyObject *expected) AT_ATTACHED
{
    PyObject *current = at_shared_dict_copy(entry);
    int equal =
        current != NULL ? PyObject_RichCompareBool(current, expected, Py_EQ) : -1;
    Py_XDECREF(current);
    return equal;
}

AT_UNCHECKED PyObject *at_shared_dict_compare_and_set(PyObject *object,
                                                      PyObject *const *arguments,
                                                      Py_ssize_t count)
{
    if (at_bind_count("compare_and_set", count, 3, 3) < 0) {
        return NULL;
    }
    for (;;) {
        at_dict_entry *old;
        int status = at_shared_dict_lookup(object, arguments[0], &old);
        if (status != 1) {
            return status == 0 ? Py_NewRef(Py_False) : NULL;
        }
        int equal = equals(old, arguments[1]);
        int done = equal == 1 ? exchange(object, old, arguments[2]) : 0;
        at_shared_dict_unref(old);
        if (equal < 0 || done < 0) {
            return NULL;
        }
        if (equal == 0 || done == 1) {
            return PyBool_FromLong(done);
        }
        if (PyErr_CheckSignals() < 0) { /* as in change() */
            return NULL;
        }
    }
}

/* Put `value` if there still is none: 1, 0, or -1. */
static int add(PyObject *object, PyObject *key, PyObject *value) AT_ATTACHED
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    at_dict_entry *entry = at_shared_dict_entry(object, &room.key, value);
    at_dict_key_fini(&room);
    if (entry == NULL) {
        return -1;
    }
    at_dict_entry *found = NULL;
    int result = at_shared_dict_put_new(object, entry, &found);
    if (result == 0) {
        at_shared_dict_unref(found);
    }
    return result;
}

/* change(key, function, default or NULL): the new value, by one attempt; NULL with
 * `*done` false and no exception where somebody else was faster. */
static PyObject *change_once(PyObject *object, PyObject *const arguments[3],
                             bool *done) AT_ATTACHED
{
    *done = true;
    at_dict_entry *old = NULL;
    int there = at_shared_dict_lookup(object, arguments[0], &old);
    PyObject *current = NULL;
    if (there == 1) {
        current = at_shared_dict_copy(old);
    } else if (there == 0 && arguments[2] != NULL) {
        current = Py_NewRef(arguments[2]);
    } else if (there == 0) {
        PyErr_SetObject(PyExc_KeyError, arguments[0]);
    }
    PyObject *wanted =
        current != NULL ? PyObject_CallOneArg(arguments[1], current) : NULL;
    Py_XDECREF(current);
    int status = -1;
    if (wanted != NULL) {
        status = there == 1 ? exchange(object, old, wanted)
                            : add(object, arguments[0], wanted);
    }
    if (there == 1) {
        at_shared_dict_unref(old);
    }
    if (status != 1) {
        *done = status < 0;
        Py_CLEAR(wanted);
    }
    return wanted;
}

AT_UNCHECKED PyObject *at_shared_dict_change(PyObject *object,
                                             PyObject *const *arguments,
                                             Py_ssize_t count, PyObject *keyword_names)
{
    static const char *const names[] = {"key", "function", "default"};
    PyObject *values[3] = {NULL};
    if (at_bind_arguments("change", names, 2, 3, arguments, count, keyword_names,
                          values) < 0) {
        return NULL;
    }
    for (;;) {
        bool done;
        PyObject *value = change_once(object, values, &done);
        if (done) {
            return value;
        }
        /* Two that undo each other's attempts would never look at Ctrl-C. */
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

/* ---- merging --------------------------------------------------------------------- */

/* Not dict(object), which asks for each key again, when another may have taken it. */
AT_UNCHECKED PyObject *at_shared_dict_plain(PyObject *object, PyObject *unused)
{
    PyObject *items = PyObject_CallMethod(object, "items", NULL);
    PyObject *plain = items != NULL ? PyDict_New() : NULL;
    if (plain != NULL && PyDict_MergeFromSeq2(plain, items, 1) < 0) {
        Py_CLEAR(plain);
    }
    Py_XDECREF(items);
    return plain;
}

/* One side of `|`: what a plain dict can be updated with, or NULL. */
static PyObject *side(PyObject *object) AT_ATTACHED
{
    return PyDict_Check(object) ? Py_NewRef(object)
                                : at_shared_dict_plain(object, NULL);
}

static bool may_merge(PyObject *object)
{
    return PyDict_Check(object) ||
           Py_TYPE(object)->tp_as_number->nb_or == at_shared_dict_or;
}

AT_UNCHECKED PyObject *at_shared_dict_or(PyObject *left, PyObject *right)
{
    bool numbers =
        Py_TYPE(left)->tp_as_number != NULL && Py_TYPE(right)->tp_as_number != NULL;
    if (!numbers || !may_merge(left) || !may_merge(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *first = side(left);
    PyObject *second = first != NULL ? side(right) : NULL;
    PyObject *merged = second != NULL ? PyDict_Copy(first) : NULL;
    if (merged != NULL && PyDict_Update(merged, second) < 0) {
        Py_CLEAR(merged);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return merged;
}

AT_UNCHECKED PyObject *at_shared_dict_inplace_or(PyObject *object, PyObject *other)
{
    PyObject *none = PyObject_CallMethod(object, "update", "O", other);
    if (none == NULL) {
        return NULL;
    }
    Py_DECREF(none);
    return Py_NewRef(object);
}
