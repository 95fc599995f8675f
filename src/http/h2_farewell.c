/* See h2_farewell.h. */
#include "http/h2_farewell.h"

#include <string.h>

enum {
    HEAD_BYTES = 9,
    GOAWAY_BYTES = HEAD_BYTES + 8,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_GOAWAY = 7,
    FLAGS_END = 0x01 | 0x04, /* END_STREAM, END_HEADERS */
    ERROR_NONE = 0,
    ERROR_INTERNAL = 2,
};

static void put_32(char *to, uint32_t number)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (char)(number >> (24 - 8 * i));
    }
}

/* A literal without indexing, its name in the static table (RFC 7541, 6.2.2 and 5.1).
 * Gives the new size. */
static size_t put_field(char *block, size_t size, unsigned name, at_span value)
{
    if (value.size == 0 || value.size > 40) {
        return size; /* 40: all three together have room */
    }
    if (name < 15) {
        block[size++] = (char)name;
    } else {
        block[size++] = 15;
        block[size++] = (char)(name - 15);
    }
    block[size++] = (char)value.size;
    memcpy(block + size, value.data, value.size);
    return size + value.size;
}

size_t at_h2_farewell_block(char block[AT_H2_FAREWELL_BLOCK_BYTES], at_span date,
                            at_span retry_after)
{
    enum { STATUS = 8, DATE = 33, RETRY_AFTER = 53 };
    size_t size = 0;
    block[size++] = 0x20; /* the dynamic table has 0 bytes from now */
    size = put_field(block, size, STATUS, (at_span){"503", 3});
    size = put_field(block, size, DATE, date);
    return put_field(block, size, RETRY_AFTER, retry_after);
}

/* A frame with room for its payload, which is given back; NULL: there is none, or not
 * if another `reserve` bytes shall be left. */
static char *put_frame(at_h2_farewell *farewell, int type, int flags, int32_t id,
                       size_t size, size_t reserve)
{
    if (farewell->size + HEAD_BYTES + size + reserve > sizeof farewell->data) {
        return NULL;
    }
    char *head = farewell->data + farewell->size;
    put_32(head, (uint32_t)size << 8);
    head[3] = (char)type;
    head[4] = (char)flags;
    put_32(head + 5, (uint32_t)id);
    farewell->size += HEAD_BYTES + size;
    return head + HEAD_BYTES;
}

void at_h2_farewell_init(at_h2_farewell *farewell, bool is_first)
{
    farewell->size = 0;
    if (is_first) {
        (void)put_frame(farewell, FRAME_SETTINGS, 0, 0, 0, 0);
    }
}

bool at_h2_farewell_answer(at_h2_farewell *farewell, int32_t id, at_span block)
{
    char *payload =
        put_frame(farewell, FRAME_HEADERS, FLAGS_END, id, block.size, GOAWAY_BYTES);
    if (payload == NULL) {
        return false;
    }
    memcpy(payload, block.data, block.size);
    return true;
}

bool at_h2_farewell_reset(at_h2_farewell *farewell, int32_t id, bool is_whole)
{
    char *payload = put_frame(farewell, FRAME_RST_STREAM, 0, id, 4, GOAWAY_BYTES);
    if (payload == NULL) {
        return false;
    }
    put_32(payload, is_whole ? ERROR_NONE : ERROR_INTERNAL);
    return true;
}

at_span at_h2_farewell_end(at_h2_farewell *farewell, int32_t last_id)
{
    char *payload = put_frame(farewell, FRAME_GOAWAY, 0, 0, 8, 0);
    if (payload != NULL) {
        put_32(payload, (uint32_t)last_id);
        put_32(payload + 4, ERROR_INTERNAL);
    }
    return (at_span){farewell->data, farewell->size};
}
