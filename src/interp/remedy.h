/* Remedies against CPython's hazards (python/atoll/_hazards.py) that a test can leave
 * out, to show that what they stand against is there: a remedy that nobody misses goes,
 * with its hazard. Nothing but the tests leaves one out. A hazard of which main's side
 * or the whole design is the remedy is not here; its test shows it without atoll.
 */
#ifndef AT_INTERP_REMEDY_H
#define AT_INTERP_REMEDY_H

#include <stdbool.h>

typedef enum at_remedy {
    AT_REMEDY_CURRENT_FRAMES,
    AT_REMEDY_DATETIME,
    AT_REMEDY_EXTENSION_TABLE,
    AT_REMEDY_FOREIGN_THREADS,
    AT_REMEDY_FORK,
    AT_REMEDY_IMPORT_IN_MAIN,
    AT_REMEDY_LAST_THREAD,
    AT_REMEDY_STATIC_TYPES,
    AT_REMEDY_THREAD_STACKS,
    AT_REMEDY_TRACEMALLOC,
    AT_REMEDY_COUNT,
} at_remedy;

/* The name of its hazard. ctx: any */
const char *at_remedy_name(at_remedy remedy);

/* Do without the remedy against the hazard called `name` from now on; false where there
 * is none of that name. ctx: any, before the first interpreter */
bool at_remedy_leave_out(const char *name);

/* ctx: any */
bool at_remedy_is_left_out(at_remedy remedy);

#endif
