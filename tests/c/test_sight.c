/* The balancer's decisions, by a clock that the test sets: who is stuck, who has time,
 * and whose connections go where. */
#include "net/sight.h"

#include "check.h"

enum { US = 1000, START_NS = 5000000 };

/* A worker as the balancer would see it at a moment. */
typedef struct worker {
    at_sight sight;
    at_reactor_look look;
    int64_t now_ns;
} worker;

static worker new_worker(void)
{
    return (worker){.now_ns = START_NS, .look = {.batches = 1, .open = true}};
}

static at_pace look_after(worker *self, int64_t us)
{
    self->now_ns += us * US;
    return at_sight_take_in(&self->sight, &self->look, self->now_ns);
}

static void begin_batch(worker *self, unsigned undone)
{
    self->look.batches++;
    self->look.busy = true;
    self->look.undone = undone;
    self->look.waiting = undone != 0;
}

static void end_batch(worker *self)
{
    self->look.busy = self->look.waiting = false;
    self->look.undone = 0;
}

static void first_look_blames_nobody(void)
{
    worker busy = new_worker();
    begin_batch(&busy, 3);
    CHECK(look_after(&busy, 0) == AT_PACE_WORKS);
    worker idle = new_worker();
    CHECK(look_after(&idle, 0) == AT_PACE_IDLE);
    worker fresh = new_worker(); /* with connections in its inbox, and no batch yet */
    fresh.look.batches = 0;
    fresh.look.waiting = true;
    CHECK(look_after(&fresh, 0) == AT_PACE_WORKS);
    CHECK(look_after(&fresh, 1000) == AT_PACE_STUCK);
}

/* One step is not over, while something waits behind it. */
static void stuck_in_a_step(void)
{
    worker self = new_worker();
    begin_batch(&self, 1);
    CHECK(look_after(&self, 0) == AT_PACE_WORKS);
    CHECK(look_after(&self, 899) == AT_PACE_WORKS);
    CHECK(look_after(&self, 1) == AT_PACE_STUCK);
    CHECK(look_after(&self, 899) == AT_PACE_STUCK);
    CHECK(look_after(&self, 1) == AT_PACE_LONG_STUCK);
    CHECK(look_after(&self, 60000000) == AT_PACE_LONG_STUCK);
    self.look.undone = 0; /* the last event has begun; a set that is ready waits */
    CHECK(look_after(&self, 1000) == AT_PACE_LONG_SLOW);
    begin_batch(&self, 0);
    CHECK(look_after(&self, 1000) == AT_PACE_WORKS);
}

/* Nobody waits: however long it takes, there is nothing to move. */
static void busy_alone_is_not_stuck(void)
{
    worker self = new_worker();
    begin_batch(&self, 0);
    CHECK(look_after(&self, 0) == AT_PACE_WORKS);
    CHECK(!at_sight_is_in_step(&self.sight, &self.look, self.now_ns));
    CHECK(look_after(&self, 50000) == AT_PACE_WORKS);
    CHECK(at_sight_is_in_step(&self.sight, &self.look, self.now_ns)); /* watched */
    self.look.waiting = true; /* what comes now finds it stuck at once */
    CHECK(look_after(&self, 10) == AT_PACE_LONG_STUCK);
    end_batch(&self);
    CHECK(look_after(&self, 10) == AT_PACE_IDLE);
    CHECK(!at_sight_is_in_step(&self.sight, &self.look, self.now_ns));
}

/* Something is ready that it has begun no batch for: it runs what is between two. */
static void ready_and_not_begun(void)
{
    worker self = new_worker();
    CHECK(look_after(&self, 0) == AT_PACE_IDLE);
    self.look.waiting = true;
    self.look.batches++; /* it has done one meanwhile */
    CHECK(look_after(&self, 1000) == AT_PACE_WORKS);
    CHECK(look_after(&self, 1000) == AT_PACE_STUCK);
    CHECK(look_after(&self, 1000) == AT_PACE_LONG_STUCK);
}

