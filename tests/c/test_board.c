/* What processes tell of themselves: their boards, and the records on them. */
#include "net/board.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "net/control.h"
#include "net/reactor.h"
#include "sys/process.h"

static void nothing(void *context, at_exchange *exchange)
{
}

static void no_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
}

static void no_forget(void *context, void *connection_user)
{
}

static void no_drain(void *context)
{
}

static const at_hooks hooks = {
    .request = no_request,
    .body = nothing,
    .writable = nothing,
    .lost = nothing,
    .forget = no_forget,
    .drain = no_drain,
    .drained = no_drain,
};

static uint64_t requests(const at_boards *boards, int process, int worker)
{
    at_worker_stats stats;
    return at_boards_worker(boards, NULL, process, worker, &stats)
               ? stats.tally.words[AT_COUNT_REQUESTS]
               : UINT64_MAX;
}

/* A record goes on where another reactor of its worker stopped; of two at a time each
 * has its own. */
static void records(void)
{
    at_boards boards;
    CHECK(at_boards_open_alone(&boards) == 0);
    CHECK(!at_boards_are_shared(&boards) && at_boards_process_count(&boards) == 1);
    at_board *board = at_boards_at(&boards, 0);
    CHECK(at_boards_at(&boards, 1) == NULL && at_boards_at(&boards, -1) == NULL);
    CHECK(requests(&boards, 0, 0) == UINT64_MAX);
    at_record *first = at_board_take(&boards, board, 0);
    at_record *second = at_board_take(&boards, board, 0);
    at_record *other = at_board_take(&boards, board, 3);
    CHECK(first != NULL && second != NULL && first != second && other != NULL);
    at_count(&first->counters, AT_COUNT_REQUESTS, 5);
    at_count(&second->counters, AT_COUNT_REQUESTS, 7);
    at_count(&other->counters, AT_COUNT_REQUESTS, 1);
    atomic_store(&first->running, 2);
    CHECK(requests(&boards, 0, 0) == 12 && requests(&boards, 0, 3) == 1);
    at_record_leave(first);
    CHECK(requests(&boards, 0, 0) == 12);
    CHECK(at_board_take(&boards, board, 3) != first);
    CHECK(at_board_take(&boards, board, 0) == first);
    CHECK(atomic_load(&first->running) == 0);
    at_count(&first->counters, AT_COUNT_REQUESTS, 1);
    CHECK(requests(&boards, 0, 0) == 13);
    at_boards_close(&boards);
}

static void so_many_records(void)
{
    at_boards boards;
    CHECK(at_boards_open(&boards, 1, 1, NULL) == 0);
    at_board *board = at_boards_at(&boards, at_boards_give(&boards, 0));
    int count = 0;
    while (at_board_take(&boards, board, 0) != NULL) {
        count++;
    }
    CHECK(count > 4 && count < 1000);
    at_boards_close(&boards);
}

/* A process that has been killed: what it was doing is over, what it counted stays, and
 * its successor goes on from there. */
static void places(void)
{
    at_boards boards;
    CHECK(at_boards_open(&boards, 2, 1, NULL) == 0);
    CHECK(at_boards_are_shared(&boards) && at_boards_process_count(&boards) == 2);
    CHECK(at_boards_give(&boards, AT_PROCESS_FIRST) == 0);
    int place = at_boards_give(&boards, 1);
    at_board *board = at_boards_at(&boards, place);
    at_board_begin(board);
    at_board_tell(board, AT_TOLD_LOADED, 10);
    at_board_count_restart(board, AT_RESTART_SPENT);
    at_record *record = at_board_take(&boards, board, 0);
    atomic_store(&record->thread, 77);
    atomic_store(&record->open, true);
    atomic_store(&record->load, 4);
    at_count(&record->counters, AT_COUNT_REQUESTS, 100);
    at_worker_stats stats;
    CHECK(at_boards_worker(&boards, NULL, 1, 0, &stats));
    CHECK(stats.open && stats.connections == 4 && stats.thread == 77);
    CHECK(stats.process == at_process_number());
    CHECK(!at_boards_worker(&boards, NULL, 0, 0, &stats));
    at_process_stats process;
    at_boards_process(&boards, 1, 1000, &process);
    CHECK(process.open == 1 && process.able == 1 && process.count == 1);
    atomic_store(&record->seen_ns, 1);
    at_boards_process(&boards, 1, 1000, &process);
    CHECK(process.open == 1 && process.able == 0);

    /* The next of the same number takes another place while this one lives. */
    int beside = at_boards_give(&boards, 1);
    CHECK(beside != place);
    at_boards_take_back(&boards, place);
    CHECK(at_boards_worker(&boards, NULL, 1, 0, &stats));
    CHECK(!stats.open && stats.reactors == 0 && stats.connections == 0);
    CHECK(stats.tally.words[AT_COUNT_REQUESTS] == 100);
    at_boards_process(&boards, 1, 1000, &process);
    CHECK(process.open == 0 && process.count == 0);

    CHECK(at_boards_give(&boards, 0) != place);
    CHECK(at_boards_give(&boards, 1) == place);
    at_board_begin(board);
    at_board_tell(board, AT_TOLD_LOADED, 1);
    CHECK(at_boards_told(&boards, AT_TOLD_LOADED) == 11);
    record = at_board_take(&boards, board, 0);
    at_count(&record->counters, AT_COUNT_REQUESTS, 1);
    CHECK(requests(&boards, 1, 0) == 101);
    uint64_t restarts[AT_RESTARTS];
    at_boards_restarts(&boards, restarts);
    CHECK(restarts[AT_RESTART_SPENT] == 1 && restarts[AT_RESTART_DIED] == 0);
    int count = 0;
    while (at_boards_give(&boards, 0) >= 0) {
        count++;
    }
    CHECK(count > 8);
    at_boards_close(&boards);
}

