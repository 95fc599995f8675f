/* See sight.h. */
#include "net/sight.h"

/* How far it has come since the last look. */
static void remember(at_sight *sight, const at_reactor_look *look, int64_t now_ns)
{
    /* Before the first look there is nothing that it could be behind. */
    bool same_batch = sight->batch_ns != 0 && look->batches == sight->batches;
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

at_pace at_sight_take_in(at_sight *sight, const at_reactor_look *look, int64_t now_ns)
{
    remember(sight, look, now_ns);
    int64_t in_step_ns = now_ns - sight->step_ns;
    int64_t in_batch_ns = now_ns - sight->batch_ns;
    if (look->waiting && in_step_ns >= AT_SIGHT_LOOK_NS) {
        return in_step_ns >= AT_SIGHT_LONG_NS ? AT_PACE_LONG_STUCK : AT_PACE_STUCK;
    }
    if (look->waiting && in_batch_ns >= AT_SIGHT_LOOK_NS) {
        return in_batch_ns >= AT_SIGHT_BATCH_NS ? AT_PACE_LONG_SLOW : AT_PACE_SLOW;
    }
    if (sight->rested_ns == 0 || !look->open) {
        return AT_PACE_WORKS;
    }
    return now_ns - sight->rested_ns >= AT_SIGHT_LOOK_NS ? AT_PACE_RESTED
                                                         : AT_PACE_IDLE;
}

bool at_sight_is_in_step(const at_sight *sight, const at_reactor_look *look,
                         int64_t now_ns)
{
    return look->busy && now_ns - sight->step_ns >= AT_SIGHT_LOOK_NS;
}

at_deal at_sight_deal(at_pace pace, int rested_count, int idle_count)
{
    switch (pace) {
    case AT_PACE_STUCK:
        return rested_count != 0 ? AT_DEAL_ALL
               : idle_count != 0 ? AT_DEAL_NOTHING
                                 : AT_DEAL_OFFER;
    case AT_PACE_LONG_STUCK:
        return idle_count != 0 ? AT_DEAL_ALL : AT_DEAL_OFFER;
    case AT_PACE_SLOW:
        return rested_count != 0 ? AT_DEAL_SHARE : AT_DEAL_NOTHING;
    case AT_PACE_LONG_SLOW:
        return rested_count != 0 ? AT_DEAL_SHARE
               : idle_count != 0 ? AT_DEAL_NOTHING
                                 : AT_DEAL_OFFER;
    default:
        return AT_DEAL_NOTHING;
    }
}
