/* What the balancer sees and does at a look; see balance.h.
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
#include "net/reactor.h"
#include "net/service_internal.h"
#include "sys/clock.h"
#include "sys/pollset.h"

enum {
    LOOK_MS = 1,        /* between two looks of the balancer, while there is work */
    LOOK_ALONE_MS = 50, /* with one worker there is nobody to help it: it is watched */
};

/* A timer that comes early by its resolution is a look as well. */
static const int64_t LOOK_NS = 900000, LONG_NS = 2 * 900000, BATCH_NS = 4 * 900000;

/* What one look saw. */
typedef struct at_survey {
    at_reactor *rested[AT_REACTORS_MAX]; /* nothing to do for a look */
    at_reactor *idle[AT_REACTORS_MAX];   /* nothing to do now; those included */
    at_reactor *slow[AT_REACTORS_MAX];   /* in a batch for a look, and at work */
    at_reactor *stuck[AT_REACTORS_MAX];  /* in one step for a look */
    bool long_slow[AT_REACTORS_MAX];     /* and for longer; by place in `slow` */
    bool long_stuck[AT_REACTORS_MAX];    /* likewise, in `stuck` */
    at_reactor *unseen[AT_REACTORS_MAX]; /* in one step for a look, and not watched */
    at_reactor *late[AT_REACTORS_MAX];   /* for longer than requests may wait */
    int rested_count, idle_count, slow_count, stuck_count, unseen_count, late_count;
    int open_count;
    int turn;    /* whose it is to take one */
    bool active; /* something happens */
} at_survey;

void at_service_nudge(at_service *service)
{
    at_balancer *balancer =
        atomic_load_explicit(&service->balancer, memory_order_acquire);
    if (balancer != NULL) {
        at_balancer_nudge(balancer);
    }
}

int at_service_sets(at_service *service, int *descriptors)
{
    int count = 0;
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && !at_reactor_is_given_up(reactor)) {
            descriptors[count++] = at_reactor_descriptor(reactor);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return count;
}

/* ---- moving; caller holds the mutex -----------------------------------------------
 */

/* Give each of the list to one of `takers` in turn. */
static void deal(at_service *service, at_newcomer *list, at_reactor **takers, int count,
                 int *turn)
{
    while (list != NULL) {
        at_newcomer *newcomer = list;
        list = newcomer->next;
        if (at_reactor_post(takers[(*turn)++ % count], newcomer) < 0 &&
            !at_service_place_locked(service, NULL, newcomer)) {
            at_newcomer_close(newcomer);
        }
    }
}

/* Every reactor of this process is busy: what waits for them can be served by another
 * process, if one has time; it takes it then. What it does not take comes back. */
static void offer_to_others(at_service *service, at_reactor *busy, at_newcomer **spare,
                            int *spare_count)
{
    if (!at_service_has_passage(service) || service->tls != NULL ||
        !at_reactor_is_open(busy)) {
        return;
    }
    at_newcomer *list = at_reactor_take_from(busy, spare, spare_count);
    while (list != NULL) {
        at_newcomer *newcomer = list;
        list = newcomer->next;
        if (!at_service_pass(service, newcomer, 0) &&
            at_reactor_post(busy, newcomer) < 0 &&
            !at_service_place_locked(service, NULL, newcomer)) {
            at_newcomer_close(newcomer);
        }
    }
}

static void help(at_service *service, at_survey *survey, at_newcomer **spare,
                 int *spare_count)
{
    bool any = survey->rested_count == 0;
    at_reactor **takers = any ? survey->idle : survey->rested;
    int count = any ? survey->idle_count : survey->rested_count;
    for (int i = 0; i < survey->stuck_count; i++) {
        if (count == 0) {
            offer_to_others(service, survey->stuck[i], spare, spare_count);
        } else if (!any || survey->long_stuck[i]) {
            deal(service, at_reactor_take_from(survey->stuck[i], spare, spare_count),
                 takers, count, &survey->turn);
        }
    }
    for (int i = 0; i < survey->slow_count; i++) {
        if (!any) {
            deal(service,
                 at_reactor_take_share(survey->slow[i], count, spare, spare_count),
                 takers, count, &survey->turn);
        } else if (count == 0 && survey->long_slow[i]) {
            offer_to_others(service, survey->slow[i], spare, spare_count);
        }
    }
}

/* ---- looking; caller holds the mutex ----------------------------------------------
 */

