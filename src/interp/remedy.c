/* Which remedies are left out; see remedy.h. */
#include "interp/remedy.h"

#include <stdatomic.h>
#include <string.h>

/* A bit each. Written before there is a second thread to read it. */
static atomic_uint left_out;

static const char *const names[AT_REMEDY_COUNT] = {
    [AT_REMEDY_CURRENT_FRAMES] = "current-frames",
    [AT_REMEDY_DATETIME] = "datetime",
    [AT_REMEDY_EXTENSION_TABLE] = "extension-table",
    [AT_REMEDY_FOREIGN_THREADS] = "foreign-threads",
    [AT_REMEDY_FORK] = "fork",
    [AT_REMEDY_IMPORT_IN_MAIN] = "import-in-main",
    [AT_REMEDY_LAST_THREAD] = "last-thread",
    [AT_REMEDY_STATIC_TYPES] = "static-types",
    [AT_REMEDY_THREAD_STACKS] = "thread-stacks",
    [AT_REMEDY_TRACEMALLOC] = "tracemalloc",
};

const char *at_remedy_name(at_remedy remedy)
{
    return names[remedy];
}

bool at_remedy_leave_out(const char *name)
{
    for (unsigned i = 0; i < AT_REMEDY_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            (void)atomic_fetch_or_explicit(&left_out, 1U << i, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

bool at_remedy_is_left_out(at_remedy remedy)
{
    unsigned all = atomic_load_explicit(&left_out, memory_order_relaxed);
    return (all >> remedy & 1U) != 0;
}
