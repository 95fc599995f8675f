/* What the processes of a server tell of themselves, where each of them can read it.
 *
 * A reactor writes its counts and its present state into a record, all raw words, so
 * that a reader needs nobody's help: not a GIL, not a turn of an event loop, not even a
 * process that lives. A process has a board of records; a server has the boards of all
 * its processes in one piece of memory, which they share where there are several.
 *
 * No count goes back. A record whose reactor has gone keeps what it counted and is used
 * again by the next reactor of the same worker; a board whose process has ended, for
 * its successor. So what a process that was killed has counted stays, and nothing is
 * ever copied from one place to another.
 *
 * Writers: of a record's counters, and of the state beside them, the reactor's owner;
 * of its last line, whoever hands connections over and the balancer. Of a board, the
 * process it was given to. Who gives boards is one thread of the first process.
 */
#ifndef AT_NET_BOARD_H
#define AT_NET_BOARD_H

#include <stdbool.h>

#include "base/error.h"
#include "net/counters.h"
#include "net/service.h"
#include "sys/memfd.h"

typedef struct at_record {
    _Alignas(64) at_counters counters;
    atomic_uint number;   /* of the worker, and 1; 0: never used */
    atomic_bool taken;    /* a reactor has it */
    atomic_bool refusing; /* requests that have waited too long */
    atomic_int thread;    /* at_thread_number() of its owner; 0: no reactor serves */
    atomic_uint running;  /* requests begun and not ended */
    atomic_llong interpreter;        /* negative: none is known */
    atomic_llong heap_bytes;         /* of that, when it was last looked at; likewise */
    _Alignas(64) atomic_ullong load; /* connections, those in the inbox included */
    atomic_llong seen_ns; /* since when the balancer sees it waiting, or 0; the owner
                           * clears it */
    atomic_llong busy_ns; /* since when it sees it in one batch, or 0 */
    atomic_bool open;     /* it takes connections */
} at_record;

/* What is counted of a process and not of a worker. */
typedef enum at_told {
    AT_TOLD_LOADED, /* private images, and their bytes */
    AT_TOLD_UNMAPPED,
    AT_TOLD_COPIED,
    AT_TOLD_SHARED,
    AT_TOLD_UNWRITTEN, /* lines of the access log */
    AT_TOLDS,
} at_told;

typedef struct at_board at_board;

/* The boards of a server, as this process has them mapped. */
typedef struct at_boards {
    at_memfd memory;
    void *block; /* where it is this process's alone: there is no descriptor then */
} at_boards;

enum { AT_PROCESS_FIRST = -1 }; /* which starts the others and serves nothing itself */

/* One board, for a process that is alone.
 * ctx:  any
 * owns: the caller ends it with at_boards_close
 * errs: AT_ENOMEM */
int at_boards_open_alone(at_boards *boards);

/* Boards for so many processes of so many workers each, to be passed to them by
 * `memory.descriptor`.
 * ctx:  any
 * errs: AT_EINVALID, AT_ENOMEM; as at_memfd_open() */
int at_boards_open(at_boards *boards, int process_count, int worker_count,
                   at_fault *fault);

/* Those of the first process.
 * owns: takes the descriptor on success
 * errs: as at_memfd_adopt() */
int at_boards_adopt(at_boards *boards, int descriptor, at_fault *fault);

/* The memory goes with its last user. ctx: any */
void at_boards_close(at_boards *boards);

/* Are there several processes? */
bool at_boards_are_shared(const at_boards *boards);
int at_boards_process_count(const at_boards *boards);
int at_boards_worker_count(const at_boards *boards);

/* Give process number `process` a place, and take it back when it has ended.
 * ctx:  any; one thread of the first process
 * errs: AT_ELIMIT */
int at_boards_give(at_boards *boards, int process);
void at_boards_take_back(at_boards *boards, int place);

/* The board at that place; NULL: no such place. */
at_board *at_boards_at(const at_boards *boards, int place);

/* ---- for the process whose board it is ------------------------------------------- */

/* Say that it is ours now. ctx: any */
void at_board_begin(at_board *board);

/* A record for a reactor of that worker; NULL where all are taken. ctx: any */
at_record *at_board_take(const at_boards *boards, at_board *board, int worker);

/* The reactor has gone: the counts stay. NULL is allowed. ctx: any */
void at_record_leave(at_record *record);

/* For how long something has waited for it, or it has been busy with one batch. */
int64_t at_record_stuck_ns(const at_record *record, int64_t now_ns);

/* ctx: any */
void at_board_count_restart(at_board *board, at_restart why);

/* The process's own count, since it began. ctx: any */
void at_board_tell(at_board *board, at_told what, uint64_t count);

/* ---- for readers: any process, any thread ---------------------------------------- */

/* About a worker; false: there has never been one. `own` is the board of the reader:
 * of other processes, interpreters are not known by number. */
bool at_boards_worker(const at_boards *boards, const at_board *own, int process,
                      int worker, at_worker_stats *stats);

typedef struct at_process_stats {
    int id;    /* the system's; 0: none lives */
    int count; /* that live: two while one takes over from another */
    int ids[8];
    int open;     /* workers that take connections */
    int able;     /* and that requests do not wait too long for */
    bool stopped; /* by a signal: it serves when it is continued */
} at_process_stats;

/* Connections of all processes that live, but those of control listeners. Counted
 * while others come and go. */
uint64_t at_boards_load(const at_boards *boards);

/* `most_ns`: how long requests may wait. */
void at_boards_process(const at_boards *boards, int process, int64_t most_ns,
                       at_process_stats *stats);

/* Were all workers there at some time? Remembered once said. */
bool at_boards_all_came(const at_boards *boards);
void at_boards_say_all_came(const at_boards *boards);

void at_boards_restarts(const at_boards *boards, uint64_t counts[AT_RESTARTS]);
uint64_t at_boards_told(const at_boards *boards, at_told what);

#endif
