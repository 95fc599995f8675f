/* The balancer: a thread that moves connections from workers that are busy to those
 * that have time.
 *
 * A worker that runs Python for 50 ms cannot see what comes for its other connections,
 * and cannot be asked. But its epoll set can be seen from outside: a set that stays
 * ready for a millisecond while its owner begins with nothing new belongs to a worker
 * that is stuck in something, whatever that is. Then the balancer waits on that set in
 * its place, takes the connections that rest between two requests, and puts them into
 * the inboxes of reactors that have time; what it hears of connections in the middle of
 * a request it passes on to the owner. Of a batch that takes long while its events go
 * on, others take a share. At workers that keep up it costs nothing: no word is written
 * for it but counts of batches and of what is left of one.
 *
 * It sleeps while no set is ready, and looks each millisecond while there is work
 * (service_balance.c). What comes for a reactor that has been stuck for a look wakes it
 * at once, while there is another that can help.
 */
#ifndef AT_NET_BALANCE_H
#define AT_NET_BALANCE_H

#include "base/contexts.h"
#include "net/service.h"

typedef struct at_balancer at_balancer;

/* Start one. It borrows `service`, which stops it before it goes.
 * gives: NULL without memory, a descriptor or a thread */
at_balancer *at_balancer_new(at_service *service);

/* End it. It never takes a GIL: the wait is short, attached or not. NULL is allowed. */
void at_balancer_stop(at_balancer *balancer) AT_UNCHECKED;

/* The table of reactors has changed. ctx: any */
void at_balancer_wake(at_balancer *balancer);

/* There may be something to see, if it sleeps. ctx: any */
void at_balancer_nudge(at_balancer *balancer);

#endif
