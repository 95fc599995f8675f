/* The table of include/atoll/atoll.h: channels for C threads that have no thread state.
 *
 * What C sends is written here as parcels, in the few forms that need no Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <assert.h>
#include <string.h>

#include "atoll/atoll.h"
#include "base/error.h"
#include "base/memory.h"
#include "bind/bind.h"
#include "bind/channel.h"
#include "chan/block.h"
#include "chan/message.h"
#include "parcel/format.h"
#include "parcel/word.h"
#include "sys/clock.h"

static_assert((int)ATOLL_ENOMEM == AT_ENOMEM && (int)ATOLL_ECLOSED == AT_ECLOSED &&
                  (int)ATOLL_ETIMEOUT == AT_ETIMEOUT &&
                  (int)ATOLL_EINTERRUPTED == AT_EINTERRUPTED &&
                  (int)ATOLL_EFORMAT == AT_EFORMAT,
              "the codes of the header are those of base/error.h");

struct atoll_message {
    void *item; /* of the channel: a message, a piece or a word */
    char word[AT_PARCEL_WORD_RUN_BYTES];
};

static at_channel *inside(atoll_channel *channel)
{
    return (at_channel *)(void *)channel;
}

AT_UNCHECKED static atoll_channel *channel_of(void *object)
{
    at_channel_object *handle = at_channel_object_from(object);
    if (handle == NULL) {
        return NULL;
    }
    return (atoll_channel *)(void *)at_shared_ref((at_shared *)handle->channel);
}

static void channel_unref(atoll_channel *channel)
{
    at_shared_unref((at_shared *)inside(channel));
}

static at_patience patience_for(double timeout)
{
    bool is_long = !(timeout >= 0 && timeout < 9e9); /* more nanoseconds do not fit */
    return (at_patience){
        is_long ? AT_NEVER : at_clock_deadline((int64_t)(timeout * 1e9)), NULL};
}

/* Takes `message` in any case. */
static int send_message(atoll_channel *channel, at_message *message, double timeout)
{
    int result = at_channel_try_send(inside(channel), message);
    if (result == AT_EFULL) {
        at_patience patience = patience_for(timeout);
        result = timeout == 0 ? AT_ETIMEOUT
                              : at_channel_send(inside(channel), message, &patience);
    }
    if (result != 0) {
        at_message_unref(message);
    }
    return result;
}

/* ---- writing and reading parcels ---------------------------------------------- */

static int write_head(at_message_writer *writer, int tag, size_t size)
{
    unsigned char bytes[16] = {AT_PARCEL_MAGIC, AT_PARCEL_VERSION, (unsigned char)tag};
    size_t count = 3;
    do {
        bytes[count] = (unsigned char)(size & 0x7F);
        size >>= 7;
        bytes[count++] |= size != 0 ? 0x80 : 0;
    } while (size != 0);
    return at_message_writer_append(writer, bytes, count);
}

static int channel_send_bytes(atoll_channel *channel, const void *data,
                              size_t size_bytes, double timeout)
{
    at_message *message;
    at_message_writer writer;
    at_message_writer_init(&writer);
    int result = write_head(&writer, AT_TAG_BYTES, size_bytes);
    if (result == 0) {
        result = at_message_writer_append(&writer, data, size_bytes);
    }
    if (result == 0) {
        result = at_message_writer_finish(&writer, -1, &message);
    }
    at_message_writer_fini(&writer);
    return result == 0 ? send_message(channel, message, timeout) : result;
}

static void nothing(void *context)
{
    (void)context;
}

static int channel_send_buffer(atoll_channel *channel, void *data, size_t size_bytes,
                               void (*release)(void *context), void *context,
                               double timeout)
{
    at_block *block = at_block_borrow(data, size_bytes, release, context);
    if (block == NULL) {
        return AT_ENOMEM;
    }
    at_message *message = NULL;
    at_message_writer writer;
    at_message_writer_init(&writer);
    size_t position;
    int result = at_message_writer_attach(&writer, &block->shared, &position);
    if (result == 0) {
        result = write_head(&writer, AT_TAG_BUFFER_BLOCK, position);
    }
    if (result == 0) {
        result = at_message_writer_finish(&writer, -1, &message);
    }
    at_message_writer_fini(&writer);
    if (result == 0) {
        result = send_message(channel, message, timeout);
    }
    if (result != 0) {
        /* Not sent, so that the block is ours alone: the memory stays the caller's. */
        block->release = nothing;
    }
    at_shared_unref(&block->shared);
    return result;
}