/* Looks that come early, since somebody woke the balancer, make nobody look slow. */
static void early_looks_count_for_nothing(void)
{
    worker self = new_worker();
    begin_batch(&self, 5);
    for (int i = 0; i < 89; i++) {
        CHECK(look_after(&self, 10) == AT_PACE_WORKS);
    }
    CHECK(look_after(&self, 20) == AT_PACE_STUCK);
    worker idle = new_worker();
    for (int i = 0; i < 90; i++) {
        CHECK(look_after(&idle, 10) == AT_PACE_IDLE);
    }
    CHECK(look_after(&idle, 10) == AT_PACE_RESTED);
}

/* A batch whose events go on is slow, never stuck. */
static void batch_goes_on(void)
{
    worker self = new_worker();
    begin_batch(&self, 30);
    CHECK(look_after(&self, 0) == AT_PACE_WORKS);
    for (int i = 0; i < 12; i++) {
        self.look.undone -= 2;
        CHECK(look_after(&self, 800) == (i < 1   ? AT_PACE_WORKS
                                         : i < 4 ? AT_PACE_SLOW
                                                 : AT_PACE_LONG_SLOW));
    }
    CHECK(look_after(&self, 900) == AT_PACE_STUCK); /* until one does not */
}

/* Batches that end between two looks: it keeps up, however full they are. */
static void full_load(void)
{
    worker self = new_worker();
    for (int i = 0; i < 100; i++) {
        begin_batch(&self, 16);
        CHECK(look_after(&self, 1000) == AT_PACE_WORKS);
    }
    /* Seen between two of them it is idle, and has not rested. */
    end_batch(&self);
    CHECK(look_after(&self, 100) == AT_PACE_IDLE);
    for (int i = 0; i < 100; i++) {
        self.look.batches++;
        CHECK(look_after(&self, 1000) == AT_PACE_IDLE);
    }
    CHECK(look_after(&self, 1000) == AT_PACE_RESTED);
    begin_batch(&self, 0);
    CHECK(look_after(&self, 1000) == AT_PACE_WORKS);
}

/* One that drains has time, and takes nothing. */
static void closed_ones_take_nothing(void)
{
    worker self = new_worker();
    self.look.open = false;
    CHECK(look_after(&self, 0) == AT_PACE_WORKS);
    CHECK(look_after(&self, 5000) == AT_PACE_WORKS);
    begin_batch(&self, 1); /* and it can be helped */
    CHECK(look_after(&self, 1000) == AT_PACE_WORKS);
    CHECK(look_after(&self, 1000) == AT_PACE_STUCK);
}

static void what_is_done(void)
{
    static const struct {
        at_pace pace;
        at_deal rested, idle, none; /* with such takers */
    } table[] = {
        {AT_PACE_WORKS, AT_DEAL_NOTHING, AT_DEAL_NOTHING, AT_DEAL_NOTHING},
        {AT_PACE_IDLE, AT_DEAL_NOTHING, AT_DEAL_NOTHING, AT_DEAL_NOTHING},
        {AT_PACE_RESTED, AT_DEAL_NOTHING, AT_DEAL_NOTHING, AT_DEAL_NOTHING},
        {AT_PACE_SLOW, AT_DEAL_SHARE, AT_DEAL_NOTHING, AT_DEAL_NOTHING},
        {AT_PACE_LONG_SLOW, AT_DEAL_SHARE, AT_DEAL_NOTHING, AT_DEAL_OFFER},
        {AT_PACE_STUCK, AT_DEAL_ALL, AT_DEAL_NOTHING, AT_DEAL_OFFER},
        {AT_PACE_LONG_STUCK, AT_DEAL_ALL, AT_DEAL_ALL, AT_DEAL_OFFER},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CHECK(at_sight_deal(table[i].pace, 2, 3) == table[i].rested);
        CHECK(at_sight_deal(table[i].pace, 0, 1) == table[i].idle);
        CHECK(at_sight_deal(table[i].pace, 0, 0) == table[i].none);
    }
}

int main(void)
{
    RUN(first_look_blames_nobody);
    RUN(stuck_in_a_step);
    RUN(busy_alone_is_not_stuck);
    RUN(ready_and_not_begun);
    RUN(early_looks_count_for_nothing);
    RUN(batch_goes_on);
    RUN(full_load);
    RUN(closed_ones_take_nothing);
    RUN(what_is_done);
    return 0;
}