/* All connections but those of a control listener; what a process that has ended had is
 * not among them. */
static void load(void)
{
    at_boards boards;
    CHECK(at_boards_open(&boards, 2, 2, NULL) == 0);
    CHECK(at_boards_load(&boards) == 0);
    int places[2];
    for (int process = 0; process < 2; process++) {
        places[process] = at_boards_give(&boards, process);
        at_board *board = at_boards_at(&boards, places[process]);
        at_board_begin(board);
        for (int worker = 0; worker < 2; worker++) {
            atomic_store(&at_board_take(&boards, board, worker)->load, 10);
        }
        atomic_store(&at_board_take(&boards, board, AT_WORKER_GUARD)->load, 1000);
    }
    CHECK(at_boards_load(&boards) == 40);
    at_boards_take_back(&boards, places[0]);
    CHECK(at_boards_load(&boards) == 20);
    at_boards_close(&boards);
}

/* Two services, as two processes have them, and a third that only reads. */
static void services(void)
{
    at_service_limits limits;
    at_service_limits_init(&limits);
    at_service *first = at_service_new(&limits), *second = at_service_new(&limits);
    CHECK(first != NULL && second != NULL);
    int descriptor = at_service_open_boards(first, 1, 1, NULL);
    CHECK(descriptor >= 0);
    const char *why;
    at_fault fault;
    CHECK(at_service_open_boards(second, 0, 1, &fault) == AT_EINVALID);
    int place = at_service_give_board(first, 0);
    CHECK(at_service_join_boards(second, dup(descriptor), 1000, &fault) < 0);
    CHECK(at_service_join_boards(second, dup(descriptor), place, &fault) == 0);
    CHECK(!at_control_is_ready(first, &why) && strstr(why, "starting") != NULL);
    at_reactor *reactor;
    int unused;
    CHECK(at_reactor_open(&reactor, second, &hooks, &unused, 0, -1, NULL) == 0);
    CHECK(at_control_is_ready(first, &why));
    at_reactor_count_gil_wait(reactor, 1000);
    at_bytes text;
    at_bytes_init(&text);
    CHECK(at_metrics_write(first, &text) == 0);
    CHECK(at_bytes_append(&text, "", 1) == 0);
    static const char *const lines[] = {
        "\natoll_process_up{process=\"0\"} 1\n",
        "\natoll_worker_up{process=\"0\",worker=\"0\"} 1\n",
        "\natoll_gil_wait_seconds_count{process=\"0\",worker=\"0\"} 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK(strstr(text.data, lines[i]) != NULL);
    }
    at_bytes_fini(&text);
    /* It dies without a word. */
    at_service_take_board_back(first, place);
    CHECK(!at_control_is_ready(first, &why) && strstr(why, "no worker") != NULL);
    at_reactor_close(reactor);
    at_service_unref(second);
    at_service_unref(first);
}

static void no_boards(void)
{
    at_boards boards;
    at_fault fault;
    int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(at_boards_adopt(&boards, descriptor, &fault) == AT_EINVALID);
    (void)close(descriptor);
    at_memfd other;
    CHECK(at_memfd_open(&other, "other", 1 << 20, NULL) == 0);
    CHECK(at_boards_adopt(&boards, other.descriptor, &fault) == AT_EINVALID);
    at_memfd_close(&other); /* it was still ours */
}

int main(void)
{
    RUN(records);
    RUN(so_many_records);
    RUN(places);
    RUN(load);
    RUN(services);
    RUN(no_boards);
    return 0;
}
