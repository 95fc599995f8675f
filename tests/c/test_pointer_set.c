/* The pointer set against a plain array of flags. */
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/pointer_set.h"
#include "check.h"

enum { POINTERS = 3000 };

static void *pointer_of(int i)
{
    return (void *)(uintptr_t)(0x7f0000000000U + (uintptr_t)i * 16);
}

static int adds_and_removes(void)
{
    static bool inside[POINTERS];
    at_pointer_set set = {0};
    size_t count = 0;
    int result = 0;
    srand(7);
    for (int i = 0; i < POINTERS; i++) {
        inside[i] = false;
    }
    for (int step = 0; step < 60000 && result == 0; step++) {
        int i = rand() % POINTERS;
        if (inside[i]) {
            CHECK(at_pointer_set_remove(&set, pointer_of(i)));
            inside[i] = false;
            count--;
        } else {
            CHECK(!at_pointer_set_remove(&set, pointer_of(i)));
            result = at_pointer_set_add(&set, pointer_of(i));
            if (result == 0) {
                inside[i] = true;
                count++;
            }
        }
        CHECK(set.count == count);
    }
    for (int i = 0; i < POINTERS && result == 0; i++) {
        CHECK(at_pointer_set_remove(&set, pointer_of(i)) == inside[i]);
    }
    at_pointer_set_fini(&set);
    return result;
}

static void empty_set_has_nothing(void)
{
    at_pointer_set set = {0};
    CHECK(!at_pointer_set_remove(&set, pointer_of(1)));
    at_pointer_set_fini(&set);
}

int main(void)
{
    RUN(empty_set_has_nothing);
    RUN_FAILING(adds_and_removes);
    return 0;
}
