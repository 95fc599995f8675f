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
#include "bind/sync.h"
#include "bind/type.h"
#include "chan/message.h"
#include "parcel/parcel.h"

/* ---- entries ------------------------------------------------------------------- */

/* Whose value could not be unpacked: a list of them does not say. Keeps the exception.
 */
static void name_key(const at_dict_entry *entry) AT_ATTACHED
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *key = at_dict_key_object(&entry->key);
    PyObject *note =
        key != NULL
            ? PyUnicode_FromFormat(
                  "The value of %.100R in the SharedDict could not be unpacked here; "
                  "it is still there.",
                  key)
            : NULL;
    PyObject *done =
        note != NULL ? PyObject_CallMethod(error, "add_note", "O", note) : NULL;
    PyErr_Clear();
    Py_XDECREF(key);
    Py_XDECREF(note);
    Py_XDECREF(done);
    PyErr_SetRaisedException(error);
}

/* The reference of our own that the message gets keeps its writable buffers from being
 * handed over to one reader. */
PyObject *at_shared_dict_copy(const at_dict_entry *entry)
{
    PyObject *value = at_channel_unpack(at_item_share(entry->item));
    if (value == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        name_key(entry);
    }
    return value;
}

PyObject *at_shared_dict_take(at_dict_entry *entry)
{
    PyObject *value = at_shared_dict_copy(entry);
    at_shared_unref(&entry->shared);
    return value;
}

int at_shared_dict_lookup(PyObject *object, PyObject *key, at_dict_entry **found)
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    int result = at_shared_dict_find(object, &room.key, found);
    at_dict_key_fini(&room);
    return result;
}

int at_shared_dict_store(PyObject *object, PyObject *key, PyObject *value)
{
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    int result;
    if (value == NULL) {
        result = at_shared_dict_remove(object, &room.key);
        if (result == 0) {
            PyErr_SetObject(PyExc_KeyError, key);
        }
        result = result == 1 ? 0 : -1;
    } else {
        at_dict_entry *entry = at_shared_dict_entry(object, &room.key, value);
        result = entry != NULL ? at_shared_dict_put(object, entry) : -1;
    }
    at_dict_key_fini(&room);
    return result;
}

/* ---- life ---------------------------------------------------------------------- */

PyObject *at_shared_dict_wrap(PyTypeObject *type, at_shared *thing)
{
    at_shared_dict_object *self = (at_shared_dict_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->thing = at_shared_ref(thing);
    }
    return (PyObject *)self;
}

void at_shared_dict_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (((at_shared_dict_object *)object)->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    at_shared_unref(at_shared_dict_thing(object));
    type->tp_free(object);
    Py_DECREF(type);
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
    at_dict_key_room room;
    if (at_dict_key_init(&room, key) < 0) {
        return -1;
    }
    int there = at_shared_dict_has(object, &room.key);
    at_dict_key_fini(&room);
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
    return (Py_ssize_t)at_shared_dict_count(object);
}

static PyObject *key_of(const at_dict_entry *entry) AT_ATTACHED
{
    return at_dict_key_object(&entry->key);
}

PyObject *at_shared_dict_pair(const at_dict_entry *entry)
{
    PyObject *key = key_of(entry);
    PyObject *value = key != NULL ? at_shared_dict_copy(entry) : NULL;
    PyObject *pair = value != NULL ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return pair;
}

AT_UNCHECKED static PyObject *dict_keys(PyObject *object, PyObject *unused)
{
    return at_shared_dict_list(object, key_of, false);
}

AT_UNCHECKED static PyObject *dict_values(PyObject *object, PyObject *unused)
{
    return at_shared_dict_list(object, at_shared_dict_copy, true);
}

AT_UNCHECKED static PyObject *dict_items(PyObject *object, PyObject *unused)
{
    return at_shared_dict_list(object, at_shared_dict_pair, true);
}

