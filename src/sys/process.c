/* Parents and children; see process.h. */
#include "sys/process.h"

#include <errno.h>
#include <sys/prctl.h>

#include "base/error.h"

int at_process_die_with_parent(int signal_number)
{
    int result = prctl(PR_SET_PDEATHSIG, (unsigned long)signal_number, 0, 0, 0);
    return result == 0 ? 0 : at_error_from_errno(errno);
}

int at_process_adopt_orphans(void)
{
    int result = prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0, 0, 0);
    return result == 0 ? 0 : at_error_from_errno(errno);
}
