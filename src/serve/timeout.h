/* Requests that take too long; see timeout.c. */
#ifndef AT_SERVE_TIMEOUT_H
#define AT_SERVE_TIMEOUT_H

#include "serve/worker.h"

/* ctx: attached, the loop's thread; -1 with an exception set */
int at_timeout_prepare(at_worker *worker);

/* Raise RequestTimeout in the code that the loop's thread runs, if the reactor has
 * still begun no more than so many batches. Gives whether it will be raised. ctx:
 * attached, another thread of the worker's interpreter */
bool at_timeout_interrupt(at_worker *worker, uint64_t batches);

/* What has not been raised yet, shall not be.
 * ctx: attached, the loop's thread */
void at_timeout_withdraw(at_worker *worker);

/* ([(task, scope) of each request that has waited for `allowed_ns` and has no response
 * yet], seconds until the next one has). Those that were told have the same time once
 * more.
 * ctx: attached, the loop's thread; NULL with an exception set */
PyObject *at_timeout_overdue(at_worker *worker, int64_t allowed_ns);

#endif
