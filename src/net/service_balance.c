/* What the balancer does at a look; see balance.h. What it makes of it is sight.h's. */
#include "net/reactor.h"
#include "net/service_internal.h"
#include "sys/clock.h"
#include "sys/pollset.h"

enum {
    LOOK_MS = 1,        /* between two looks of the balancer, while there is work */
    LOOK_ALONE_MS = 50, /* with one worker there is nobody to help it: it is watched */
};

/* One for whom something may be done. */
typedef struct at_burdened {
    at_reactor *reactor;
    at_pace pace;
} at_burdened;

/* What one look saw. */
typedef struct at_survey {
    at_reactor *rested[AT_REACTORS_MAX];   /* nothing to do for a look */
    at_reactor *idle[AT_REACTORS_MAX];     /* nothing to do now; those included */
    at_burdened burdened[AT_REACTORS_MAX]; /* those that something waits for */
    at_reactor *unseen[AT_REACTORS_MAX];   /* in one step for a look, and not watched */
    at_reactor *late[AT_REACTORS_MAX];     /* for longer than requests may wait */
    int rested_count, idle_count, burdened_count, unseen_count, late_count;
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

/* ---- moving; caller holds the mutex ---------------------------------------------- */

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

/* Do for one what its pace asks for. */
static void help_one(at_service *service, at_survey *survey, const at_burdened *one,
                     at_newcomer **spare, int *spare_count)
{
    bool any = survey->rested_count == 0;
    at_reactor **takers = any ? survey->idle : survey->rested;
    int count = any ? survey->idle_count : survey->rested_count;
    switch (at_sight_deal(one->pace, survey->rested_count, survey->idle_count)) {
    case AT_DEAL_ALL:
        deal(service, at_reactor_take_from(one->reactor, spare, spare_count), takers,
             count, &survey->turn);
        break;
    case AT_DEAL_SHARE:
        deal(service, at_reactor_take_share(one->reactor, count, spare, spare_count),
             takers, count, &survey->turn);
        break;
    case AT_DEAL_OFFER:
        offer_to_others(service, one->reactor, spare, spare_count);
        break;
    case AT_DEAL_NOTHING:
        break;
    }
}

static bool is_stuck(at_pace pace)
{
    return pace == AT_PACE_STUCK || pace == AT_PACE_LONG_STUCK;
}

/* Who is stuck first: nobody knows for how long. */
static void help(at_service *service, at_survey *survey, at_newcomer **spare,
                 int *spare_count)
{
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < survey->burdened_count; i++) {
            if (is_stuck(survey->burdened[i].pace) == (turn == 0)) {
                help_one(service, survey, &survey->burdened[i], spare, spare_count);
            }
        }
    }
}

/* ---- looking; caller holds the mutex --------------------------------------------- */

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

static void note_pace(at_survey *survey, at_reactor *reactor, at_pace pace)
{
    if (is_stuck(pace)) {
        at_reactor_set_stuck(reactor, true);
    }
    switch (pace) {
    case AT_PACE_RESTED:
        survey->rested[survey->rested_count++] = reactor;
        survey->idle[survey->idle_count++] = reactor;
        break;
    case AT_PACE_IDLE:
        survey->idle[survey->idle_count++] = reactor;
        break;
    case AT_PACE_WORKS:
        break;
    default:
        survey->burdened[survey->burdened_count++] = (at_burdened){reactor, pace};
        break;
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
    at_pace pace = at_sight_take_in(sight, &look, now_ns);
    at_reactor_see(reactor, look.waiting && !moved_on, look.busy && !moved_on);
    note_watched(survey, reactor, at_sight_is_in_step(sight, &look, now_ns), alerts);
    note_pace(survey, reactor, pace);
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
    survey.rested_count = survey.idle_count = survey.burdened_count =
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
