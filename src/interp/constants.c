/* Constants of code that interpreters share; see constants.h.
 *
 * No other object of Python's crosses interpreters, and these can for what they are:
 * - They are immortal: no count of references is ever written. Their head is a copy of
 *   the head of a static constant of CPython's own (`b""`, a name that it interned),
 *   which every interpreter shares as well.
 * - Their types, bytes and str, are static, and they refer to nothing else. The
 *   collector does not know either.
 * - Nothing in them is written later. The hash, which is kept in them, was taken before
 *   they were published, and depends on a secret of the process, not of an interpreter.
 *   A str is of ASCII, whose UTF-8 is itself. It says that it is interned and static,
 *   so that sys.intern() returns it as it is; another state would be changed by
 *   whoever interns it, and be undone at that interpreter's end.
 *
 * So a str must not be one that anybody would intern: CPython has interned names before
 * a code object is made, and of the rest only text is taken, which has a space in it
 * and some length. Names are told apart by address in places, text is not.
 *
 * A code object is met when it is made, before anyone has it (PyCode_AddWatcher); what
 * it had goes back to the arena at once and serves what is unmarshalled next. A pass
 * over finished modules would leave holes all over the arenas instead.
 *
 * Constants are never freed, since nobody counts who uses them. What source files and
 * .pyc files hold is bounded; code that a program makes up ("<string>") is not, and is
 * left alone; and MOST_BYTES bounds it all.
 *
 * The table: buckets of chains that only grow. Who looks a constant up takes no lock;
 * who adds one does, and looks again under it.
 */
#include "interp/constants.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "interp/compat.h"

enum {
    BUCKETS = 1 << 13,
    CHUNK_BYTES = 256 << 10,
    MOST_BYTES = 64 << 20,     /* all chunks */
    CONSTANT_BYTES = 64 << 10, /* one constant, at most */
    ALIGNMENT = 16,
    TEXT_CHARACTERS = 16, /* of a str, at least */
    TABLE_BYTES = 2,      /* of bytes: CPython has one of each shorter one */
};

/* The object follows. */
typedef struct constant {
    struct constant *next; /* fixed once it is in a chain */
    Py_hash_t hash;        /* fixed */
} constant;

static struct {
    _Atomic(constant *) buckets[BUCKETS]; /* pairs: release in add, acquire in find */
    pthread_mutex_t mutex;
    char *chunk;         /* guarded: mutex; where the next constant goes */
    size_t left_bytes;   /* guarded: mutex; of the chunk */
    size_t mapped_bytes; /* guarded: mutex; all chunks */
    PyObject head;       /* guarded: mutex until `ready`; of static bytes */
    PyASCIIObject name;  /* the same, of a static str */
    atomic_bool ready;   /* pairs: release in take_heads, acquire in share_here */
} constants = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static inline PyObject *object_of(constant *each)
{
    return (PyObject *)(each + 1);
}

static inline bool is_text(PyObject *object)
{
    return PyUnicode_CheckExact(object);
}

static inline const char *content(PyObject *object, size_t *size_bytes)
{
    if (is_text(object)) {
        *size_bytes = (size_t)PyUnicode_GET_LENGTH(object);
        return (const char *)PyUnicode_1BYTE_DATA(object);
    }
    *size_bytes = (size_t)PyBytes_GET_SIZE(object);
    return PyBytes_AS_STRING(object);
}

static bool are_equal(PyObject *one, PyObject *other)
{
    size_t one_bytes, other_bytes;
    const char *one_content = content(one, &one_bytes);
    const char *other_content = content(other, &other_bytes);
    return Py_TYPE(one) == Py_TYPE(other) && one_bytes == other_bytes &&
           memcmp(one_content, other_content, one_bytes) == 0;
}

static inline _Atomic(constant *) *bucket_of(Py_hash_t hash)
{
    return &constants.buckets[(size_t)hash % BUCKETS];
}

/* The shared equal of `object`, or NULL. */
static PyObject *find(PyObject *object, Py_hash_t hash)
{
    constant *each = atomic_load_explicit(bucket_of(hash), memory_order_acquire);
    while (each != NULL &&
           !(each->hash == hash && are_equal(object_of(each), object))) {
        each = each->next;
    }
    return each != NULL ? object_of(each) : NULL;
}

/* Room for `size_bytes` of the chunk, or NULL. The mutex is held. */
static constant *take_room(size_t size_bytes)
{
    if (size_bytes > constants.left_bytes) {
        return NULL;
    }
    constant *room = (constant *)constants.chunk;
    constants.chunk += size_bytes;
    constants.left_bytes -= size_bytes;
    return room;
}

/* Another chunk, unless somebody else was quicker; what the last one has left is left.
 * False where there is none. */
static bool add_chunk(size_t left_bytes)
{
    char *fresh = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    pthread_mutex_lock(&constants.mutex);
    bool full = constants.mapped_bytes + CHUNK_BYTES > MOST_BYTES;
    bool taken = !full && constants.left_bytes == left_bytes;
    if (taken) {
        constants.chunk = fresh;
        constants.left_bytes = CHUNK_BYTES;
        constants.mapped_bytes += CHUNK_BYTES;
    }
    pthread_mutex_unlock(&constants.mutex);
    if (!taken) {
        (void)munmap(fresh, CHUNK_BYTES);
    }
    return !full;
}

