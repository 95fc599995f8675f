/* The guardian: how the kernel tells others that this process has died.
 *
 * A word in shared memory that says who holds a lock stays as it is when its holder is
 * killed. The kernel has one cure: each thread may give it a list of such words, and
 * when the thread ends, by whatever cause, those that hold its number are marked
 * FUTEX_OWNER_DIED, and one who sleeps there is woken (set_robust_list(2)). The list of
 * an ordinary thread belongs to the C library, whose mutexes only the thread that took
 * them may release. Locks in Python are released by any thread, so they belong to the
 * process: a word holds the number of one thread that does nothing but sleep until the
 * process ends, the guardian. Every word that may ever hold its number is on its list
 * for as long as it is mapped here; taking a lock does not touch the list.
 *
 * exec() ends the guardian as well, and a fork's child gets one of its own.
 *
 * Numbers are those of one PID namespace: processes of different namespaces must not
 * share such words, as with the C library's robust mutexes.
 */
#ifndef AT_SYS_GUARDIAN_H
#define AT_SYS_GUARDIAN_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "sys/page.h"

/* What a word consists of: the holder's number, and two bits. */
#define AT_WORD_HOLDER ((unsigned)FUTEX_TID_MASK)
#define AT_WORD_DIED ((unsigned)FUTEX_OWNER_DIED)
#define AT_WORD_SLEEPERS ((unsigned)FUTEX_WAITERS)

/* The kernel looks at so many words when a process dies (ROBUST_LIST_LIMIT). */
enum { AT_GUARDIAN_WORDS = 2048 };

/* Guard the word that lies `offset_bytes` into `page`, until at_guardian_leave().
 * ctx:  any
 * errs: fault: AT_ELIMIT when there are AT_GUARDIAN_WORDS already */
int at_guardian_enter(at_page *page, size_t offset_bytes, at_fault *fault);

/* ctx: any */
void at_guardian_leave(at_page *page, size_t offset_bytes);

/* The number of this process's guardian, which is started by the first call.
 * ctx:  any; the first call in a process starts a thread
 * errs: 0 where the system gives no thread, or has no robust futexes */
uint32_t at_guardian_number(void);

/* The same where it is started, else 0. ctx: any */
uint32_t at_guardian_current(void);

/* The number of this process, once the guardian is started. ctx: any */
uint32_t at_guardian_process(void);

/* Whether the process of another guardian lives. ctx: any */
bool at_guardian_lives(uint32_t number);

/* Wait until the last thread of process `id` has ended, up to `limit_ns`: the guardian
 * may be gone while another thread is still in its last system call.
 * ctx: detached */
void at_guardian_wait_end(uint32_t process_id, int64_t limit_ns) AT_DETACHED;

/* The calling thread is about to wait for `word`, or to wake who waits there. Should it
 * be killed before at_guardian_settle(), the kernel wakes the next sleeper in its place
 * if nobody holds the word. One word at a time.
 * ctx: any */
void at_guardian_unsettle(atomic_uint *word);
void at_guardian_settle(void);

#endif
