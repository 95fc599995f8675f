/* Parcels: Python objects into messages and back.
 *
 * None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set,
 * frozenset, slice and range are written directly; exact types only. A type that
 * registered a handle is written by reference to its shared thing. Everything else goes
 * the way that pickle's protocol 5 defines, with copyreg and __reduce_ex__, whose parts
 * are written here again: so shared references and cycles keep their shape across the
 * whole graph, and lambdas, channels and buffers may stand anywhere in it. Functions
 * and classes go by name where the receiver can import the same, else by value
 * (python/atoll/_parcel).
 *
 * Value semantics: what is received is a copy. A writable buffer is copied once, into a
 * block that the receiver's object then stands on. A read-only buffer of 64 KiB or
 * more, or bytes of 4 KiB or more, that main sends is lent: the receiver looks at
 * main's memory, which is kept until it is done (buffer.h: within bounds). Warning:
 * read-only is a property of the view. Who writes to that memory through another one
 * (the base of a numpy view) is seen by the receiver, without any synchronisation.
 *
 * A message that did not come from this program (AT_MESSAGE_FOREIGN) decodes to plain
 * data or an error: whatever calls Python code is refused there, because running chosen
 * callables on chosen arguments, and marshalled code above all, cannot be made safe.
 */
#ifndef AT_PARCEL_PARCEL_H
#define AT_PARCEL_PARCEL_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/message.h"

/* Write `object` into a new message, whose sender is the caller's interpreter.
 * ctx:  attached; runs Python code where objects define how they are pickled
 * owns: the caller's one reference in `*message`
 * errs: -1 with NotShareableError, which names the path to the offender beginning with
 *       "object" ("object[0]['lock']"); RecursionError; or what an object's own code
 *       raised */
int at_parcel_pack(PyObject *object, at_message **message) AT_ATTACHED;

/* The same for number `index` of several, of the name `name`: "objects[3]['lock']". */
int at_parcel_pack_one_of(PyObject *object, const char *name, Py_ssize_t index,
                          at_message **message) AT_ATTACHED;

/* The same as an item for a queue: a word (word.h), a piece of a slab where the bytes
 * are few and all, or a message. at_slab_writer_room() has `slabs` and `following`.
 * errs: also MemoryError; nothing was added to `slabs` then */
int at_parcel_pack_item(PyObject *object, const char *name, Py_ssize_t index,
                        at_slab_writer *slabs, size_t following,
                        void **item) AT_ATTACHED;

/* The same for one that needs no packer: 1, 0 where it does or is a word, -1 with
 * MemoryError. Runs no code. */
int at_parcel_pack_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                         void **item) AT_ATTACHED;

/* The same for the first of `count` objects that are small, as many as follow each
 * other: how many there are now at `items`. Never fails, runs no code.
 * ctx: attached; nothing else may change where `objects` lie */
size_t at_parcel_pack_small(PyObject *const *objects, size_t count,
                            at_slab_writer *slabs, void **items) AT_ATTACHED;

/* The same for a tuple of `count` objects, whose paths begin with their own names:
 * "args[0]['lock']". at_parcel_unpack() gives a tuple. */
int at_parcel_pack_many(PyObject *const *objects, const char *const *names,
                        size_t count, at_message **message) AT_ATTACHED;

/* A message of bytes alone that any process can read at any time, though this one has
 * ended: a handle is a NotShareableError, also of what at_parcel_dump() passes on by
 * its descriptor. */
int at_parcel_pack_lasting(PyObject *object, at_message **message) AT_ATTACHED;

typedef struct at_parcel_dump_options {
    bool single; /* the one object itself, no tuple */
    bool whole;  /* no function or type is one that is known (known.h) */
    /* NULL, or a list (borrowed): of bytes and buffers of `apart_bytes` or more only
     * the number is written, and they are added here: bytes or pickle.PickleBuffer */
    PyObject *apart;
    size_t apart_bytes;
} at_parcel_dump_options;

/* The same as bytes alone, for another process or for later: buffers are written into
 * the bytes, and a handle is a NotShareableError. A bytes object. */
PyObject *at_parcel_dump(PyObject *const *objects, const char *const *names,
                         size_t count,
                         const at_parcel_dump_options *options) AT_ATTACHED;

/* The object that `message` holds. A writable buffer is handed over, without a copy,
 * where the caller has the only reference to the message, and so only once.
 * ctx:  attached; runs Python code unless the message is foreign
 * owns: a new reference; the message stays the caller's
 * errs: NULL with ValueError for bytes that are no parcel, or what the objects' own
 *       code raised */
PyObject *at_parcel_unpack(const at_message *message) AT_ATTACHED;

/* The object of an item, of whichever kind. The item stays the caller's.
 * errs: as at_parcel_unpack() */
PyObject *at_parcel_unpack_item(const void *item) AT_ATTACHED;

/* The objects of the items that are no messages, as many as follow each other, up to
 * `count`: how many there are now at `objects`. Either a message follows, or an
 * exception is set. Lets go of these items: at once, which costs less than one by one.
 */
size_t at_parcel_take_small(void *const *items, size_t count,
                            PyObject **objects) AT_ATTACHED;

/* The object in bytes from at_parcel_dump(); `trusted` where this program wrote them.
 */
PyObject *at_parcel_load(const char *data, size_t size_bytes, bool trusted) AT_ATTACHED;

/* The same for bytes with buffers apart: `apart` is the list of what was left
 * out, any objects with buffers. */
PyObject *at_parcel_load_apart(const char *data, size_t size_bytes, bool trusted,
                               PyObject *apart) AT_ATTACHED;

/* What this interpreter lent is brought back by its own code alone from now on: no
 * other thread comes in for it, and none is here (collector.h). For the end of main.
 * ctx:  attached; lets the GIL go meanwhile
 * errs: -1 with an exception set */
int at_parcel_collect_no_more(void) AT_ATTACHED;

/* How instances of a Python type stand for a shared thing. */
typedef struct at_parcel_handle {
    const at_shared_kind *kind;
    /* The thing of `object`: borrowed, or NULL with an exception set (closed, say). */
    at_shared *(*thing_of)(PyObject *object);
    /* A new object of the caller's interpreter for `thing`, of which it takes a
     * reference of its own; NULL with an exception set. */
    PyObject *(*wrap)(PyTypeObject *type, at_shared *thing);
    /* Bytes for another process carry what __reduce__ makes of it; else nothing can. */
    bool has_reduce;
} at_parcel_handle;

/* From now on exact instances of `type` travel by reference, in this interpreter. A
 * type whose things are of several kinds is registered with a handle for each, which
 * differ in their kind alone. Every
 * interpreter that may receive one must have registered the kind as well: do it where
 * the type is added to the module.
 * ctx:  attached
 * owns: keeps a reference to `type`; `handle` must be static
 * errs: -1 with an exception set */
int at_parcel_register_handle(PyTypeObject *type,
                              const at_parcel_handle *handle) AT_ATTACHED;

/* The type that was registered in this interpreter with `handle`: borrowed, or NULL
 * with an exception set. */
PyTypeObject *at_parcel_handle_type(const at_parcel_handle *handle) AT_ATTACHED;

#endif
