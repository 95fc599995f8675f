/* chan/message and chan/block: writing, attaching, letting go. */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/block.h"
#include "chan/message.h"
#include "check.h"

static int released;

static void count_release(void *context)
{
    released += *(int *)context;
}

static void small_message_round_trip(void)
{
    at_message *message;
    CHECK(at_message_new("hello", 5, 7, &message) == 0);
    CHECK(message->size_bytes == 5 && memcmp(message->data, "hello", 5) == 0);
    CHECK(message->sender == 7 && message->attachment_count == 0);
    CHECK(message->origin == AT_MESSAGE_LOCAL);
    at_message_unref(at_message_ref(message));
    at_message_unref(message);
    at_message_unref(NULL);
}

static void empty_message(void)
{
    at_message *message;
    CHECK(at_message_new(NULL, 0, -1, &message) == 0);
    CHECK(message->size_bytes == 0 && message->data != NULL);
    at_message_unref(message);
}

static void small_message_is_one_allocation(void)
{
    (void)at_memory_fail_after(-1);
    at_message *message;
    CHECK(at_message_new("12345678", 8, 0, &message) == 0);
    CHECK(at_memory_fail_after(-1) == 1);
    at_message_unref(message);
}

static int grows_with_attachments(void)
{
    int weight = 1;
    released = 0;
    at_message_writer writer;
    at_message_writer_init(&writer);
    at_message *message = NULL;
    int result = 0;
    int attached = 0;
    for (uint32_t i = 0; i < 1000 && result == 0; i++) {
        result = at_message_writer_append(&writer, &i, sizeof i);
        if (result == 0 && i % 100 == 0) {
            at_block *block = at_block_borrow(&weight, 4, count_release, &weight);
            size_t position;
            if (block == NULL) {
                result = AT_ENOMEM;
                break;
            }
            result = at_message_writer_attach(&writer, &block->shared, &position);
            attached += result == 0;
            CHECK(result != 0 || position == i / 100);
            at_shared_unref(&block->shared);
            attached += result != 0; /* refused, and so released just now */
        }
    }
    if (result == 0) {
        result = at_message_writer_finish(&writer, 3, &message);
    }
    at_message_writer_fini(&writer);
    if (result == 0) {
        CHECK(message->attachment_count == 10 && released == 0);
        for (uint32_t i = 0; i < 1000; i++) {
            CHECK(memcmp(message->data + i * sizeof i, &i, sizeof i) == 0);
        }
        for (size_t i = 0; i < 10; i++) {
            CHECK(message->attachments[i]->kind == &at_block_kind);
        }
        at_message_unref(message);
    }
    CHECK(released == attached);
    return result;
}

static void writer_is_empty_after_finish(void)
{
    at_message_writer writer;
    at_message_writer_init(&writer);
    at_message *first, *second;
    CHECK(at_message_writer_append(&writer, "a", 1) == 0);
    CHECK(at_message_writer_finish(&writer, 0, &first) == 0);
    CHECK(at_message_writer_append(&writer, "bc", 2) == 0);
    CHECK(at_message_writer_finish(&writer, 0, &second) == 0);
    CHECK(first->size_bytes == 1 && second->size_bytes == 2);
    at_message_unref(first);
    at_message_unref(second);
    at_message_writer_fini(&writer);
}

static void message_inside_a_message(void)
{
    at_message *inner, *outer;
    size_t position;
    CHECK(at_message_new("in", 2, 0, &inner) == 0);
    at_message_writer writer;
    at_message_writer_init(&writer);
    CHECK(at_message_writer_attach(&writer, &inner->shared, &position) == 0);
    at_message_unref(inner);
    CHECK(at_message_writer_finish(&writer, 0, &outer) == 0);
    CHECK(outer->attachments[0]->kind == &at_message_kind);
    at_message_unref(outer);
}

static void too_large_is_an_error(void)
{
    at_message_writer writer;
    at_message_writer_init(&writer);
    CHECK(at_message_writer_room(&writer, SIZE_MAX / 2) == AT_ENOMEM);
    CHECK(at_message_writer_room(&writer, SIZE_MAX) == AT_ENOMEM);
    at_message_writer_fini(&writer);
    CHECK(at_block_new(SIZE_MAX) == NULL);
}

static void block_is_aligned(void)
{
    for (size_t size = 0; size < 200; size += 13) {
        at_block *block = at_block_new(size);
        CHECK(block != NULL && (uintptr_t)block->data % 64 == 0);
        CHECK(block->size_bytes == size && !block->readonly);
        memset(block->data, 1, size);
        at_shared_unref(&block->shared);
    }
}

int main(void)
{
    RUN(small_message_round_trip);
    RUN(empty_message);
    RUN(small_message_is_one_allocation);
    RUN_FAILING(grows_with_attachments);
    RUN(writer_is_empty_after_finish);
    RUN(message_inside_a_message);
    RUN(too_large_is_an_error);
    RUN(block_is_aligned);
    return 0;
}