/* Write a constant equal to `object`, whose hash is in it by now. It begins as a copy,
 * so that this need not know what else is in one. */
static void write_constant(constant *fresh, PyObject *object, Py_hash_t hash)
{
    size_t size_bytes;
    const char *start = content(object, &size_bytes);
    PyObject *shared = object_of(fresh);
    fresh->hash = hash;
    memcpy(shared, object, (size_t)(start - (const char *)object) + size_bytes + 1);
    if (is_text(object)) {
        *shared = constants.name.ob_base;
        ((PyASCIIObject *)shared)->state = constants.name.state;
    } else {
        *shared = constants.head;
    }
}

/* The shared equal of `object`, made if there is none; NULL where there is no room. */
static PyObject *find_or_add(PyObject *object, Py_hash_t hash)
{
    size_t size_bytes;
    const char *start = content(object, &size_bytes);
    size_bytes += sizeof(constant) + (size_t)(start - (const char *)object) + 1;
    size_bytes = (size_bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    for (;;) {
        pthread_mutex_lock(&constants.mutex);
        PyObject *shared = find(object, hash);
        constant *fresh = shared == NULL ? take_room(size_bytes) : NULL;
        if (fresh != NULL) {
            _Atomic(constant *) *bucket = bucket_of(hash);
            write_constant(fresh, object, hash);
            fresh->next = atomic_load_explicit(bucket, memory_order_relaxed);
            atomic_store_explicit(bucket, fresh, memory_order_release);
            shared = object_of(fresh);
        }
        size_t left_bytes = constants.left_bytes;
        bool full = constants.mapped_bytes + CHUNK_BYTES > MOST_BYTES;
        pthread_mutex_unlock(&constants.mutex);
        if (shared != NULL || full || !add_chunk(left_bytes)) {
            return shared;
        }
    }
}

/* Put the shared equal of the object in `place` there, if there is one. */
static void share(PyObject **place)
{
    size_t size_bytes;
    (void)content(*place, &size_bytes);
    Py_hash_t hash = size_bytes <= CONSTANT_BYTES ? PyObject_Hash(*place) : -1;
    if (hash == -1) {
        return;
    }
    PyObject *shared = find(*place, hash);
    if (shared == NULL) {
        shared = find_or_add(*place, hash);
    }
    if (shared != NULL && shared != *place) {
        Py_SETREF(*place, shared);
    }
}

static void share_table(PyObject **place)
{
    if (PyBytes_CheckExact(*place) && PyBytes_GET_SIZE(*place) >= TABLE_BYTES) {
        share(place);
    }
}

static bool is_prose(PyObject *object)
{
    return PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object) &&
           PyUnicode_CHECK_INTERNED(object) == SSTATE_NOT_INTERNED &&
           PyUnicode_GET_LENGTH(object) >= TEXT_CHARACTERS &&
           memchr(PyUnicode_1BYTE_DATA(object), ' ',
                  (size_t)PyUnicode_GET_LENGTH(object)) != NULL;
}

static bool comes_from_file(const PyCodeObject *code)
{
    PyObject *name = code->co_filename;
    return PyUnicode_Check(name) && PyUnicode_GET_LENGTH(name) > 0 &&
           PyUnicode_READ_CHAR(name, 0) != '<';
}

/* Called by CPython for each code object of the interpreter, at both its ends. */
static int code_changes(PyCodeEvent event, PyCodeObject *code)
{
    if (event != PY_CODE_EVENT_CREATE || !comes_from_file(code)) {
        return 0;
    }
    share_table(&code->co_linetable);
    share_table(&code->co_exceptiontable);
    share_table(&code->co_localspluskinds);
    PyObject *all = code->co_consts;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(all); i++) {
        if (is_prose(PyTuple_GET_ITEM(all, i))) {
            share(&((PyTupleObject *)all)->ob_item[i]);
        }
    }
    return 0;
}

/* Learn what CPython's own static constants look like; false where they are not as we
 * think. */
static bool take_heads(void)
{
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *name = PyUnicode_InternFromString("__doc__");
    Py_ssize_t immortal = Py_REFCNT(Py_None);
    bool known = empty != NULL && name != NULL && Py_REFCNT(empty) == immortal &&
                 Py_REFCNT(name) == immortal && PyUnicode_IS_COMPACT_ASCII(name) &&
                 PyUnicode_CHECK_INTERNED(name) == SSTATE_INTERNED_IMMORTAL_STATIC;
    if (known) {
        pthread_mutex_lock(&constants.mutex);
        constants.head = *empty;
        constants.name = *(PyASCIIObject *)name;
        atomic_store_explicit(&constants.ready, true, memory_order_release);
        pthread_mutex_unlock(&constants.mutex);
    }
    Py_XDECREF(name);
    Py_XDECREF(empty);
    return known;
}

void at_constants_share_here(void)
{
    if (AT_FREE_THREADED) {
        return; /* it interns all text, and its workers are threads */
    }
    bool ready = atomic_load_explicit(&constants.ready, memory_order_acquire);
    if ((!ready && !take_heads()) || PyCode_AddWatcher(code_changes) < 0) {
        PyErr_Clear();
    }
}
