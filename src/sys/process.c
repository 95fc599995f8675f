/* Parents, children and debuggers; see process.h. */
#include "sys/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

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

bool at_process_is_traced(void)
{
    char text[1024];
    int descriptor = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, text, sizeof text - 1) : -1;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    if (length <= 0) {
        return false;
    }
    text[length] = '\0';
    const char *tracer = strstr(text, "TracerPid:");
    return tracer != NULL && strtol(tracer + strlen("TracerPid:"), NULL, 10) != 0;
}
