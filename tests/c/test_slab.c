/* chan/slab: pieces of all sizes, in any order of letting go, by several threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/message.h"
#include "chan/slab.h"
#include "check.h"

enum { COUNT = 400 };

static size_t size_of(size_t i)
{
    return i * 37 % (AT_PIECE_BYTES_MOST + 1);
}

/* COUNT pieces, each full of its number; AT_ENOMEM, and then none. */
static int make(void **items, size_t following)
{
    at_slab_writer writer = {0};
    for (size_t i = 0; i < COUNT; i++) {
        char *data = at_slab_writer_room(&writer, size_of(i), following);
        if (data == NULL) {
            at_slab_writer_finish(&writer);
            for (size_t k = 0; k < i; k++) {
                at_item_drop(items[k]);
            }
            return AT_ENOMEM;
        }
        memset(data, (int)i & 0xFF, size_of(i));
        items[i] = at_slab_writer_add(&writer, size_of(i));
    }
    at_slab_writer_finish(&writer);
    return 0;
}

static void look(const void *item, size_t i)
{
    CHECK(at_item_is_piece(item) && !at_item_is_word(item));
    const at_piece *piece = at_piece_of(item);
    CHECK(piece->size_bytes == size_of(i));
    CHECK(((uintptr_t)piece->data + 4) % 8 == 0);
    for (size_t k = 0; k < piece->size_bytes; k++) {
        CHECK((unsigned char)piece->data[k] == (i & 0xFF));
    }
}

static int pieces_lie_apart(void)
{
    void *items[COUNT];
    int result = make(items, 20);
    for (size_t i = 0; result == 0 && i < COUNT; i++) {
        look(items[i], i);
    }
    for (size_t i = 0; result == 0 && i < COUNT; i++) {
        size_t place = i * 7 % COUNT; /* 7 and 400 have no common divisor */
        look(items[place], place);
        at_item_drop(items[place]);
    }
    return result;
}

static void a_batch_is_few_allocations(void)
{
    (void)at_memory_fail_after(-1);
    at_slab_writer writer = {0};
    void *items[256];
    for (size_t i = 0; i < 256; i++) {
        CHECK(at_slab_writer_room(&writer, 20, 255 - i) != NULL);
        items[i] = at_slab_writer_add(&writer, 20);
    }
    at_slab_writer_finish(&writer);
    CHECK(at_memory_fail_after(-1) == 1);
    at_shared_ref_many(at_piece_slab(items[0]), 1);
    at_shared_unref_many(at_piece_slab(items[0]), 257);
}

static void room_that_is_left_is_given_again(void)
{
    at_slab_writer writer = {0};
    char *first = at_slab_writer_room(&writer, 100, 0);
    CHECK(first != NULL && at_slab_writer_room(&writer, 8, 0) == first);
    at_slab_writer_finish(&writer); /* with no piece at all: frees the slab */
    at_slab_writer_finish(&writer);
    CHECK(at_slab_writer_room(&writer, 8, 0) != NULL);
    void *item = at_slab_writer_add(&writer, 8);
    at_slab_writer_finish(&writer);
    at_item_drop(item);
}

static void a_shared_piece_lives_until_the_last_holder(void)
{
    void *items[COUNT];
    CHECK(make(items, 0) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(at_item_share(items[i]) == items[i]);
        at_item_share_many(items[i], 2);
    }
    for (int holder = 0; holder < 4; holder++) {
        for (size_t i = 0; i < COUNT; i++) {
            look(items[i], i);
            at_item_drop(items[i]);
        }
    }
}

static void *drop_some(void *context)
{
    void **items = context;
    for (size_t i = 0; i < COUNT; i += 2) {
        look(items[i], i);
        at_item_drop(items[i]);
    }
    return NULL;
}

static void threads_let_go_of_neighbours(void)
{
    for (int round = 0; round < 20; round++) {
        void *items[COUNT];
        CHECK(make(items, 300) == 0);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, drop_some, items) == 0);
        for (size_t i = 1; i < COUNT; i += 2) {
            look(items[i], i);
            at_item_drop(items[i]);
        }
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

int main(void)
{
    RUN_FAILING(pieces_lie_apart);
    RUN(a_batch_is_few_allocations);
    RUN(room_that_is_left_is_given_again);
    RUN(a_shared_piece_lives_until_the_last_holder);
    RUN(threads_let_go_of_neighbours);
    return 0;
}
