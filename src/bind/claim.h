/* Names of shared memory: two who make one at once must not both succeed. */
#ifndef AT_BIND_CLAIM_H
#define AT_BIND_CLAIM_H

#include <Python.h>

#include "base/contexts.h"

/* Have `module`.claim(`name`) keep others from making the name, until
 * at_bind_claim_end(). NULL is no name, and claims nothing.
 * ctx:  attached
 * errs: -1 with FileExistsError; ValueError for a name that is too long; or what
 * looking for it raised */
int at_bind_claim(const char *module, const char *name, PyObject **claim) AT_ATTACHED;

/* The memory is there, or failed with an exception set, which stays. `claim` goes.
 * ctx:  attached
 * errs: -1 with an exception set, its own or the one that was */
int at_bind_claim_end(PyObject *claim) AT_ATTACHED;

#endif
