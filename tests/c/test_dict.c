/* Shared dictionaries: keys, collisions, swaps, snapshots, and threads that race. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/dict.h"
#include "chan/message.h"
#include "check.h"
#include "sys/thread.h"

enum { NUMBERS = 2000, THREADS = 4, ROUNDS = 4000 };

/* A word, as parcel/word.h has them: an int. */
static void *word(uintptr_t number)
{
    return (void *)(number << 3 | 1); // NOLINT(performance-no-int-to-ptr)
}

static uintptr_t number_of(const void *item)
{
    CHECK(at_item_is_word(item));
    return (uintptr_t)item >> 3;
}

static at_dict_key key_of(const uint64_t *number)
{
    return (at_dict_key){*number, 1, number, sizeof *number};
}

static int put(at_dict *dict, uint64_t number, void *item)
{
    at_dict_key key = key_of(&number);
    at_dict_entry *entry;
    int result = at_dict_entry_new(&key, item, &entry);
    if (result < 0) {
        at_item_drop(item);
        return result;
    }
    at_dict_entry *old;
    result = at_dict_put(dict, entry, &old);
    at_shared_unref(result < 0 ? &entry->shared : old != NULL ? &old->shared : NULL);
    return result;
}

/* The number under a number, or -1. */
static intptr_t get(at_dict *dict, uint64_t number)
{
    at_dict_key key = key_of(&number);
    at_dict_entry *found;
    if (at_dict_get(dict, &key, &found) == AT_ENOTFOUND) {
        CHECK(found == NULL);
        return -1;
    }
    CHECK(found->key.size_bytes == sizeof number &&
          memcmp(found->key.data, &number, sizeof number) == 0);
    intptr_t value = (intptr_t)number_of(found->item);
    at_shared_unref(&found->shared);
    return value;
}

static bool removes(at_dict *dict, uint64_t number)
{
    at_dict_key key = key_of(&number);
    at_dict_entry *old;
    int result = at_dict_remove(dict, &key, &old);
    at_shared_unref(old != NULL ? &old->shared : NULL);
    return result == 0;
}

static void unref(at_dict *dict)
{
    at_shared_unref((at_shared *)dict);
}

static int makes_and_frees(void)
{
    at_dict *dict;
    int result = at_dict_new(&dict);
    if (result < 0) {
        return result;
    }
    for (uint64_t i = 0; i < 100 && result == 0; i++) {
        at_message *message = NULL;
        result = at_message_new("text", 4, -1, &message);
        if (result == 0) {
            result = put(dict, i, message);
        }
    }
    at_dict_entry **entries;
    size_t count;
    if (result == 0) {
        result = at_dict_snapshot(dict, &entries, &count);
    }
    if (result == 0) {
        CHECK(count == 100);
        for (size_t i = 0; i < count; i++) {
            at_shared_unref(&entries[i]->shared);
        }
        at_free((void *)entries);
    }
    unref(dict);
    return result;
}

static void as_a_dict(void)
{
    at_dict *dict;
    CHECK(at_dict_new(&dict) == 0);
    CHECK(get(dict, 7) == -1 && !removes(dict, 7));
    for (uint64_t i = 0; i < NUMBERS; i++) {
        CHECK(put(dict, i * i, word(i)) == 0);
    }
    CHECK(at_dict_count(dict) == NUMBERS);
    for (uint64_t i = 0; i < NUMBERS; i++) {
        CHECK(get(dict, i * i) == (intptr_t)i);
    }
    CHECK(get(dict, 3) == -1);
    for (uint64_t i = 0; i < NUMBERS; i += 2) {
        CHECK(removes(dict, i * i) && !removes(dict, i * i));
    }
    for (uint64_t i = 0; i < NUMBERS; i++) {
        CHECK(get(dict, i * i) == (i % 2 == 0 ? -1 : (intptr_t)i));
        CHECK(put(dict, i * i, word(i + 1)) == 0);
        CHECK(get(dict, i * i) == (intptr_t)i + 1);
    }
    CHECK(at_dict_count(dict) == NUMBERS);
    at_dict_clear(dict);
    CHECK(at_dict_count(dict) == 0 && get(dict, 4) == -1);
    CHECK(put(dict, 4, word(9)) == 0 && get(dict, 4) == 9);
    unref(dict);
}

/* Keys that fall together are told apart by kind, size and bytes, in every order of
 * coming and going. */
static void collisions(void)
{
    at_dict *dict;
    CHECK(at_dict_new(&dict) == 0);
    static const char text[] = "abcdefghijklmnopqrstuvwxyz";
    enum { KEYS = 40 };
    at_dict_key keys[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        keys[i] = (at_dict_key){i % 3, (int)(i % 2), text, i / 2};
    }
    for (unsigned round = 0; round < 50; round++) {
        bool there[KEYS] = {false};
        for (size_t step = 0; step < 200; step++) {
            size_t i = (step * 7 + round * 13 + step * step) % KEYS;
            at_dict_entry *entry;
            if (there[i]) {
                CHECK(at_dict_remove(dict, &keys[i], &entry) == 0);
                CHECK(number_of(entry->item) == i);
                at_shared_unref(&entry->shared);
            } else {
                at_dict_entry *found;
                CHECK(at_dict_entry_new(&keys[i], word(i), &entry) == 0);
                CHECK(at_dict_put_new(dict, entry, &found) == 1 && found == NULL);
            }
            there[i] = !there[i];
            for (size_t j = 0; j < KEYS; j++) {
                CHECK((at_dict_get(dict, &keys[j], &entry) == 0) == there[j]);
                at_shared_unref(entry != NULL ? &entry->shared : NULL);
            }
        }
        at_dict_clear(dict);
    }
    unref(dict);
}

