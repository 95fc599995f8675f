/* atoll.SharedDict: a dict that interpreters share, over chan/dict.h.
 *
 * A value is packed before its entry is put, and unpacked from an entry that the reader
 * holds a reference to: no lock is held while Python code may run. What reads, compares
 * and then writes does so with at_dict_swap(), and starts again where somebody else was
 * faster. */
#define PY_SSIZE_T_CLEAN
#include "bind/shared_dict.h"

#include "base/error.h"
#include "base/memory.h"
#include "bind/bind.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/type.h"
#include "chan/message.h"
#include "parcel/parcel.h"

typedef struct dict_object {
    PyObject_HEAD at_dict *dict; /* a reference; fixed after new */
} dict_object;

static at_dict *dict_of(PyObject *object)
{
    return ((dict_object *)object)->dict;
}

/* ---- entries ------------------------------------------------------------------- */

/* A copy of the value of `entry`, which is let go. The reference of our own that the
 * message gets keeps its writable buffers from being handed over to one reader. */
static PyObject *value_of(at_dict_entry *entry) AT_ATTACHED
{
    PyObject *value = at_channel_unpack(at_message_share(entry->item));
    at_shared_unref(&entry->shared);
    return value;
}

static at_dict_entry *entry_of(const at_dict_key *key, PyObject *value) AT_ATTACHED
{
    void *item;
    if (at_channel_pack(value, &item) < 0) {
        return NULL;
    }
    at_dict_entry *entry;
    int result = at_dict_entry_new(key, item, &entry);
    if (result < 0) {
        at_message_drop(item);
        at_raise(result);
        return NULL;
    }
    return entry;
}

static void entry_unref(at_dict_entry *entry)
{
    at_shared_unref(entry != NULL ? &entry->shared : NULL);
}

/* 1 with a reference to the entry of `key`, 0 without one, or -1 with an exception. */
static int lookup(PyObject *object, PyObject *key, at_dict_entry **found) AT_ATTACHED
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    int result = at_dict_get(dict_of(object), &room.key, found);
    at_dict_key_fini(&room);
    return result == 0;
}

/* Set, or with a NULL `value` delete. */
static int store(PyObject *object, PyObject *key, PyObject *value) AT_ATTACHED
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    at_dict_entry *entry = NULL;
    at_dict_entry *old = NULL;
    int result = -1;
    if (value == NULL) {
        result = at_dict_remove(dict_of(object), &room.key, &old);
        if (result < 0) {
            PyErr_SetObject(PyExc_KeyError, key);
        }
    } else if ((entry = entry_of(&room.key, value)) != NULL) {
        result = at_dict_put(dict_of(object), entry, &old);
        if (result < 0) {
            entry_unref(entry);
            at_raise(result);
        }
    }
    entry_unref(old);
    at_dict_key_fini(&room);
    return result < 0 ? -1 : 0;
}

/* ---- life ---------------------------------------------------------------------- */

static PyObject *wrap(PyTypeObject *type, at_shared *dict) AT_ATTACHED
{
    dict_object *self = (dict_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->dict = (at_dict *)at_shared_ref(dict);
    }
    return (PyObject *)self;
}

