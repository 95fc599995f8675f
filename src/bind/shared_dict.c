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

/* ---- entries ------------------------------------------------------------------- */

/* The reference of our own that the message gets keeps its writable buffers from being
 * handed over to one reader. */
PyObject *at_shared_dict_copy(const at_dict_entry *entry)
{
    return at_channel_unpack(at_message_share(entry->item));
}

PyObject *at_shared_dict_take(at_dict_entry *entry)
{
    PyObject *value = at_shared_dict_copy(entry);
    at_shared_unref(&entry->shared);
    return value;
}

at_dict_entry *at_shared_dict_entry(const at_dict_key *key, PyObject *value)
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

int at_shared_dict_lookup(PyObject *object, PyObject *key, at_dict_entry **found)
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    int result = at_dict_get(at_shared_dict_of(object), &room.key, found);
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
        result = at_dict_remove(at_shared_dict_of(object), &room.key, &old);
        if (result < 0) {
            PyErr_SetObject(PyExc_KeyError, key);
        }
    } else if ((entry = at_shared_dict_entry(&room.key, value)) != NULL) {
        result = at_dict_put(at_shared_dict_of(object), entry, &old);
        if (result < 0) {
            at_shared_dict_unref(entry);
            at_raise(result);
        }
    }
    at_shared_dict_unref(old);
    at_dict_key_fini(&room);
    return result < 0 ? -1 : 0;
}

/* ---- life ---------------------------------------------------------------------- */

static PyObject *wrap(PyTypeObject *type, at_shared *dict) AT_ATTACHED
{
    at_shared_dict_object *self = (at_shared_dict_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->dict = (at_dict *)at_shared_ref(dict);
    }
    return (PyObject *)self;
}

static void dict_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    at_shared_unref((at_shared *)at_shared_dict_of(object));
    type->tp_free(object);
    Py_DECREF(type);
}

/* dict(*arguments, **keywords), which asks a SharedDict for each key again, when
 * another may have taken it: for that one its snapshot. */
static PyObject *plain_of(PyObject *arguments, PyObject *keywords) AT_ATTACHED
{
    PyObject *first =
        PyTuple_GET_SIZE(arguments) == 1 ? PyTuple_GET_ITEM(arguments, 0) : NULL;
    if (first == NULL || Py_TYPE(first)->tp_dealloc != dict_dealloc) {
        return PyObject_Call((PyObject *)&PyDict_Type, arguments, keywords);
    }
    PyObject *plain = at_shared_dict_plain(first, NULL);
    if (plain != NULL && keywords != NULL && PyDict_Update(plain, keywords) < 0) {
        Py_CLEAR(plain);
    }
    return plain;
}