static int channel_recv(atoll_channel *channel, atoll_message **received,
                        double timeout)
{
    atoll_message *message = at_calloc(1, sizeof *message);
    if (message == NULL) {
        return AT_ENOMEM;
    }
    int result = at_channel_try_recv(inside(channel), &message->item);
    if (result == AT_EEMPTY) {
        at_patience patience = patience_for(timeout);
        result = timeout == 0
                     ? AT_ETIMEOUT
                     : at_channel_recv(inside(channel), &message->item, &patience);
    }
    if (result != 0) {
        at_free(message);
        return result;
    }
    if (at_item_is_word(message->item)) {
        (void)at_parcel_word_bytes(message->item, message->word);
    }
    *received = message;
    return 0;
}

/* The bytes of a parcel that is a bytes object, or a buffer among what `message` has
 * attached, where it has one. */
static int parcel_bytes(const char *parcel, size_t length, const at_message *message,
                        const void **data, size_t *size_bytes)
{
    const unsigned char *bytes = (const unsigned char *)parcel;
    if (length < 4 || bytes[0] != AT_PARCEL_MAGIC || bytes[1] != AT_PARCEL_VERSION) {
        return AT_EFORMAT;
    }
    size_t number = 0;
    size_t place = 3;
    for (unsigned shift = 0; shift < 63 && place < length; shift += 7) {
        number |= (size_t)(bytes[place] & 0x7F) << shift;
        if ((bytes[place++] & 0x80) == 0) {
            break;
        }
    }
    int tag = bytes[2] & ~AT_TAG_MEMO;
    if (tag == AT_TAG_BYTES && number == length - place) {
        *data = parcel + place;
        *size_bytes = number;
        return 0;
    }
    if ((tag == AT_TAG_BUFFER_BLOCK || tag == AT_TAG_BYTES_BLOCK) && message != NULL &&
        number < message->attachment_count &&
        message->attachments[number]->kind == &at_block_kind) {
        const at_block *block = (const at_block *)message->attachments[number];
        *data = block->data;
        *size_bytes = block->size_bytes;
        return 0;
    }
    return AT_EFORMAT;
}

static int message_bytes(const atoll_message *message, const void **data,
                         size_t *size_bytes)
{
    if (at_item_is_word(message->item)) {
        char unused[AT_PARCEL_WORD_RUN_BYTES];
        int size = at_parcel_word_bytes(message->item, unused);
        *data = message->word;
        *size_bytes = size >= 0 ? (size_t)size : 0;
        return size >= 0 ? 0 : AT_EFORMAT;
    }
    if (at_item_is_piece(message->item)) {
        const at_piece *piece = at_piece_of(message->item);
        return parcel_bytes(piece->data, piece->size_bytes, NULL, data, size_bytes);
    }
    const at_message *parcel = message->item;
    return parcel_bytes(parcel->data, parcel->size_bytes, parcel, data, size_bytes);
}

static void message_free(atoll_message *message)
{
    if (message != NULL) {
        at_item_drop(message->item);
        at_free(message);
    }
}

static void channel_close(atoll_channel *channel)
{
    (void)at_channel_close(inside(channel));
}

/* ---- the table --------------------------------------------------------------- */

static const atoll_api api = {
    .version = ATOLL_API_VERSION,
    .channel_of = channel_of,
    .channel_unref = channel_unref,
    .channel_send_bytes = channel_send_bytes,
    .channel_send_buffer = channel_send_buffer,
    .channel_recv = channel_recv,
    .message_bytes = message_bytes,
    .message_free = message_free,
    .channel_close = channel_close,
};

AT_UNCHECKED int at_bind_capi(PyObject *module)
{
    PyObject *capsule = PyCapsule_New((void *)&api, ATOLL_API_CAPSULE, NULL);
    if (capsule == NULL) {
        return -1;
    }
    int status = PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_DECREF(capsule);
    return status;
}