static void swaps(void)
{
    at_dict *dict;
    CHECK(at_dict_new(&dict) == 0);
    uint64_t number = 5;
    at_dict_key key = key_of(&number);
    at_dict_entry *first, *second, *third, *found;
    CHECK(at_dict_entry_new(&key, word(1), &first) == 0);
    CHECK(at_dict_entry_new(&key, word(2), &second) == 0);
    CHECK(at_dict_entry_new(&key, word(3), &third) == 0);
    CHECK(!at_dict_swap(dict, first, NULL));
    at_shared_ref(&first->shared);
    CHECK(at_dict_put_new(dict, first, &found) == 1);
    CHECK(at_dict_put_new(dict, second, &found) == 0 && found == first);
    at_shared_unref(&found->shared);
    CHECK(at_dict_swap(dict, first, second) && get(dict, 5) == 2);
    CHECK(!at_dict_swap(dict, first, third) && get(dict, 5) == 2);
    CHECK(!at_dict_swap(dict, first, NULL));
    CHECK(at_dict_get(dict, &key, &found) == 0 && found == second);
    CHECK(at_dict_swap(dict, found, NULL) && at_dict_count(dict) == 0);
    CHECK(number_of(found->item) == 2); /* who has it reads it still */
    at_shared_unref(&found->shared);
    at_shared_unref(&first->shared);
    at_shared_unref(&third->shared);
    unref(dict);
}

/* Each is found once by who takes out what it finds, wherever the cursor was, and one
 * that stays does not keep the others from being found. */
static void any_of_them(void)
{
    enum { COUNT = 3000 };
    at_dict *dict;
    CHECK(at_dict_new(&dict) == 0);
    size_t cursor = 0;
    at_dict_entry *found;
    CHECK(at_dict_any(dict, &cursor, &found) == AT_ENOTFOUND && found == NULL);
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK(put(dict, i, word(i)) == 0);
    }
    cursor = SIZE_MAX;
    CHECK(at_dict_any(dict, &cursor, &found) == 0);
    uint64_t kept = number_of(found->item);
    at_shared_unref(&found->shared);
    cursor++;
    bool seen[COUNT] = {false};
    size_t again = 0;
    while (at_dict_count(dict) != 1) {
        CHECK(at_dict_any(dict, &cursor, &found) == 0);
        uint64_t number = number_of(found->item);
        CHECK(number < COUNT && !seen[number]);
        if (number == kept) {
            CHECK(again++ < COUNT);
            cursor++;
        } else {
            seen[number] = true;
            CHECK(at_dict_swap(dict, found, NULL));
        }
        at_shared_unref(&found->shared);
    }
    for (uint64_t i = 0; i < COUNT; i++) { /* where most shards have been emptied */
        CHECK(put(dict, i + COUNT, word(i)) == 0 &&
              get(dict, i + COUNT) == (intptr_t)i);
        CHECK(removes(dict, i + COUNT) && get(dict, i + COUNT) == -1);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK(at_dict_any(dict, &cursor, &found) == 0);
        CHECK(number_of(found->item) == kept);
        at_shared_unref(&found->shared);
    }
    unref(dict);
}

/* ---- threads --------------------------------------------------------------------- */

typedef struct racer {
    at_dict *dict;
    uint64_t number;
    size_t added;
} racer;

static void increment(at_dict *dict, uint64_t number)
{
    at_dict_key key = key_of(&number);
    for (bool done = false; !done;) {
        at_dict_entry *old, *entry;
        CHECK(at_dict_get(dict, &key, &old) == 0);
        CHECK(at_dict_entry_new(&key, word(number_of(old->item) + 1), &entry) == 0);
        done = at_dict_swap(dict, old, entry);
        if (!done) {
            at_shared_unref(&entry->shared);
        }
        at_shared_unref(&old->shared);
    }
}

static void run(void *data)
{
    racer *self = data;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        increment(self->dict, 0);
        uint64_t own = 1 + self->number + i % 50 * THREADS; /* nobody else's */
        CHECK(put(self->dict, own, word(i)) == 0);
        CHECK(get(self->dict, own) == (intptr_t)i);
        CHECK(removes(self->dict, own));
        uint64_t common = 1000 + i % 700;
        at_dict_key key = key_of(&common);
        at_dict_entry *entry, *found;
        CHECK(at_dict_entry_new(&key, word(i), &entry) == 0);
        if (at_dict_put_new(self->dict, entry, &found) == 1) {
            self->added++;
        } else {
            at_shared_unref(&entry->shared);
            at_shared_unref(&found->shared);
        }
        if (i % 500 == 0) {
            at_dict_entry **entries;
            size_t count;
            CHECK(at_dict_snapshot(self->dict, &entries, &count) == 0);
            for (size_t j = 0; j < count; j++) {
                CHECK(entries[j]->key.size_bytes == sizeof(uint64_t));
                at_shared_unref(&entries[j]->shared);
            }
            at_free((void *)entries);
        }
    }
}

static void races(void)
{
    at_dict *dict;
    CHECK(at_dict_new(&dict) == 0 && put(dict, 0, word(0)) == 0);
    racer racers[THREADS];
    at_thread threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        racers[i] = (racer){dict, i, 0};
        CHECK(at_thread_start(&threads[i], "racer", run, &racers[i], NULL) == 0);
    }
    size_t added = 0;
    for (size_t i = 0; i < THREADS; i++) {
        at_thread_join(&threads[i]);
        added += racers[i].added;
    }
    CHECK(get(dict, 0) == THREADS * ROUNDS);
    CHECK(added == 700 && at_dict_count(dict) == 701);
    unref(dict);
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(as_a_dict);
    RUN(collisions);
    RUN(swaps);
    RUN(any_of_them);
    RUN(races);
    return 0;
}
