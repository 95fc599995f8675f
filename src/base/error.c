/* Error codes and faults; see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef at_fault_set /* what the analyzer is told of them */
#undef at_fault_set_system

const char *at_error_text(int code)
{
    switch (code) {
    case 0:
        return "success";
#define AT_ERROR_TEXT(name, value, text, exception)                                    \
    case AT_E##name:                                                                   \
        return text;
        AT_ERRORS(AT_ERROR_TEXT)
#undef AT_ERROR_TEXT
    default:
        return "unknown error";
    }
}

int at_error_from_errno(int system_error)
{
    switch (system_error) {
    case ENOMEM:
        return AT_ENOMEM;
    case EINVAL:
        return AT_EINVALID;
    case ETIMEDOUT:
        return AT_ETIMEOUT;
    case EINTR:
        return AT_EINTERRUPTED;
    case ENOENT:
        return AT_ENOTFOUND;
    case EAGAIN:
        return AT_EAGAIN;
    case EPERM:
    case EACCES:
        return AT_EPERMISSION;
    default:
        return AT_ESYSTEM;
    }
}

static void fault_format(at_fault *fault, int code, int system_error,
                         const char *format, va_list arguments)
{
    fault->code = code;
    fault->system_error = system_error;
    int used = vsnprintf(fault->text, sizeof fault->text, format, arguments);
    if (used < 0) {
        fault->text[0] = '\0';
        used = 0;
    }
    if (system_error != 0 && (size_t)used < sizeof fault->text) {
        char reason[128];
        const char *words = strerror_r(system_error, reason, sizeof reason);
        (void)snprintf(fault->text + used, sizeof fault->text - (size_t)used, ": %s",
                       words);
    }
}

int at_fault_set(at_fault *fault, int code, const char *format, ...)
{
    if (fault != NULL) {
        va_list arguments;
        va_start(arguments, format);
        fault_format(fault, code, 0, format, arguments);
        va_end(arguments);
    }
    return code;
}

int at_fault_set_system(at_fault *fault, int system_error, const char *format, ...)
{
    int code = at_error_from_errno(system_error);
    if (fault != NULL) {
        va_list arguments;
        va_start(arguments, format);
        fault_format(fault, code, system_error, format, arguments);
        va_end(arguments);
    }
    return code;
}
