/* Boards and records; see board.h. */
#include "net/board.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "sys/clock.h"
#include "sys/process.h"

enum {
    /* Records of a process that is alone: twice as many as there can be reactors. */
    RECORDS_ALONE = 2 * (AT_REACTORS_MAX + 1),
    /* Of others: a reload has two reactors for a worker, and one that is stuck for good
     * keeps its record. */
    RECORDS_OF_WORKER = 4,
    RECORDS_MORE = 32,
    /* Places for each process: so many may be on their way out at a time. */
    PLACES_OF_PROCESS = 8,
    LINE_BYTES = 64, /* of the processor's cache: what readers shall not slow down */
};

static const uint64_t MAGIC = 0x61746f6c6c200001; /* "atoll ", 1 */

/* How the memory begins; fixed after init but for the last. */
typedef struct heading {
    _Alignas(64) uint64_t magic;
    size_t board_bytes;
    int place_count, record_count;
    int process_count, worker_count;
    bool shared;
    atomic_bool all_came;
} heading;

struct at_board {
    _Alignas(64) atomic_int number; /* of the process, and 2; 0: never used */
    atomic_bool lives;              /* the process has not ended */
    atomic_int process;             /* the system's number; 0: not begun */
    atomic_llong stopped_ns;        /* since when readers have seen it stopped, or 0 */
    atomic_ullong restarts[AT_RESTARTS];
    atomic_ullong told[AT_TOLDS];
    uint64_t before[AT_TOLDS]; /* writer: the process; by those that had the board */
    at_record records[];
};

static heading *heading_of(const at_boards *boards)
{
    return boards->memory.data;
}

static heading plan(int process_count, int worker_count, int place_count,
                    int record_count)
{
    return (heading){
        .magic = MAGIC,
        .board_bytes = sizeof(at_board) + (size_t)record_count * sizeof(at_record),
        .place_count = place_count,
        .record_count = record_count,
        .process_count = process_count,
        .worker_count = worker_count,
        .shared = process_count != 0,
    };
}

static size_t size_of(const heading *head)
{
    return sizeof *head + (size_t)head->place_count * head->board_bytes;
}

int at_boards_open_alone(at_boards *boards)
{
    heading head = plan(0, AT_REACTORS_MAX, 1, RECORDS_ALONE);
    /* Most of it is never touched: calloc has it from the system as zeros. */
    char *block = at_calloc(1, size_of(&head) + LINE_BYTES);
    if (block == NULL) {
        return AT_ENOMEM;
    }
    char *data = block + (LINE_BYTES - (uintptr_t)block % LINE_BYTES);
    memcpy(data, &head, sizeof head);
    *boards = (at_boards){{-1, data, size_of(&head)}, block};
    int place = at_boards_give(boards, 0);
    at_board_begin(at_boards_at(boards, place));
    return 0;
}

int at_boards_open(at_boards *boards, int process_count, int worker_count,
                   at_fault *fault)
{
    if (process_count < 1 || worker_count < 1 || worker_count > AT_REACTORS_MAX ||
        process_count > AT_REACTORS_MAX) {
        return at_fault_set(fault, AT_EINVALID, "%d processes of %d workers",
                            process_count, worker_count);
    }
    heading head =
        plan(process_count, worker_count, (process_count + 1) * PLACES_OF_PROCESS,
             worker_count * RECORDS_OF_WORKER + RECORDS_MORE);
    boards->block = NULL;
    int result = at_memfd_open(&boards->memory, "atoll-server", size_of(&head), fault);
    if (result == 0) {
        memcpy(boards->memory.data, &head, sizeof head);
    }
    return result;
}

int at_boards_adopt(at_boards *boards, int descriptor, at_fault *fault)
{
    at_boards found = {0};
    int result = at_memfd_adopt(&found.memory, descriptor, fault);
    if (result < 0) {
        return result;
    }
    const heading *head = heading_of(&found);
    if (found.memory.size_bytes < sizeof *head || head->magic != MAGIC ||
        found.memory.size_bytes != size_of(head)) {
        at_memfd_unmap(&found.memory);
        return at_fault_set(fault, AT_EINVALID,
                            "descriptor %d is no memory of this version's server",
                            descriptor);
    }
    *boards = found;
    return 0;
}

void at_boards_close(at_boards *boards)
{
    if (boards->memory.data == NULL) {
        return;
    }
    if (boards->block == NULL) {
        at_memfd_close(&boards->memory);
    }
    at_free(boards->block);
    *boards = (at_boards){0};
}

bool at_boards_are_shared(const at_boards *boards)
{
    return heading_of(boards)->shared;
}

int at_boards_process_count(const at_boards *boards)
{
    return heading_of(boards)->shared ? heading_of(boards)->process_count : 1;
}

int at_boards_worker_count(const at_boards *boards)
{
    return heading_of(boards)->worker_count;
}

