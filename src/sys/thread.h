/* Threads of the operating system, with the stack that Python code needs. */
#ifndef AT_SYS_THREAD_H
#define AT_SYS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"

/* What a main thread gets by default on Linux. Deep recursion in C extensions is tuned
 * to it. */
enum { AT_THREAD_STACK_BYTES = 8 << 20 };

/* Embedded by its user. */
typedef struct at_thread {
    pthread_t handle;
    struct at_thread_life *life; /* shared with the thread itself */
} at_thread;

/* Run `body(argument)` on a new thread called `name` (cut to 15 bytes, as the kernel
 * has it). It starts with every signal blocked: signals belong to the main thread.
 * ctx:  any
 * owns: the caller ends `thread` with exactly one join or detach
 * errs: AT_EAGAIN where the system has no more threads, AT_ENOMEM */
int at_thread_start(at_thread *thread, const char *name, void (*body)(void *),
                    void *argument, at_fault *fault);

/* Wait for the end of `thread`.
 * ctx: detached */
void at_thread_join(at_thread *thread) AT_DETACHED;

/* Wait for the end of `thread` until `deadline_ns`.
 * ctx:  detached
 * errs: AT_ETIMEOUT, and then it is still to be joined or detached */
int at_thread_join_until(at_thread *thread, int64_t deadline_ns) AT_DETACHED;

/* Nobody will join `thread`.
 * ctx: any */
void at_thread_detach(at_thread *thread);

/* Let every signal through on the calling thread. For threads that start programs: a
 * child inherits the mask, and one that is born with SIGTERM blocked cannot be ended.
 * The kernel still prefers the main thread for signals of the process.
 * ctx: any */
void at_thread_unblock_signals(void);

/* Call the calling thread `name` (cut to 15 bytes).
 * ctx: any */
void at_thread_rename(const char *name);

/* Send signal `number` to the thread of this process that the kernel calls `thread`.
 * False: there is none.
 * ctx: any */
bool at_thread_signal(int thread, int number);

/* Let the calling thread, which never runs for long, be run soon when it wakes: ask the
 * scheduler (EEVDF; Linux 6.12) for slices of 0.1 ms, the shortest, in place of some 3.
 * Its share of the processor stays the same. Nothing happens on older kernels.
 * ctx: any */
void at_thread_hurry(void);

/* The kernel's number for the calling thread.
 * ctx: any */
int at_thread_number(void);

#endif
