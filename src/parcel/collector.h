/* Taking back what main lent while main runs no Python code.
 *
 * What comes back is released by main itself, when it next packs or next runs Python
 * code (buffer.h). A main that waits in C for long does neither, and would keep all
 * that was under way when it began to wait: gigabytes, where large arrays are sent. So
 * a thread looks after a moment whether it was taken, and otherwise takes it with a
 * thread state of main's. It gets the GIL at once from a main that waits; from one that
 * computes in C it gets it when that lets it go, and until then nobody can release
 * anything. Without a GIL it takes back what it can, but an object whose references its
 * own thread counts (PEP 703's biased counts) is freed by that one, when it runs.
 *
 * The thread is started for one moment at a time, and ends. */
#ifndef AT_PARCEL_COLLECTOR_H
#define AT_PARCEL_COLLECTOR_H

#include "base/contexts.h"
#include "parcel/state.h"

/* See to it that what lies in the stack of `home` is taken soon. Where the system has
 * no more threads, nothing happens. ctx: any */
void at_parcel_collect_later(at_parcel_home *home);

#endif
