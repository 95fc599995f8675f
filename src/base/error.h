/* Errors: one list of codes for every part above the Python line.
 *
 * A function there returns 0, a count, or a negative AT_E* code. `errno` stays inside
 * sys/, which translates it with at_error_from_errno(). Below the Python line one
 * translator (bind/error.c) turns a code into the Python exception that is named here.
 *
 * at_fault carries the sentence that goes with a code where the code alone would not
 * tell the user what was wrong and what to do: the callee fills it, the caller owns it.
 */
#ifndef AT_BASE_ERROR_H
#define AT_BASE_ERROR_H

#include <stddef.h>

/* X(name, code, text, Python exception) */
#define AT_ERRORS(X)                                                                   \
    X(NOMEM, -1, "out of memory", MemoryError)                                         \
    X(INVALID, -2, "invalid argument", ValueError)                                     \
    X(FULL, -3, "full", Full)                                                          \
    X(EMPTY, -4, "empty", Empty)                                                       \
    X(CLOSED, -5, "closed", ClosedError)                                               \
    X(TIMEOUT, -6, "timed out", TimeoutError)                                          \
    X(INTERRUPTED, -7, "interrupted", InterruptedError)                                \
    X(BUSY, -8, "in use", RuntimeError)                                                \
    X(LIMIT, -9, "over a limit", OverflowError)                                        \
    X(FORMAT, -10, "malformed data", ValueError)                                       \
    X(UNSUPPORTED, -11, "not supported", NotImplementedError)                          \
    X(SYSTEM, -12, "the operating system refused", OSError)                            \
    X(OWNERDEAD, -13, "the holder died", OwnerDeadError)                               \
    X(NOTFOUND, -14, "not found", LookupError)                                         \
    X(AGAIN, -15, "would block", BlockingIOError)                                      \
    X(PERMISSION, -16, "not allowed", PermissionError)                                 \
    X(ENDING, -17, "this interpreter is closing", ClosedError)                         \
    X(BROKEN, -18, "the barrier is broken", BrokenBarrierError)                        \
    X(LAGGED, -19, "items were missed", LaggedError)

enum {
#define AT_ERROR_CODE(name, code, text, exception) AT_E##name = (code),
    AT_ERRORS(AT_ERROR_CODE)
#undef AT_ERROR_CODE
};

/* What went wrong, in a sentence for the user. `text` is always terminated. */
typedef struct at_fault {
    int code;         /* the AT_E* that the function returned */
    int system_error; /* the errno behind it, or 0 */
    char text[1024];
} at_fault;

/* The standing text of a code: "closed" for AT_ECLOSED. Never NULL.
 * ctx: any */
const char *at_error_text(int code);

/* The AT_E* that stands for an errno value; AT_ESYSTEM where none fits better.
 * ctx: any */
int at_error_from_errno(int system_error);

/* Fill `fault` (which may be NULL) and return `code`, so that a caller can write
 * `return at_fault_set(fault, AT_EFORMAT, "...")`. Long text is cut.
 * ctx: any */
int at_fault_set(at_fault *fault, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends strerror(system_error) to the sentence and
 * returns the code that at_error_from_errno() gives.
 * ctx: any */
int at_fault_set_system(at_fault *fault, int system_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* clang's analyzer sees one file at a time. Unless told that what these two return is
 * negative, it goes on behind `if (result < 0) { return result; }` with a failure. */
#define AT_NEGATIVE(call)                                                              \
    ({                                                                                 \
        int code_ = (call);                                                            \
        __builtin_assume(code_ < 0);                                                   \
        code_;                                                                         \
    })
#define at_fault_set(...) AT_NEGATIVE(at_fault_set(__VA_ARGS__))
#define at_fault_set_system(...) AT_NEGATIVE(at_fault_set_system(__VA_ARGS__))
#endif

#endif
