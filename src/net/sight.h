/* What the balancer makes of its looks at a worker: how it gets on, and what of its
 * connections goes to others. Decisions alone, without a clock or a worker; the looks,
 * and the moving, are service_balance.c's.
 *
 * Whether a worker is busy is a matter of time, and so is whether another has any. A
 * worker under load is seen in the middle of a batch at most looks, and as often a
 * neighbour happens to have finished one: who moves connections then moves them to and
 * fro, at the price of a wake-up and two changes of a set each, and of queues that are
 * longer here than there. So it is asked
 *
 *   what waits: is one step (an event, or all that the loop does between two batches)
 *       not over after a look? Then nobody knows how long it takes, and everything
 *       that can go goes. Is it the batch that is not over, while its steps go on?
 *       Then what waits has its turn soon, and others take an even share of it.
 *   who takes it: who has rested for a look has time. Who has nothing to do at this
 *       moment takes only what has been stuck for longer.
 */
#ifndef AT_NET_SIGHT_H
#define AT_NET_SIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "net/reactor.h"

/* Looks are a millisecond apart. A timer that comes early by its resolution brings a
 * look as well; what wakes the balancer in between makes nobody seem slower. */
static const int64_t AT_SIGHT_LOOK_NS = 900000;
static const int64_t AT_SIGHT_LONG_NS = 2 * 900000;
static const int64_t AT_SIGHT_BATCH_NS = 4 * 900000;

/* What is remembered of a reactor from look to look; zeros before the first. */
typedef struct at_sight {
    uint64_t batches;  /* begun, at the last look */
    unsigned undone;   /* events of the batch not begun, likewise */
    int64_t batch_ns;  /* when the present number of batches was first seen */
    int64_t step_ns;   /* when it was first seen at its present step */
    int64_t rested_ns; /* since when it has had nothing to do; 0: it had at the last
                        * look */
} at_sight;

typedef enum at_pace {
    AT_PACE_WORKS,     /* and keeps up, or takes no connections */
    AT_PACE_IDLE,      /* nothing to do now */
    AT_PACE_RESTED,    /* nothing to do for a look */
    AT_PACE_SLOW,      /* something waits; in a batch for a look, and its steps go on */
    AT_PACE_LONG_SLOW, /* for four */
    AT_PACE_STUCK,     /* something waits; in one step for a look */
    AT_PACE_LONG_STUCK, /* for two */
} at_pace;

/* A look at `now_ns`: how it gets on.
 * ctx: any; one thread at a time */
at_pace at_sight_take_in(at_sight *sight, const at_reactor_look *look, int64_t now_ns);

/* Has it been busy with one step for a look? Then what comes for it may be watched. */
bool at_sight_is_in_step(const at_sight *sight, const at_reactor_look *look,
                         int64_t now_ns);

typedef enum at_deal {
    AT_DEAL_NOTHING, /* its connections stay */
    AT_DEAL_SHARE,   /* an even share of its batch goes to the takers */
    AT_DEAL_ALL,     /* all that can go goes to the takers */
    AT_DEAL_OFFER,   /* other processes may have it */
} at_deal;

/* What is done for a worker of that pace while `rested_count` workers are RESTED, and
 * `idle_count` IDLE or RESTED. Takers are the rested ones, or the idle where none is.
 */
at_deal at_sight_deal(at_pace pace, int rested_count, int idle_count);

#endif
