/* Messages; see message.h.
 *
 * Layout of the block: at_message, the bytes, padding, the attachments. The writer
 * fills the bytes from the start, so that finishing only adds the few attachments
 * behind them. */
#include "chan/message.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum {
    FIRST_ATTACHMENTS = 4,
    /* A finished message may keep this much room unused before it is cut to size. */
    SLACK_BYTES = 4096,
};

static void message_free(at_shared *thing)
{
    at_message *message = (at_message *)thing;
    for (size_t i = 0; i < message->attachment_count; i++) {
        at_shared_unref(message->attachments[i]);
    }
    at_free(message);
}

const at_shared_kind at_message_kind = {.name = "message", .free = message_free};

void at_message_writer_init(at_message_writer *writer)
{
    writer->block = NULL;
    writer->data = writer->first;
    writer->size_bytes = 0;
    writer->capacity_bytes = sizeof writer->first;
    writer->attachments = NULL;
    writer->attachment_count = 0;
    writer->attachment_capacity = 0;
}

void at_message_writer_fini(at_message_writer *writer)
{
    for (size_t i = 0; i < writer->attachment_count; i++) {
        at_shared_unref(writer->attachments[i]);
    }
    at_free(writer->attachments);
    at_free(writer->block);
    at_message_writer_init(writer);
}

static int writer_resize(at_message_writer *writer, size_t capacity_bytes)
{
    at_message *block = at_realloc(writer->block, sizeof(at_message) + capacity_bytes);
    if (block == NULL) {
        return AT_ENOMEM;
    }
    char *data = (char *)(block + 1);
    if (writer->block == NULL) {
        memcpy(data, writer->first, writer->size_bytes);
    }
    writer->block = block;
    writer->data = data;
    writer->capacity_bytes = capacity_bytes;
    return 0;
}

int at_message_writer_grow(at_message_writer *writer, size_t extra_bytes)
{
    if (extra_bytes > SIZE_MAX / 4 - writer->size_bytes) {
        return AT_ENOMEM;
    }
    size_t wanted = writer->size_bytes + extra_bytes;
    size_t capacity = writer->capacity_bytes * 2;
    return writer_resize(writer, wanted > capacity ? wanted : capacity);
}

int at_message_writer_append(at_message_writer *writer, const void *data,
                             size_t size_bytes)
{
    int result = at_message_writer_room(writer, size_bytes);
    if (result == 0 && size_bytes != 0) {
        memcpy(writer->data + writer->size_bytes, data, size_bytes);
        writer->size_bytes += size_bytes;
    }
    return result;
}

int at_message_writer_attach(at_message_writer *writer, at_shared *thing,
                             size_t *position)
{
    if (writer->attachment_count == writer->attachment_capacity) {
        size_t capacity = writer->attachment_capacity != 0
                              ? writer->attachment_capacity * 2
                              : FIRST_ATTACHMENTS;
        at_shared **attachments =
            at_realloc(writer->attachments, capacity * sizeof *attachments);
        if (attachments == NULL) {
            return AT_ENOMEM;
        }
        writer->attachments = attachments;
        writer->attachment_capacity = capacity;
    }
    *position = writer->attachment_count++;
    writer->attachments[*position] = at_shared_ref(thing);
    return 0;
}

static size_t attachments_offset(size_t size_bytes)
{
    size_t alignment = _Alignof(at_shared *);
    return (size_bytes + alignment - 1) & ~(alignment - 1);
}

int at_message_writer_finish(at_message_writer *writer, int64_t sender,
                             at_message **message)
{
    size_t list_bytes = writer->attachment_count * sizeof *writer->attachments;
    size_t offset = list_bytes != 0 ? attachments_offset(writer->size_bytes) : 0;
    size_t needed = list_bytes != 0 ? offset + list_bytes : writer->size_bytes;
    if (writer->block == NULL || needed > writer->capacity_bytes ||
        writer->capacity_bytes - needed > SLACK_BYTES) {
        if (writer_resize(writer, needed) < 0) {
            return AT_ENOMEM;
        }
    }
    at_message *finished = writer->block;
    if (list_bytes != 0) {
        memcpy(writer->data + offset, writer->attachments, list_bytes);
    }
    at_shared_init(&finished->shared, &at_message_kind);
    finished->next = NULL;
    finished->sender = sender;
    finished->data = writer->data;
    finished->size_bytes = writer->size_bytes;
    finished->attachments = (at_shared *const *)(void *)(writer->data + offset);
    finished->attachment_count = writer->attachment_count;
    finished->origin = AT_MESSAGE_LOCAL;
    at_free(writer->attachments);
    at_message_writer_init(writer);
    *message = finished;
    return 0;
}

int at_message_new(const void *data, size_t size_bytes, int64_t sender,
                   at_message **message)
{
    at_message_writer writer;
    at_message_writer_init(&writer);
    int result = at_message_writer_append(&writer, data, size_bytes);
    if (result == 0) {
        result = at_message_writer_finish(&writer, sender, message);
    }
    at_message_writer_fini(&writer);
    return result;
}
