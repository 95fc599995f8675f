/* atoll.Broadcast, for the other files of bind/. */
#ifndef AT_BIND_BROADCAST_H
#define AT_BIND_BROADCAST_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/broadcast.h"

/* The broadcast of `object`, borrowed, or NULL without an exception where it is none.
 * ctx: attached */
at_broadcast *at_broadcast_of(PyObject *object) AT_ATTACHED;

#endif