/* Set what dict(*arguments, **keywords) would have. */
static int fill(PyObject *object, PyObject *arguments, PyObject *keywords) AT_ATTACHED
{
    PyObject *plain = PyObject_Call((PyObject *)&PyDict_Type, arguments, keywords);
    int status = plain != NULL ? 0 : -1;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (status == 0 && PyDict_Next(plain, &position, &key, &value)) {
        Py_INCREF(key); /* packing runs code */
        Py_INCREF(value);
        status = store(object, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_XDECREF(plain);
    return status;
}

AT_UNCHECKED static PyObject *dict_new(PyTypeObject *type, PyObject *arguments,
                                       PyObject *keywords)
{
    at_dict *dict;
    int result = at_dict_new(&dict);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = wrap(type, (at_shared *)dict);
    at_shared_unref((at_shared *)dict);
    if (self != NULL && fill(self, arguments, keywords) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static void dict_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    at_shared_unref((at_shared *)dict_of(object));
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- reading --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *dict_subscript(PyObject *object, PyObject *key)
{
    at_dict_entry *found;
    int there = lookup(object, key, &found);
    if (there == 0) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return there == 1 ? value_of(found) : NULL;
}

AT_UNCHECKED static int dict_contains(PyObject *object, PyObject *key)
{
    at_dict_entry *found;
    int there = lookup(object, key, &found);
    if (there == 1) {
        entry_unref(found);
    }
    return there;
}

AT_UNCHECKED static PyObject *dict_get(PyObject *object, PyObject *const *arguments,
                                       Py_ssize_t count)
{
    if (at_bind_count("get", count, 1, 2) < 0) {
        return NULL;
    }
    at_dict_entry *found;
    int there = lookup(object, arguments[0], &found);
    if (there == 0) {
        return Py_NewRef(count == 2 ? arguments[1] : Py_None);
    }
    return there == 1 ? value_of(found) : NULL;
}

static Py_ssize_t dict_length(PyObject *object)
{
    return (Py_ssize_t)at_dict_count(dict_of(object));
}

/* What one entry of a snapshot becomes; it stays the caller's. */
typedef PyObject *of_entry(const at_dict_entry *entry);

static PyObject *key_of(const at_dict_entry *entry)
{
    return at_dict_key_object(&entry->key);
}

static PyObject *copy_of(const at_dict_entry *entry)
{
    return at_channel_unpack(at_message_share(entry->item));
}

static PyObject *pair_of(const at_dict_entry *entry)
{
    PyObject *key = key_of(entry);
    PyObject *value = key != NULL ? copy_of(entry) : NULL;
    PyObject *pair = value != NULL ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return pair;
}

static PyObject *list_of(PyObject *object, of_entry *make) AT_ATTACHED
{
    at_dict_entry **entries;
    size_t count;
    int result = at_dict_snapshot(dict_of(object), &entries, &count);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = list != NULL ? make(entries[i]) : NULL;
        entry_unref(entries[i]);
        if (list != NULL && (made == NULL || PyList_Append(list, made) < 0)) {
            Py_CLEAR(list);
        }
        Py_XDECREF(made);
    }
    at_free((void *)entries);
    return list;
}

AT_UNCHECKED static PyObject *dict_keys(PyObject *object, PyObject *unused)
{
    return list_of(object, key_of);
}

AT_UNCHECKED static PyObject *dict_values(PyObject *object, PyObject *unused)
{
    return list_of(object, copy_of);
}

AT_UNCHECKED static PyObject *dict_items(PyObject *object, PyObject *unused)
{
    return list_of(object, pair_of);
}

AT_UNCHECKED static PyObject *dict_iter(PyObject *object)
{
    PyObject *keys = list_of(object, key_of);
    PyObject *iterator = keys != NULL ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

/* ---- writing --------------------------------------------------------------------- */

AT_UNCHECKED static int dict_assign(PyObject *object, PyObject *key, PyObject *value)
{
    return store(object, key, value);
}

AT_UNCHECKED static PyObject *
dict_setdefault(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (at_bind_count("setdefault", count, 1, 2) < 0) {
        return NULL;
    }
    at_dict_entry *found;
    int there = lookup(object, arguments[0], &found);
    if (there != 0) {
        return there == 1 ? value_of(found) : NULL;
    }
    at_dict_key_room room;
    if (at_dict_key_init(&room, arguments[0]) < 0) {
        return NULL;
    }
    PyObject *value = count == 2 ? arguments[1] : Py_None;
    at_dict_entry *entry = entry_of(&room.key, value);
    at_dict_key_fini(&room);
    if (entry == NULL) {
        return NULL;
    }
    int result = at_dict_put_new(dict_of(object), entry, &found);
    if (result == 1) {
        return Py_NewRef(value);
    }
    entry_unref(entry);
    return result == 0 ? value_of(found) : at_raise(result);
}

AT_UNCHECKED static PyObject *dict_pop(PyObject *object, PyObject *const *arguments,
                                       Py_ssize_t count)
{
    at_dict_key_room room;
    if (at_bind_count("pop", count, 1, 2) < 0 ||
        at_dict_key_init(&room, arguments[0]) < 0) {
        return NULL;
    }
    at_dict_entry *old;
    int result = at_dict_remove(dict_of(object), &room.key, &old);
    at_dict_key_fini(&room);
    if (result == 0) {
        return value_of(old);
    }
    if (count == 2) {
        return Py_NewRef(arguments[1]);
    }
    PyErr_SetObject(PyExc_KeyError, arguments[0]);
    return NULL;
}

AT_UNCHECKED static PyObject *dict_popitem(PyObject *object, PyObject *unused)
{
    at_dict_entry *old;
    if (at_dict_remove_any(dict_of(object), &old) < 0) {
        PyErr_SetString(PyExc_KeyError, "popitem(): the dict is empty");
        return NULL;
    }
    PyObject *pair = pair_of(old);
    entry_unref(old);
    return pair;
}

AT_UNCHECKED static PyObject *dict_update(PyObject *object, PyObject *arguments,
                                          PyObject *keywords)
{
    if (fill(object, arguments, keywords) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *dict_clear(PyObject *object, PyObject *unused)
{
    at_dict_clear(dict_of(object));
    Py_RETURN_NONE;
}

/* Exchange `old` for `value`, or say that it is there no more: 1, 0, or -1. */
static int exchange(PyObject *object, at_dict_entry *old, PyObject *value) AT_ATTACHED
{
    at_dict_entry *entry = entry_of(&old->key, value);
    if (entry == NULL) {
        return -1;
    }
    bool done = at_dict_swap(dict_of(object), old, entry);
    if (!done) {
        entry_unref(entry);
    }
    return done;
}

/* Does the value of `entry` equal `expected`: 1, 0, or -1. */
static int equals(const at_dict_entry *entry, PyObject *expected) AT_ATTACHED
{
    PyObject *current = copy_of(entry);
    int equal =
        current != NULL ? PyObject_RichCompareBool(current, expected, Py_EQ) : -1;
    Py_XDECREF(current);
    return equal;
}

AT_UNCHECKED static PyObject *
dict_compare_and_set(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (at_bind_count("compare_and_set", count, 3, 3) < 0) {
        return NULL;
    }
    for (;;) {
        at_dict_entry *old;
        int status = lookup(object, arguments[0], &old);
        if (status != 1) {
            return status == 0 ? Py_NewRef(Py_False) : NULL;
        }
        int equal = equals(old, arguments[1]);
        int done = equal == 1 ? exchange(object, old, arguments[2]) : 0;
        entry_unref(old);
        if (equal < 0 || done < 0) {
            return NULL;
        }
        if (equal == 0 || done == 1) {
            return PyBool_FromLong(done);
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
    at_dict_entry *entry = entry_of(&room.key, value);
    at_dict_key_fini(&room);
    if (entry == NULL) {
        return -1;
    }
    at_dict_entry *found;
    int result = at_dict_put_new(dict_of(object), entry, &found);
    if (result != 1) {
        entry_unref(entry);
        entry_unref(found);
    }
    if (result < 0) {
        at_raise(result);
        return -1;
    }
    return result;
}

/* change(key, function, default): the new value, by one attempt; NULL with `*done`
 * false and no exception where somebody else was faster. */
static PyObject *change_once(PyObject *object, PyObject *const *arguments,
                             Py_ssize_t count, bool *done) AT_ATTACHED
{
    *done = true;
    at_dict_entry *old = NULL;
    int there = lookup(object, arguments[0], &old);
    PyObject *current = NULL;
    if (there == 1) {
        current = copy_of(old);
    } else if (there == 0 && count == 3) {
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
        entry_unref(old);
    }
    if (status != 1) {
        *done = status < 0;
        Py_CLEAR(wanted);
    }
    return wanted;
}

AT_UNCHECKED static PyObject *dict_change(PyObject *object, PyObject *const *arguments,
                                          Py_ssize_t count)
{
    if (at_bind_count("change", count, 2, 3) < 0) {
        return NULL;
    }
    for (;;) {
        bool done;
        PyObject *value = change_once(object, arguments, count, &done);
        if (done) {
            return value;
        }
        /* Two that undo each other's attempts would never look at Ctrl-C. */
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

/* ---- the type ---------------------------------------------------------------------
 */

AT_UNCHECKED static PyObject *dict_repr(PyObject *object)
{
    at_dict *dict = dict_of(object);
    return PyUnicode_FromFormat("<atoll.SharedDict %p: %zu items>", (void *)dict,
                                at_dict_count(dict));
}

/* Two handles are equal when they are of one dict. */
AT_UNCHECKED static PyObject *dict_compare(PyObject *left, PyObject *right,
                                           int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool same = dict_of(left) == dict_of(right);
    return PyBool_FromLong(same == (operation == Py_EQ));
}

static Py_hash_t dict_hash(PyObject *object)
{
    return at_bind_hash_pointer(dict_of(object));
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef dict_methods[] = {
    {"get", FAST(dict_get),
     "get($self, key, default=None, /)\n"
     "--\n"
     "\n"
     "A copy of the value of key, or default."},
    {"setdefault", FAST(dict_setdefault),
     "setdefault($self, key, default=None, /)\n"
     "--\n"
     "\n"
     "The value of key, which is set to default where there is none: one step."},
    {"pop", FAST(dict_pop),
     "pop($self, key, default=..., /)\n"
     "--\n"
     "\n"
     "Take key out and return its value: one step, so one caller gets it.\n"
     "\n"
     "Raises:\n"
     "    KeyError: It is not there, and there is no default."},
    {"popitem", dict_popitem, METH_NOARGS,
     "popitem($self)\n"
     "--\n"
     "\n"
     "Take any item out and return (key, value).\n"
     "\n"
     "Raises:\n"
     "    KeyError: There is none."},
    {"update", (PyCFunction)(void (*)(void))dict_update, METH_VARARGS | METH_KEYWORDS,
     "update($self, /, *args, **kwargs)\n"
     "--\n"
     "\n"
     "Set what dict(*args, **kwargs) has, one item after the other."},
    {"clear", dict_clear, METH_NOARGS,
     "clear($self)\n"
     "--\n"
     "\n"
     "Take everything out, a part after the other."},
    {"keys", dict_keys, METH_NOARGS,
     "keys($self)\n"
     "--\n"
     "\n"
     "A list of the keys: a snapshot, in no order."},
    {"values", dict_values, METH_NOARGS,
     "values($self)\n"
     "--\n"
     "\n"
     "A list of copies of the values: a snapshot, in no order."},
    {"items", dict_items, METH_NOARGS,
     "items($self)\n"
     "--\n"
     "\n"
     "A list of (key, value): a snapshot, in no order."},
    {"compare_and_set", FAST(dict_compare_and_set),
     "compare_and_set($self, key, expected, new, /)\n"
     "--\n"
     "\n"
     "Set key to new if its value equals expected: one step.\n"
     "\n"
     "Returns:\n"
     "    Whether it did. False where key is not there: see setdefault()."},
    {"change", FAST(dict_change),
     "change($self, key, function, default=..., /)\n"
     "--\n"
     "\n"
     "Set key to function(its value): one step, for d[key] += 1 is not.\n"
     "\n"
     "The function is called again where another change came between.\n"
     "\n"
     "Args:\n"
     "    key: A str, bytes or int.\n"
     "    function: Called with a copy of the value, or with default.\n"
     "    default: What stands for the value where there is none.\n"
     "\n"
     "Returns:\n"
     "    The new value.\n"
     "\n"
     "Raises:\n"
     "    KeyError: key is not there, and there is no default."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot dict_slots[] = {
    {Py_tp_doc,
     "SharedDict(*args, **kwargs)\n"
     "--\n"
     "\n"
     "A dict that the interpreters and threads of this process share.\n"
     "\n"
     "Keys are str, bytes or int. A value is anything that a Channel can carry; what\n"
     "is read is a copy, and changing it changes nothing here. No lock is held while "
     "a\n"
     "value is packed or unpacked.\n"
     "\n"
     "What concerns one key (a read, a write, setdefault, pop, compare_and_set,\n"
     "change) is one step, and all see such steps in one order. What concerns several\n"
     "(iteration, keys, values, items, update, clear, len) is not: it shows each key\n"
     "as it was at some moment of the call. There is no order of the keys.\n"
     "\n"
     "It can be sent; it is not shared with other processes. One that holds itself is\n"
     "never freed.\n"
     "\n"
     "Args:\n"
     "    *args, **kwargs: Its first items, as for dict()."},
    {Py_tp_new, dict_new},
    {Py_tp_dealloc, dict_dealloc},
    {Py_tp_methods, dict_methods},
    {Py_tp_repr, dict_repr},
    {Py_tp_richcompare, dict_compare},
    {Py_tp_hash, dict_hash},
    {Py_tp_iter, dict_iter},
    {Py_mp_subscript, dict_subscript},
    {Py_mp_ass_subscript, dict_assign},
    {Py_mp_length, dict_length},
    {Py_sq_contains, dict_contains},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "atoll.SharedDict",
    .basicsize = sizeof(dict_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)dict_of(object);
}

static const at_parcel_handle dict_handle = {
    .kind = &at_dict_kind,
    .thing_of = thing_of,
    .wrap = wrap,
};

AT_UNCHECKED int at_bind_shared_dict(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &dict_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &dict_handle);
    Py_DECREF(type);
    return result;
}