at_board *at_boards_at(const at_boards *boards, int place)
{
    const heading *head = heading_of(boards);
    if (place < 0 || place >= head->place_count) {
        return NULL;
    }
    char *first = (char *)boards->memory.data + sizeof *head;
    return (at_board *)(void *)(first + (size_t)place * head->board_bytes);
}

/* ---- places ---------------------------------------------------------------------- */

/* What the last process that had it was doing is over. */
static void clear(const at_boards *boards, at_board *board)
{
    for (int i = 0; i < heading_of(boards)->record_count; i++) {
        if (atomic_load(&board->records[i].number) != 0) {
            at_record_leave(&board->records[i]);
        }
    }
}

int at_boards_give(at_boards *boards, int process)
{
    int fresh = -1;
    at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        int number = atomic_load(&board->number);
        if (number == process + 2 && !atomic_load(&board->lives)) {
            fresh = i;
            break;
        }
        if (number == 0 && fresh < 0) {
            fresh = i;
        }
    }
    if (fresh < 0) {
        return AT_ELIMIT;
    }
    board = at_boards_at(boards, fresh);
    atomic_store(&board->number, process + 2);
    atomic_store(&board->lives, true);
    return fresh;
}

void at_boards_take_back(at_boards *boards, int place)
{
    at_board *board = at_boards_at(boards, place);
    if (board != NULL) {
        atomic_store(&board->lives, false);
        atomic_store(&board->process, 0);
        clear(boards, board);
    }
}

/* ---- the process's own ----------------------------------------------------------- */

void at_board_begin(at_board *board)
{
    for (int i = 0; i < AT_TOLDS; i++) {
        board->before[i] = atomic_load(&board->told[i]);
    }
    atomic_store(&board->process, at_process_number());
}

static at_record *take(at_record *record, unsigned number)
{
    bool taken = false;
    if (!atomic_compare_exchange_strong(&record->taken, &taken, true)) {
        return NULL;
    }
    atomic_store(&record->number, number);
    atomic_store(&record->interpreter, -1);
    atomic_store(&record->heap_bytes, -1);
    return record;
}

at_record *at_board_take(const at_boards *boards, at_board *board, int worker)
{
    const int count = heading_of(boards)->record_count;
    const unsigned number = (unsigned)worker + 1;
    at_record *found = NULL;
    /* One that goes on where another of that worker stopped, or else the first fresh
     * one: readers stop at a record that was never used. */
    for (int i = 0; i < count && found == NULL; i++) {
        if (atomic_load(&board->records[i].number) == number) {
            found = take(&board->records[i], number);
        }
    }
    for (int i = 0; i < count && found == NULL; i++) {
        if (atomic_load(&board->records[i].number) == 0) {
            found = take(&board->records[i], number);
        }
    }
    return found;
}

void at_record_leave(at_record *record)
{
    if (record == NULL) {
        return;
    }
    atomic_store(&record->thread, 0);
    atomic_store(&record->open, false);
    atomic_store(&record->refusing, false);
    atomic_store(&record->running, 0);
    atomic_store(&record->load, 0);
    atomic_store(&record->seen_ns, 0);
    atomic_store(&record->busy_ns, 0);
    atomic_store(&record->taken, false);
}

int64_t at_record_stuck_ns(const at_record *record, int64_t now_ns)
{
    int64_t seen_ns = atomic_load_explicit(&record->seen_ns, memory_order_relaxed);
    int64_t busy_ns = atomic_load_explicit(&record->busy_ns, memory_order_relaxed);
    int64_t since_ns =
        seen_ns == 0 || (busy_ns != 0 && busy_ns < seen_ns) ? busy_ns : seen_ns;
    return since_ns != 0 && since_ns < now_ns ? now_ns - since_ns : 0;
}

void at_board_count_restart(at_board *board, at_restart why)
{
    atomic_fetch_add_explicit(&board->restarts[why], 1, memory_order_relaxed);
}

void at_board_tell(at_board *board, at_told what, uint64_t count)
{
    /* Several threads tell, and one may come late with what it counted long ago. */
    unsigned long long sum = board->before[what] + count;
    unsigned long long known =
        atomic_load_explicit(&board->told[what], memory_order_relaxed);
    while (known < sum && !atomic_compare_exchange_weak_explicit(
                              &board->told[what], &known, sum, memory_order_relaxed,
                              memory_order_relaxed)) {
    }
}

/* ---- reading --------------------------------------------------------------------- */

/* For how long a process has been stopped by a signal, as far as readers have seen. It
 * cannot tell itself, and what it told last stays as it is; so it is looked at. */
static int64_t stopped_ns(at_board *board, int64_t now_ns)
{
    int id = atomic_load(&board->process);
    if (id == 0 || id == at_process_number() || !atomic_load(&board->lives)) {
        return 0;
    }
    if (!at_process_is_stopped(id)) {
        atomic_store(&board->stopped_ns, 0);
        return 0;
    }
    long long since_ns = 0;
    if (atomic_compare_exchange_strong(&board->stopped_ns, &since_ns, now_ns)) {
        since_ns = now_ns;
    }
    return since_ns < now_ns ? now_ns - since_ns : 1;
}

