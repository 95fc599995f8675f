/* What an interpreter's Python heap leaves behind when it ends, given back.
 *
 * CPython keeps all arenas of an interpreter that leaks a single block, and extensions
 * leak blocks: 11 to 15 MB for each cycle of create, import numpy, close. Objects over
 * 512 bytes come from malloc one by one and leak one by one. So each sub-interpreter
 * has a ledger of both, and once it is destroyed and nothing of it can run any more,
 * what the ledger still holds is freed.
 *
 * Main is not tracked, nor is a free-threaded build (mimalloc keeps a heap a thread
 * there), nor a process whose allocators were replaced already (PYTHONMALLOC, dev mode)
 * or that had other interpreters before: the allocators of running code cannot change.
 *
 * ATOLL_HEAP_GUARD=1 in the environment finds who still uses what is given back: it is
 * made inaccessible, or filled, and its addresses are never given out again.
 */
#ifndef AT_INTERP_HEAP_H
#define AT_INTERP_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"

/* Begin to keep ledgers. A second call does nothing.
 * ctx: main, attached, while no sub-interpreter exists */
void at_heap_install(void) AT_ATTACHED;

/* Free what interpreter `interpreter_id` left. Nothing may ever touch its objects
 * again: it is destroyed, and no thread is inside code of its images. Returns how many
 * bytes of arenas and blocks went (blocks count with their usable size).
 * ctx: any thread, attached to another interpreter or not at all */
size_t at_heap_drop(int64_t interpreter_id);

/* What interpreter `interpreter_id` holds now: its arenas, and its blocks over 512
 * bytes with their usable sizes. What its extensions take from malloc by themselves is
 * not in it. Negative where no ledger is kept. ctx: any */
int64_t at_heap_bytes(int64_t interpreter_id);

#endif