/* How far it has come since the last look. */
static void take_in(at_sight *sight, const at_reactor_look *look, int64_t now_ns)
{
    bool same_batch = look->batches == sight->batches;
    bool rests = !look->waiting && !look->busy;
    if (!same_batch) {
        sight->batch_ns = now_ns;
    }
    if (!same_batch || look->undone != sight->undone) {
        sight->step_ns = now_ns;
    }
    if (!rests) {
        sight->rested_ns = 0;
    } else if (!same_batch || sight->rested_ns == 0) {
        sight->rested_ns = now_ns;
    }
    sight->batches = look->batches;
    sight->undone = look->undone;
}

/* Watched is one that has been in its step for a look, while there is somebody to help
 * it: what comes for it wakes the balancer at once. Edge-triggered, since what the
 * balancer cannot take stays ready. */
static void watch(at_survey *survey, int alerts)
{
    for (int i = 0; i < survey->unseen_count && survey->idle_count > 0; i++) {
        at_reactor *reactor = survey->unseen[i];
        int set = at_reactor_descriptor(reactor);
        /* Without memory it is looked at each millisecond. */
        if (at_poll_add(alerts, set, AT_POLL_READABLE | AT_POLL_EDGE, reactor) == 0) {
            at_reactor_set_watched(reactor, true);
        }
    }
}

/* What may be watched, and what need not be any more. */
static void note_watched(at_survey *survey, at_reactor *reactor, bool busy, int alerts)
{
    bool watched = at_reactor_is_watched(reactor);
    if (busy && !watched) {
        survey->unseen[survey->unseen_count++] = reactor;
    } else if (!busy && watched) {
        at_poll_remove(alerts, at_reactor_descriptor(reactor));
        at_reactor_set_watched(reactor, false);
    }
}

/* Which of them it is. */
static void note_state(at_survey *survey, at_reactor *reactor, const at_sight *sight,
                       const at_reactor_look *look, int64_t now_ns)
{
    int64_t in_step_ns = now_ns - sight->step_ns;
    int64_t in_batch_ns = now_ns - sight->batch_ns;
    if (look->waiting && in_step_ns >= LOOK_NS) {
        at_reactor_set_stuck(reactor, true);
        survey->long_stuck[survey->stuck_count] = in_step_ns >= LONG_NS;
        survey->stuck[survey->stuck_count++] = reactor;
    } else if (look->waiting && in_batch_ns >= LOOK_NS) {
        survey->long_slow[survey->slow_count] = in_batch_ns >= BATCH_NS;
        survey->slow[survey->slow_count++] = reactor;
    } else if (sight->rested_ns != 0 && look->open) {
        survey->idle[survey->idle_count++] = reactor;
        if (now_ns - sight->rested_ns >= LOOK_NS) {
            survey->rested[survey->rested_count++] = reactor;
        }
    }
}

static void look_at(at_service *service, int place, int64_t now_ns, int alerts,
                    at_survey *survey)
{
    at_reactor *reactor = service->reactors[place];
    at_sight *sight = &service->sights[place];
    at_reactor_look look;
    at_reactor_observe(reactor, &look);
    bool moved_on = look.batches != sight->batches;
    take_in(sight, &look, now_ns);
    at_reactor_see(reactor, look.waiting && !moved_on, look.busy && !moved_on);
    note_watched(survey, reactor, look.busy && now_ns - sight->step_ns >= LOOK_NS,
                 alerts);
    note_state(survey, reactor, sight, &look, now_ns);
    survey->active = survey->active || moved_on || look.waiting || look.busy;
    survey->open_count += look.open;
    int64_t most_ns = service->limits.queue_delay_ns;
    if (look.open && most_ns != 0 && at_reactor_stuck_ns(reactor) > most_ns) {
        survey->late[survey->late_count++] = reactor;
    }
}

bool at_service_balance(at_service *service, at_newcomer **spare, int *spare_count,
                        int alerts, int *look_ms)
{
    at_survey survey;
    survey.rested_count = survey.idle_count = survey.slow_count = survey.stuck_count =
        survey.unseen_count = survey.late_count = survey.open_count = survey.turn = 0;
    survey.active = false;
    (void)pthread_mutex_lock(&service->mutex);
    int64_t now_ns = at_clock_ns();
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        /* The set of one that is given up is ready for ever. */
        if (reactor != NULL && !at_reactor_is_given_up(reactor)) {
            look_at(service, i, now_ns, alerts, &survey);
        }
    }
    watch(&survey, alerts);
    help(service, &survey, spare, spare_count);
    if (service->guard != NULL) {
        at_service_relieve(service, survey.late, survey.late_count, survey.open_count,
                           spare, spare_count);
    }
    *look_ms = survey.open_count > 1 || at_service_has_passage(service) ? LOOK_MS
                                                                        : LOOK_ALONE_MS;
    (void)pthread_mutex_unlock(&service->mutex);
    return survey.active;
}