AT_UNCHECKED static PyObject *dict_iter(PyObject *object)
{
    PyObject *keys = at_shared_dict_list(object, key_of, false);
    PyObject *iterator = keys != NULL ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

/* ---- writing --------------------------------------------------------------------- */

AT_UNCHECKED static int dict_assign(PyObject *object, PyObject *key, PyObject *value)
{
    return at_shared_dict_store(object, key, value);
}

AT_UNCHECKED static PyObject *dict_clear(PyObject *object, PyObject *unused)
{
    if (at_shared_dict_remove_all(object) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *dict_same(PyObject *object, PyObject *unused)
{
    return at_shared_dict_wrap(Py_TYPE(object), at_shared_dict_thing(object));
}

/* ---- the type -------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *dict_repr(PyObject *object)
{
    void *thing = at_shared_dict_thing(object);
    size_t count = at_shared_dict_count(object);
    const at_common_dict *common = at_shared_dict_common(object);
    const char *plural = count == 1 ? "" : "s";
    if (common == NULL) {
        return PyUnicode_FromFormat("<atoll.SharedDict %p: %zu item%s>", thing, count,
                                    plural);
    }
    const at_table *table = at_common_dict_table(common);
    return PyUnicode_FromFormat(
        "<atoll.SharedDict shared at %p: %zu item%s, %zu of %zu bytes used>", thing,
        count, plural, at_table_used_bytes(table), at_table_capacity_bytes(table));
}

static const void *dict_of(PyObject *object)
{
    return at_shared_dict_thing(object);
}

AT_UNCHECKED static PyObject *dict_compare(PyObject *left, PyObject *right,
                                           int operation)
{
    return at_bind_compare(left, right, operation, dict_of);
}

static Py_hash_t dict_hash(PyObject *object)
{
    return at_bind_hash_pointer(at_shared_dict_thing(object));
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
    {"pop", FAST(at_shared_dict_pop),
     "pop($self, key, default=..., /)\n"
     "--\n"
     "\n"
     "Take key out and return its value: one step, so one caller gets it.\n"
     "\n"
     "A value that cannot be unpacked here (its class cannot be imported, say) stays,\n"
     "and the error is raised; del takes it out unseen.\n"
     "\n"
     "Raises:\n"
     "    KeyError: It is not there, and there is no default."},
    {"popitem", at_shared_dict_popitem, METH_NOARGS,
     "popitem($self)\n"
     "--\n"
     "\n"
     "Take any item out and return (key, value): one step, so one caller gets it.\n"
     "\n"
     "One that cannot be unpacked here stays, and the error is raised, with a note\n"
     "that says its key; the next call looks at another one first.\n"
     "\n"
     "Raises:\n"
     "    KeyError: There is none."},
    {"copy", at_shared_dict_plain, METH_NOARGS,
     "copy($self)\n--\n\nA plain dict with copies of the values: a snapshot."},
    {"update", (PyCFunction)(void (*)(void))at_shared_dict_update,
     METH_VARARGS | METH_KEYWORDS,
     "update($self, /, *args, **kwargs)\n"
     "--\n"
     "\n"
     "Set what dict(*args, **kwargs) has, one item after the other.\n"
     "\n"
     "Where one cannot be set, those before it are, and a note on the error says its\n"
     "key."},
    {"clear", dict_clear, METH_NOARGS,
     "clear($self)\n"
     "--\n"
     "\n"
     "Take everything out, a part after the other.\n"
     "\n"
     "Where processes share it, what was more than a little memory (256 KiB) is the\n"
     "system's again, and memory that other programs wrote over is made whole."},
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
    {"change", (PyCFunction)(void (*)(void))at_shared_dict_change,
     METH_FASTCALL | METH_KEYWORDS,
     "change($self, key, function, default=...)\n"
     "--\n"
     "\n"
     "Set key to function(its value): one step, for d[key] += 1 is not.\n"
     "\n"
     "The function is called again where another change came between, so it must not\n"
     "change key itself.\n"
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
    {"__copy__", dict_same, METH_NOARGS,
     "__copy__($self)\n--\n\nAnother handle to the same dict."},
    {"__deepcopy__", at_shared_dict_deepcopy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\n"
     "The same items in a dict of their own, of the same kind and size."},
    {"_describe", at_shared_dict_describe, METH_NOARGS,
     "_describe($self)\n--\n\nFor pickle and the tests."},
    {"__reduce__", at_sync_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\n"
     "For pickle: other processes get the same dict, where it was made with\n"
     "shared=True."},
    {"open", at_sync_open, METH_O | METH_CLASS,
     "open($type, name, /)\n--\n\n"
     "The dict that another process, or this one, made with name=NAME.\n\n"
     "Raises:\n"
     "    FileNotFoundError: No process that may be looked into has it.\n"
     "    TypeError: The name is that of something else.\n"
     "    ValueError: The memory of that name is damaged, or of another version."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef dict_members[] = AT_BIND_WEAK_MEMBERS(at_shared_dict_object);

static PyType_Slot dict_slots[] = {
    {Py_tp_doc,
     "SharedDict(*args, shared=False, name=None, size=16777216, **kwargs)\n"
     "--\n"
     "\n"
     "A dict that interpreters and threads share, and with shared=True or a name\n"
     "processes.\n"
     "\n"
     "Keys are str, bytes or int; any other is a TypeError, also for `in` and get().\n"
     "Those of subclasses stand for what they equal: True for 1, an IntEnum or "
     "StrEnum\n"
     "for its value.\n"
     "A value is anything that a Channel can carry; what is read is a copy, and\n"
     "changing it changes nothing here. No lock is held while a value is packed or\n"
     "unpacked.\n"
     "\n"
     "What concerns one key (a read, a write, setdefault, pop, compare_and_set,\n"
     "change) is one step, and all see such steps in one order. What concerns several\n"
     "(iteration, keys, values, items, update, clear, len) is not: it shows each key\n"
     "as it was at some moment of the call. There is no order of the keys.\n"
     "\n"
     "One that processes share lies in `size` bytes of memory, of which about a\n"
     "tenth is its index; only what is used takes memory. An item takes 40 bytes,\n"
     "its key and its packed value, rounded up to 64, in one piece, and a value that\n"
     "is replaced is there until the new one is. Where that does not fit, Full is\n"
     "raised, and the old value stays. Its values are bytes that last: what goes to\n"
     "other processes by descriptor (a Lock, a SharedBuffer, a SharedDict) cannot\n"
     "stand in it, but its name can. Reads take no lock, unless writers are always\n"
     "faster; a process that is killed leaves the old value or the new one. To read\n"
     "or to write one key takes constant time, and the time for its bytes.\n"
     "\n"
     "It can be sent. One of this process that holds itself is never freed. Any\n"
     "thread of any interpreter that has it may call the methods. Two are equal when\n"
     "they are handles to one dict, so that it can be a key; d.copy() == {...} "
     "compares\n"
     "what is in it.\n"
     "\n"
     "Args:\n"
     "    *args, **kwargs: Its first items, as for dict().\n"
     "    shared (bool): Whether other processes can have it.\n"
     "    name (str): What they find it by, with SharedDict.open(); says shared=True.\n"
     "    size (int): Bytes of its memory, 4096 to 2**37, rounded up to pages.\n"
     "\n"
     "Raises:\n"
     "    FileExistsError: There is one of that name.\n"
     "    Full: The first items do not fit."},
    {Py_tp_new, at_shared_dict_new},
    {Py_tp_dealloc, at_shared_dict_free},
    {Py_tp_members, dict_members},
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

static const at_parcel_handle dict_handle = {
    .kind = &at_dict_kind,
    .thing_of = at_shared_dict_thing,
    .wrap = at_shared_dict_wrap,
    .has_reduce = true,
};

const at_parcel_handle at_shared_dict_common_handle = {
    .kind = &at_common_dict_kind,
    .thing_of = at_shared_dict_thing,
    .wrap = at_shared_dict_wrap,
    .has_reduce = true,
};

AT_UNCHECKED int at_bind_shared_dict(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &dict_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &dict_handle);
    if (result == 0) {
        result = at_parcel_register_handle(type, &at_shared_dict_common_handle);
    }
    Py_DECREF(type);
    return result;
}
