/* Whom a process dies with, who comes to it, and who looks on. */
#ifndef AT_SYS_PROCESS_H
#define AT_SYS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Have the kernel send `signal_number` to this process when its parent, or more exactly
 * the thread that started it, has ended. Whoever asks looks at its parent afterwards,
 * for it may have gone before.
 * ctx:  any
 * errs: AT_EINVALID */
int at_process_die_with_parent(int signal_number);

/* Descendants whose parents end become children of this process, not of init.
 * ctx:  any
 * errs: as at_error_from_errno() */
int at_process_adopt_orphans(void);

/* The system's number of this process. ctx: any */
int at_process_number(void);

/* Memory that process `number` has in RAM, what it shares included; negative where that
 * is not known. ctx: any */
int64_t at_process_resident_bytes(int number);

/* Is process `number` stopped, by a signal or by a debugger? False where nobody can
 * tell. ctx: any */
bool at_process_is_stopped(int number);

/* Does a debugger trace this process? False where nobody can tell. ctx: any */
bool at_process_is_traced(void);

#endif
