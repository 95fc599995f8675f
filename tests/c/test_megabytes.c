/* The counts of blocks by megabyte against plain arithmetic, and from several threads.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/megabytes.h"
#include "check.h"

enum { MEGABYTES = 40, STEPS = 20000, THREADS = 4 };

static at_megabytes counted;

/* The last of one leaf and the first of the next are among them. */
static void *address_in(int megabyte, int offset)
{
    uintptr_t first = ((uintptr_t)0x7f << 40) - ((uintptr_t)MEGABYTES / 2 << 20);
    return (void *)(first + ((uintptr_t)megabyte << 20) + (uintptr_t)offset);
}

/* What the process itself never does: give the leaves back. */
static void forget(void)
{
    for (size_t i = 0; i < (size_t)1 << AT_MEGABYTES_TOP_BITS; i++) {
        at_free(atomic_exchange(&counted.leaves[i], NULL));
    }
}

static int counts_are_told_by_megabyte(void)
{
    int expected[MEGABYTES] = {0};
    int result = 0;
    srand(11);
    for (int step = 0; step < STEPS && result == 0; step++) {
        int megabyte = rand() % MEGABYTES;
        void *address = address_in(megabyte, rand() & 0xFFFFF);
        CHECK(at_megabytes_has_any(&counted, address) == (expected[megabyte] != 0));
        if (expected[megabyte] != 0 && rand() % 2 == 0) {
            at_megabytes_remove(&counted, address);
            expected[megabyte]--;
        } else {
            result = at_megabytes_add(&counted, address);
            expected[megabyte] += result == 0;
        }
    }
    forget();
    CHECK(!at_megabytes_has_any(&counted, address_in(0, 0)));
    return result;
}

static void addresses_beyond_it_are_refused(void)
{
    void *beyond = (void *)(UINTPTR_MAX - 4096);
    CHECK(!at_megabytes_has_any(&counted, beyond));
    CHECK(at_megabytes_add(&counted, beyond) == AT_ELIMIT);
    CHECK(at_megabytes_add(&counted, NULL) == 0);
    CHECK(at_megabytes_has_any(&counted, NULL));
    forget();
}

static void *add_and_remove(void *argument)
{
    for (int i = 0; i < STEPS; i++) {
        void *address = address_in(i % MEGABYTES, 0);
        CHECK(at_megabytes_add(&counted, address) == 0);
        CHECK(at_megabytes_has_any(&counted, address));
        at_megabytes_remove(&counted, address);
    }
    return argument;
}

static void threads_count_together(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, add_and_remove, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    for (int i = 0; i < MEGABYTES; i++) {
        CHECK(!at_megabytes_has_any(&counted, address_in(i, 0)));
    }
    forget();
}

int main(void)
{
    RUN(addresses_beyond_it_are_refused);
    RUN(threads_count_together);
    RUN_FAILING(counts_are_told_by_megabyte);
    return 0;
}
