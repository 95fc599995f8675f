/* Runs; see run.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/run.h"

#include <stdint.h>
#include <string.h>

#include "parcel/format.h"

/* memcpy() of a few bytes, which the compiler, knowing that they are few, makes a
 * string instruction of that takes longer than all the rest. */
static inline void copy(char *to, const char *from, size_t size)
{
    uint64_t last;
    if (size < sizeof last) {
        for (size_t i = 0; i < size; i++) {
            to[i] = from[i];
        }
        return;
    }
    memcpy(&last, from + size - sizeof last, sizeof last);
    for (size_t i = 0; i + sizeof last < size; i += sizeof last) {
        uint64_t eight;
        memcpy(&eight, from + i, sizeof eight);
        memcpy(to + i, &eight, sizeof eight);
    }
    memcpy(to + size - sizeof last, &last, sizeof last);
}

/* In one piece, for the loop. */
static inline __attribute__((always_inline)) int run_piece(PyObject *object,
                                                           at_slab_writer *slabs,
                                                           size_t following,
                                                           void **item) AT_ATTACHED
{
    const char *run;
    Py_ssize_t size;
    bool is_bytes = PyBytes_CheckExact(object);
    if (is_bytes) {
        run = PyBytes_AS_STRING(object);
        size = PyBytes_GET_SIZE(object);
    } else if (PyUnicode_CheckExact(object) &&
               PyUnicode_KIND(object) == PyUnicode_1BYTE_KIND) {
        run = PyUnicode_DATA(object);
        size = PyUnicode_GET_LENGTH(object);
    } else {
        return 0;
    }
    if (size < AT_PARCEL_RUN_LEAST || size > AT_PARCEL_RUN_MOST) {
        return 0;
    }
    size_t size_bytes = AT_PARCEL_RUN_HEAD_BYTES + (size_t)size;
    char *data = at_slab_writer_room(slabs, size_bytes, following);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    data[0] = (char)AT_PARCEL_MAGIC;
    data[1] = AT_PARCEL_VERSION;
    data[2] = is_bytes ? AT_TAG_BYTES : AT_TAG_STR1;
    data[3] = (char)size;
    copy(data + AT_PARCEL_RUN_HEAD_BYTES, run, (size_t)size);
    *item = at_slab_writer_add(slabs, size_bytes);
    return 1;
}

int at_parcel_run_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                        void **item)
{
    return run_piece(object, slabs, following, item);
}

size_t at_parcel_runs_pack(PyObject *const *objects, size_t count,
                           at_slab_writer *slabs, void **items)
{
    size_t done = 0;
    while (done < count) {
        int made = run_piece(objects[done], slabs, count - done, &items[done]);
        if (made < 0) {
            PyErr_Clear(); /* at_parcel_run_piece() will say the same */
        }
        if (made <= 0) {
            break;
        }
        done++;
    }
    return done;
}

static inline bool is_ascii(const char *data, size_t size)
{
    uint64_t seen = 0;
    size_t i = 0;
    for (; i + sizeof seen <= size; i += sizeof seen) {
        uint64_t eight;
        memcpy(&eight, data + i, sizeof eight);
        seen |= eight;
    }
    for (; i < size; i++) {
        seen |= (unsigned char)data[i];
    }
    return (seen & 0x8080808080808080) == 0;
}

static inline void write_run(char *place, const char *data, size_t size)
{
    copy(place, data, size);
    place[size] = '\0';
}

static inline PyObject *make_bytes(at_parcel_state *state, const char *data,
                                   size_t size) AT_ATTACHED
{
    size_t class = at_spare_bytes_class(size);
    if (AT_FREE_THREADED || size < AT_SPARE_RUN_LEAST || class >= AT_SPARE_CLASSES) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    }
    PyObject *object =
        at_spare_bytes(at_spares_turn(&state->spare_bytes[class]), size, class);
    if (object != NULL) {
        write_run(PyBytes_AS_STRING(object), data, size);
    }
    return Py_XNewRef(object);
}

static inline PyObject *make_str(at_parcel_state *state, const char *data,
                                 size_t size) AT_ATTACHED
{
    size_t class = at_spare_ascii_class(size);
    if (AT_FREE_THREADED || size < AT_SPARE_RUN_LEAST || class >= AT_SPARE_CLASSES ||
        !is_ascii(data, size)) {
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data, (Py_ssize_t)size);
    }
    PyObject *object =
        at_spare_ascii(at_spares_turn(&state->spare_strs[class]), size, class);
    if (object != NULL) {
        write_run(at_spare_ascii_data(object), data, size);
    }
    return Py_XNewRef(object);
}

/* In one piece, for the loop. */
static inline __attribute__((always_inline)) PyObject *
make(at_parcel_state *state, const char *parcel) AT_ATTACHED
{
    const char *data = parcel + AT_PARCEL_RUN_HEAD_BYTES;
    size_t size = (unsigned char)parcel[3];
    return parcel[2] == AT_TAG_BYTES ? make_bytes(state, data, size)
                                     : make_str(state, data, size);
}

PyObject *at_parcel_run_make(at_parcel_state *state, const char *parcel)
{
    return make(state, parcel);
}

size_t at_parcel_runs_make(at_parcel_state *state, void *const *items, size_t count,
                           PyObject **objects)
{
    size_t done = 0;
    while (done < count && at_item_is_piece(items[done]) &&
           at_parcel_is_run(at_piece_of(items[done])->data)) {
        if (count - done > AT_PIECES_AHEAD) {
            __builtin_prefetch(items[done + AT_PIECES_AHEAD]); /* whatever it is */
        }
        objects[done] = make(state, at_piece_of(items[done])->data);
        if (objects[done] == NULL) {
            PyErr_Clear();
            break;
        }
        done++;
    }
    return done;
}
