/* What a server answers about itself, without the application and without Python: is it
 * alive, is it ready, and its metrics.
 *
 * The guard is a thread of the service with a reactor of its own, which is not among
 * the workers'. It needs no GIL, so it answers however busy Python is: on a listener of
 * its own (--control-bind), and on connections that the balancer brings it when every
 * worker has been stuck for longer than requests may wait; those are told 503 and go
 * back.
 *
 * Without a listener of its own the paths are answered by whichever worker reads the
 * request, in the reactor and before the application.
 */
#ifndef AT_NET_CONTROL_H
#define AT_NET_CONTROL_H

#include "base/bytes.h"
#include "net/exchange.h"
#include "net/service.h"

enum { AT_CONTROL_PATH_BYTES = 256 };

/* Paths, each empty for none; fixed before the first reactor. */
typedef struct at_control_paths {
    char metrics[AT_CONTROL_PATH_BYTES];
    char health[AT_CONTROL_PATH_BYTES];
    char ready[AT_CONTROL_PATH_BYTES];
} at_control_paths;

/* What is known below this part only. Any may be NULL. ctx: any thread */
typedef struct at_control_sources {
    /* Bytes of an interpreter's heap; negative where that is not known. */
    int64_t (*memory)(int64_t interpreter_id);
    /* Private images: how many were loaded and unmapped again, and bytes copied and
     * shared. */
    void (*images)(uint64_t *loaded, uint64_t *unmapped, uint64_t *copied,
                   uint64_t *shared);
} at_control_sources;

/* Answer, if the path is one of ours. */
bool at_control_answer(at_service *service, at_exchange *exchange,
                       const at_h1_request *request);

/* Answer 503, to come back in so many seconds. */
void at_control_refuse(at_exchange *exchange, int64_t retry_after_ns, const char *text);

/* Is the server ready for requests? `why` says what it lacks.
 * ctx: any */
bool at_control_is_ready(at_service *service, const char **why);

/* Everything that is counted, in Prometheus's text format 0.0.4.
 * ctx:  any
 * errs: AT_ENOMEM */
int at_metrics_write(at_service *service, at_bytes *out);

/* ---- the guard ------------------------------------------------------------------- */

typedef struct at_guard at_guard;

/* Start it, with listeners that it owns then, perhaps none. It borrows `service`, which
 * stops it before it goes.
 * ctx:  any
 * errs: AT_ENOMEM; as at_error_from_errno() */
int at_guard_new(at_guard **guard, at_service *service, const int *listeners, int count,
                 at_fault *fault);

/* It never takes a GIL: the wait is short, attached or not. NULL is allowed. */
void at_guard_stop(at_guard *guard) AT_UNCHECKED;

struct at_reactor *at_guard_reactor(at_guard *guard);

#endif
