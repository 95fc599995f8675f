/* chan/region and chan/mapped: one region for one memory, and which views are equal. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "chan/region.h"
#include "check.h"

enum { SIZE_BYTES = 4096 };

static at_view *view_of(at_region *region, size_t offset_bytes, ptrdiff_t count,
                        bool readonly)
{
    at_view *view;
    CHECK(at_view_new(&at_view_buffer_kind, region, offset_bytes, "B", 1, 1, &count,
                      readonly, &view) == 0);
    return view;
}

static int what_comes_back_is_known(void)
{
    at_fault fault;
    at_region *region, *again;
    int result = at_region_new("test", SIZE_BYTES, &region, &fault);
    if (result < 0) {
        return result;
    }
    CHECK(at_region_adopt(region->memory.descriptor, &again, &fault) == 0);
    CHECK(again == region);
    int descriptor = dup(region->memory.descriptor);
    memcpy(region->memory.data, "kept", 4);
    at_shared_unref(&region->shared);
    at_shared_unref(&again->shared);
    /* Nobody has it any more: it is mapped anew, and has a descriptor of its own. */
    result = at_region_adopt(descriptor, &region, &fault);
    if (result == 0) {
        CHECK(region->memory.descriptor != descriptor);
        CHECK(memcmp(region->memory.data, "kept", 4) == 0);
        CHECK(at_region_adopt(descriptor, &again, &fault) == 0 && again == region);
        at_shared_unref(&again->shared);
        at_shared_unref(&region->shared);
    }
    CHECK(close(descriptor) == 0);
    return result;
}

static void another_memory_is_another_region(void)
{
    enum { COUNT = 600 }; /* more than there are buckets */
    at_fault fault;
    at_region *regions[COUNT], *again;
    for (int i = 0; i < COUNT; i++) {
        CHECK(at_region_new("test", SIZE_BYTES, &regions[i], &fault) == 0);
    }
    for (int i = 0; i < COUNT; i += 2) {
        at_shared_unref(&regions[i]->shared);
    }
    for (int i = 1; i < COUNT; i += 2) {
        CHECK(at_region_adopt(regions[i]->memory.descriptor, &again, &fault) == 0);
        CHECK(again == regions[i]);
        at_shared_unref(&again->shared);
        at_shared_unref(&again->shared);
    }
    CHECK(at_region_adopt(0, &again, &fault) == AT_EINVALID);
}

static void views_are_equal_that_could_stand_for_each_other(void)
{
    at_fault fault;
    at_region *region, *other;
    CHECK(at_region_new("test", SIZE_BYTES, &region, &fault) == 0);
    CHECK(at_region_new("test", SIZE_BYTES, &other, &fault) == 0);
    at_view *views[] = {
        view_of(region, 0, 100, false), view_of(region, 8, 100, false),
        view_of(region, 0, 99, false),  view_of(region, 0, 100, true),
        view_of(other, 0, 100, false),
    };
    at_view *twin = view_of(region, 0, 100, false);
    CHECK(at_view_equal(views[0], twin) &&
          at_view_hash(views[0]) == at_view_hash(twin));
    for (size_t i = 1; i < sizeof views / sizeof *views; i++) {
        CHECK(!at_view_equal(views[0], views[i]) && !at_view_equal(views[i], twin));
        at_shared_unref(&views[i]->shared);
    }
    at_shared_unref(&views[0]->shared);
    at_shared_unref(&twin->shared);
    at_shared_unref(&region->shared);
    at_shared_unref(&other->shared);
}

/* ---- who is found while it is made ----------------------------------------------- */

typedef struct finding {
    int descriptor; /* that the next memory will have */
    atomic_bool over;
    at_region *found;
} finding;

/* As one does that looks for it by its label, in the moment in which it is there. */
static void *find(void *context)
{
    finding *self = context;
    at_fault fault;
    while (self->found == NULL && !atomic_load(&self->over)) {
        at_region *region;
        if (at_region_adopt(self->descriptor, &region, &fault) == 0) {
            self->found = region;
        }
    }
    return NULL;
}

static void one_that_is_found_while_it_is_made_is_one(void)
{
    enum { ROUNDS = 300 };
    at_fault fault;
    for (int i = 0; i < ROUNDS; i++) {
        finding other = {.descriptor = dup(0)};
        CHECK(other.descriptor >= 0 && close(other.descriptor) == 0);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, find, &other) == 0);
        at_region *region;
        CHECK(at_region_new("test", SIZE_BYTES, &region, &fault) == 0);
        atomic_store(&other.over, true);
        CHECK(pthread_join(thread, NULL) == 0);
        if (other.found != NULL) {
            CHECK(other.found == region);
            at_shared_unref(&other.found->shared);
        }
        /* Nobody has a reference that is left. */
        int descriptor = region->memory.descriptor;
        at_shared_unref(&region->shared);
        CHECK(close(descriptor) != 0);
    }
}

int main(void)
{
    RUN_FAILING(what_comes_back_is_known);
    RUN(another_memory_is_another_region);
    RUN(one_that_is_found_while_it_is_made_is_one);
    RUN(views_are_equal_that_could_stand_for_each_other);
    return 0;
}