/* Set what dict(*arguments, **keywords) would have. */
static int fill(PyObject *object, PyObject *arguments, PyObject *keywords) AT_ATTACHED
{
    PyObject *plain = plain_of(arguments, keywords);
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

/* ---- reading --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *dict_subscript(PyObject *object, PyObject *key)
{
    at_dict_entry *found;
    int there = at_shared_dict_lookup(object, key, &found);
    if (there == 0) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return there == 1 ? at_shared_dict_take(found) : NULL;
}

AT_UNCHECKED static int dict_contains(PyObject *object, PyObject *key)
{
    at_dict_entry *found;
    int there = at_shared_dict_lookup(object, key, &found);
    if (there == 1) {
        at_shared_dict_unref(found);
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
    int there = at_shared_dict_lookup(object, arguments[0], &found);
    if (there == 0) {
        return Py_NewRef(count == 2 ? arguments[1] : Py_None);
    }
    return there == 1 ? at_shared_dict_take(found) : NULL;
}

static Py_ssize_t dict_length(PyObject *object)
{
    return (Py_ssize_t)at_dict_count(at_shared_dict_of(object));
}

/* What one entry of a snapshot becomes; it stays the caller's. */
typedef PyObject *of_entry(const at_dict_entry *entry);

static PyObject *key_of(const at_dict_entry *entry) AT_ATTACHED
{
    return at_dict_key_object(&entry->key);
}

static PyObject *pair_of(const at_dict_entry *entry) AT_ATTACHED
{
    PyObject *key = key_of(entry);
    PyObject *value = key != NULL ? at_shared_dict_copy(entry) : NULL;
    PyObject *pair = value != NULL ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return pair;
}

static PyObject *list_of(PyObject *object, of_entry *make) AT_ATTACHED
{
    at_dict_entry **entries;
    size_t count;
    int result = at_dict_snapshot(at_shared_dict_of(object), &entries, &count);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = list != NULL ? make(entries[i]) : NULL;
        at_shared_dict_unref(entries[i]);
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
    return list_of(object, at_shared_dict_copy);
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

AT_UNCHECKED static PyObject *dict_pop(PyObject *object, PyObject *const *arguments,
                                       Py_ssize_t count)
{
    at_dict_key_room room;
    if (at_bind_count("pop", count, 1, 2) < 0 ||
        at_dict_key_init(&room, arguments[0]) < 0) {
        return NULL;
    }
    at_dict_entry *old;
    int result = at_dict_remove(at_shared_dict_of(object), &room.key, &old);
    at_dict_key_fini(&room);
    if (result == 0) {
        return at_shared_dict_take(old);
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
    if (at_dict_remove_any(at_shared_dict_of(object), &old) < 0) {
        PyErr_SetString(PyExc_KeyError, "popitem(): the dict is empty");
        return NULL;
    }
    PyObject *pair = pair_of(old);
    at_shared_dict_unref(old);
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
    at_dict_clear(at_shared_dict_of(object));
    Py_RETURN_NONE;
}

/* ---- the type -------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *dict_repr(PyObject *object)
{
    at_dict *dict = at_shared_dict_of(object);
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
    bool same = at_shared_dict_of(left) == at_shared_dict_of(right);
    return PyBool_FromLong(same == (operation == Py_EQ));
}

static Py_hash_t dict_hash(PyObject *object)
{
    return at_bind_hash_pointer(at_shared_dict_of(object));
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef dict_methods[] = {
    {"get", FAST(dict_get),
     "get($self, key, default=None, /)\n"
     "--\n"
     "\n"
     "A copy of the value of key, or default."},
    {"setdefault", FAST(at_shared_dict_setdefault),
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
    {"copy", at_shared_dict_plain, METH_NOARGS,
     "copy($self)\n--\n\nA plain dict with copies of the values: a snapshot."},
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
    {"compare_and_set", FAST(at_shared_dict_compare_and_set),
     "compare_and_set($self, key, expected, new, /)\n"
     "--\n"
     "\n"
     "Set key to new if its value equals expected: one step.\n"
     "\n"
     "Returns:\n"
     "    Whether it did. False where key is not there: see setdefault()."},
    {"change", FAST(at_shared_dict_change),
     "change($self, key, function, default=..., /)\n"
     "--\n"
     "\n"
     "Set key to function(its value): one step, for d[key] += 1 is not.\n"
     "\n"
     "The function is called again where another change came between.\n"
     "\n"
     "Args:\n"
     "    key (str | bytes | int): Which.\n"
     "    function (Callable): Called with a copy of the value, or with default.\n"
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
     "Keys are str, bytes or int; any other is a TypeError, also for `in` and get().\n"
     "A value is anything that a Channel can carry; what is read is a copy, and\n"
     "changing it changes nothing here. No lock is held while a value is packed or\n"
     "unpacked.\n"
     "\n"
     "What concerns one key (a read, a write, setdefault, pop, compare_and_set,\n"
     "change) is one step, and all see such steps in one order. What concerns several\n"
     "(iteration, keys, values, items, update, clear, len) is not: it shows each key\n"
     "as it was at some moment of the call. There is no order of the keys.\n"
     "\n"
     "It can be sent; it is not shared with other processes. One that holds itself is\n"
     "never freed. Any thread of any interpreter of this process may call the "
     "methods.\n"
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
    {Py_nb_or, at_shared_dict_or},
    {Py_nb_inplace_or, at_shared_dict_inplace_or},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "atoll.SharedDict",
    .basicsize = sizeof(at_shared_dict_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)at_shared_dict_of(object);
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
