/* Parents, children and debuggers; see process.h. */
#include "sys/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

/* The beginning of a file, terminated; false where there is none. */
static bool read_file(const char *path, char *text, size_t room)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, text, room - 1) : -1;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

int at_process_number(void)
{
    return (int)getpid();
}

int64_t at_process_resident_bytes(int number)
{
    char path[48], text[128];
    (void)snprintf(path, sizeof path, "/proc/%d/statm", number);
    if (!read_file(path, text, sizeof text)) {
        return -1;
    }
    const char *second = strchr(text, ' '); /* all of it, and then what is resident */
    return second != NULL ? strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE) : -1;
}

bool at_process_is_stopped(int number)
{
    char path[48], text[128];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", number);
    if (!read_file(path, text, sizeof text)) {
        return false;
    }
    /* "1 (name) S ...", and the name may be anything */
    const char *name_end = strrchr(text, ')');
    return name_end != NULL && name_end[1] == ' ' &&
           (name_end[2] == 'T' || name_end[2] == 't');
}

bool at_process_is_traced(void)
{
    char text[1024];
    if (!read_file("/proc/self/status", text, sizeof text)) {
        return false;
    }
    const char *tracer = strstr(text, "TracerPid:");
    return tracer != NULL && strtol(tracer + strlen("TracerPid:"), NULL, 10) != 0;
}