/* Add one record of the worker to what is known of it. */
static void add_record(const at_record *record, bool is_own, bool lives, int process,
                       int64_t now_ns, at_worker_stats *stats)
{
    at_counters_read(&record->counters, &stats->tally);
    int thread = atomic_load(&record->thread);
    if (!lives || thread == 0) {
        return;
    }
    stats->reactors++;
    stats->connections += atomic_load_explicit(&record->load, memory_order_relaxed);
    stats->running += atomic_load_explicit(&record->running, memory_order_relaxed);
    bool open = atomic_load(&record->open);
    if (open || stats->thread == 0) {
        /* Of two that overlap at a reload, the new one speaks. */
        stats->thread = thread;
        stats->process = process;
        stats->open = open;
        stats->interpreter_id =
            is_own ? atomic_load_explicit(&record->interpreter, memory_order_relaxed)
                   : -1;
        stats->heap_bytes =
            atomic_load_explicit(&record->heap_bytes, memory_order_relaxed);
        stats->stuck_ns = at_record_stuck_ns(record, now_ns);
    }
}

bool at_boards_worker(const at_boards *boards, const at_board *own, int process,
                      int worker, at_worker_stats *stats)
{
    *stats =
        (at_worker_stats){.worker = worker, .interpreter_id = -1, .heap_bytes = -1};
    bool known = false;
    int64_t now_ns = at_clock_ns(), stopped = 0;
    at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        if (atomic_load(&board->number) != process + 2) {
            continue;
        }
        bool lives = atomic_load(&board->lives);
        int64_t here_ns = stopped_ns(board, now_ns);
        stopped = here_ns > stopped ? here_ns : stopped;
        int id = atomic_load(&board->process);
        for (int at = 0; at < heading_of(boards)->record_count; at++) {
            unsigned number = atomic_load(&board->records[at].number);
            if (number == (unsigned)worker + 1) {
                known = true;
                add_record(&board->records[at], board == own, lives, id, now_ns, stats);
            } else if (number == 0) {
                break;
            }
        }
    }
    if (stats->thread != 0 && stats->stuck_ns < stopped) {
        stats->stuck_ns = stopped;
    }
    return known;
}

void at_boards_process(const at_boards *boards, int process, int64_t most_ns,
                       at_process_stats *stats)
{
    *stats = (at_process_stats){0};
    int64_t now_ns = at_clock_ns();
    at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        if (atomic_load(&board->number) != process + 2 || !atomic_load(&board->lives)) {
            continue;
        }
        bool stopped = stopped_ns(board, now_ns) != 0;
        stats->stopped = stats->stopped || stopped;
        int id = atomic_load(&board->process);
        if (id != 0 && stats->count < (int)(sizeof stats->ids / sizeof *stats->ids)) {
            stats->ids[stats->count++] = id;
        }
        for (int at = 0; at < heading_of(boards)->record_count; at++) {
            const at_record *record = &board->records[at];
            unsigned number = atomic_load(&record->number);
            if (number == 0) {
                break;
            }
            if (number == AT_WORKER_GUARD + 1 || atomic_load(&record->thread) == 0 ||
                !atomic_load(&record->open)) {
                continue;
            }
            stats->id = id;
            stats->open++;
            stats->able += !stopped && at_record_stuck_ns(record, now_ns) <= most_ns &&
                           !atomic_load(&record->refusing);
        }
    }
}

uint64_t at_boards_load(const at_boards *boards)
{
    uint64_t sum = 0;
    const at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        if (atomic_load(&board->number) == 0 || !atomic_load(&board->lives)) {
            continue;
        }
        for (int at = 0; at < heading_of(boards)->record_count; at++) {
            const at_record *record = &board->records[at];
            unsigned number = atomic_load(&record->number);
            if (number == 0) {
                break;
            }
            if (number != AT_WORKER_GUARD + 1) {
                sum += atomic_load_explicit(&record->load, memory_order_relaxed);
            }
        }
    }
    return sum;
}

bool at_boards_all_came(const at_boards *boards)
{
    return atomic_load(&heading_of(boards)->all_came);
}

void at_boards_say_all_came(const at_boards *boards)
{
    atomic_store(&heading_of(boards)->all_came, true);
}

void at_boards_restarts(const at_boards *boards, uint64_t counts[AT_RESTARTS])
{
    memset(counts, 0, AT_RESTARTS * sizeof *counts);
    const at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        for (int why = 0; why < AT_RESTARTS; why++) {
            counts[why] += atomic_load(&board->restarts[why]);
        }
    }
}

uint64_t at_boards_told(const at_boards *boards, at_told what)
{
    uint64_t sum = 0;
    const at_board *board;
    for (int i = 0; (board = at_boards_at(boards, i)) != NULL; i++) {
        sum += atomic_load(&board->told[what]);
    }
    return sum;
}
