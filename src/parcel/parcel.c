/* Objects into messages, items and bytes: the ways into the packer; see parcel.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/parcel.h"

#include <string.h>

#include "parcel/buffer.h"
#include "parcel/packer.h"
#include "parcel/row.h"
#include "parcel/word.h"

static int packer_begin(at_packer *packer) AT_ATTACHED
{
    static const unsigned char head[] = {AT_PARCEL_MAGIC, AT_PARCEL_VERSION};
    at_message_writer_init(&packer->writer);
    at_memo_init(&packer->memo);
    packer->step = NULL;
    packer->bytes_only = false;
    packer->lasting = false;
    packer->whole = false;
    packer->apart = NULL;
    packer->state = at_parcel_state_get();
    if (packer->state == NULL) {
        return -1;
    }
    at_parcel_take_returned(packer->state->home);
    return at_packer_append(packer, head, sizeof head);
}

/* The end of a packer. */
static void packer_drop(at_packer *packer) AT_ATTACHED
{
    at_message_writer_fini(&packer->writer);
    at_memo_fini(&packer->memo);
}

/* `status` of the packing before; ends the packer in any case. */
static int packer_end(at_packer *packer, int status, at_message **message) AT_ATTACHED
{
    if (status == 0 &&
        at_message_writer_finish(&packer->writer, packer->state->interpreter_id,
                                 message) < 0) {
        PyErr_NoMemory();
        status = -1;
    }
    packer_drop(packer);
    return status;
}

int at_parcel_pack(PyObject *object, at_message **message)
{
    return at_parcel_pack_one_of(object, "object", -1, message);
}

/* A packer with `object` alone; packer_end() is due in any case. */
static int pack_alone(at_packer *packer, PyObject *object, const char *name,
                      Py_ssize_t index) AT_ATTACHED
{
    int status = packer_begin(packer);
    at_step root = {.kind = AT_STEP_WORD, .word = name};
    at_step place = {.outer = &root, .kind = AT_STEP_INDEX, .index = index};
    packer->step = index < 0 ? &root : &place;
    int is_row = status == 0 ? at_packer_row(packer, object, false, true) : status;
    if (is_row == 0) {
        /* What contains nothing is not met again. */
        bool again = !PyUnicode_CheckExact(object) && !PyBytes_CheckExact(object);
        status = at_packer_object(packer, object, again);
    } else {
        status = is_row < 0 ? -1 : 0;
    }
    packer->step = NULL;
    return status;
}

int at_parcel_pack_one_of(PyObject *object, const char *name, Py_ssize_t index,
                          at_message **message)
{
    at_packer packer;
    int status = pack_alone(&packer, object, name, index);
    return packer_end(&packer, status, message);
}

int at_parcel_pack_item(PyObject *object, const char *name, Py_ssize_t index,
                        at_slab_writer *slabs, size_t following, void **item)
{
    if (at_parcel_word_pack(object, item)) {
        return 0;
    }
    int made = at_parcel_pack_piece(object, slabs, following, item);
    if (made != 0) {
        return made < 0 ? -1 : 0;
    }
    at_packer packer;
    int status = pack_alone(&packer, object, name, index);
    const at_message_writer *writer = &packer.writer;
    if (status < 0 || writer->attachment_count != 0 ||
        writer->size_bytes > AT_PIECE_BYTES_MOST) {
        at_message *message = NULL;
        status = packer_end(&packer, status, &message);
        *item = message;
        return status;
    }
    char *data = at_slab_writer_room(slabs, writer->size_bytes, following);
    if (data != NULL) {
        memcpy(data, writer->data, writer->size_bytes);
        *item = at_slab_writer_add(slabs, writer->size_bytes);
    } else {
        PyErr_NoMemory();
    }
    packer_drop(&packer);
    return data != NULL ? 0 : -1;
}

int at_parcel_pack_lasting(PyObject *object, at_message **message)
{
    at_packer packer;
    int status = packer_begin(&packer);
    packer.bytes_only = true;
    packer.lasting = true;
    at_step root = {.kind = AT_STEP_WORD, .word = "object"};
    packer.step = &root;
    if (status == 0) {
        status = at_packer_object(&packer, object, true);
    }
    return packer_end(&packer, status, message);
}

/* The objects as a tuple, which itself cannot be met again. */
static int pack_named(at_packer *packer, PyObject *const *objects,
                      const char *const *names, size_t count) AT_ATTACHED
{
    if (at_packer_tag(packer, AT_TAG_TUPLE) < 0 || at_packer_size(packer, count) < 0) {
        return -1;
    }
    at_step root = {.kind = AT_STEP_WORD};
    packer->step = &root;
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        root.word = names[i];
        status = at_packer_object(packer, objects[i], true);
    }
    packer->step = NULL;
    return status;
}

int at_parcel_pack_many(PyObject *const *objects, const char *const *names,
                        size_t count, at_message **message)
{
    at_packer packer;
    int status = packer_begin(&packer);
    if (status == 0) {
        status = pack_named(&packer, objects, names, count);
    }
    return packer_end(&packer, status, message);
}

/* `status` of the packing before; ends the packer in any case. */
static PyObject *packer_end_bytes(at_packer *packer, int status) AT_ATTACHED
{
    PyObject *bytes = NULL;
    if (status == 0) {
        bytes = PyBytes_FromStringAndSize(packer->writer.data,
                                          (Py_ssize_t)packer->writer.size_bytes);
    }
    packer_drop(packer);
    return bytes;
}

PyObject *at_parcel_dump(PyObject *const *objects, const char *const *names,
                         size_t count, const at_parcel_dump_options *options)
{
    at_packer packer;
    int status = packer_begin(&packer);
    packer.bytes_only = true;
    packer.whole = options->whole;
    packer.apart = options->apart;
    packer.apart_bytes = options->apart_bytes;
    if (status == 0 && options->single) {
        at_step root = {.kind = AT_STEP_WORD, .word = names[0]};
        packer.step = &root;
        status = at_packer_object(&packer, objects[0], true);
    } else if (status == 0) {
        status = pack_named(&packer, objects, names, count);
    }
    return packer_end_bytes(&packer, status);
}
