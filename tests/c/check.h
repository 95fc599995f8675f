/* The C tests' only tool: CHECK aborts with the place and the expression.
 *
 * A test is a function `static void name(void)`; main() runs them with RUN. RUN also
 * repeats a test that is declared to survive it with the i-th allocation failing
 * (RUN_FAILING). Exit codes: 0 passed, 1 failed, 77 skipped.
 */
#ifndef AT_TESTS_CHECK_H
#define AT_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

#define CHECK(expression)                                                              \
    do {                                                                               \
        if (!(expression)) {                                                           \
            (void)fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__,           \
                          #expression);                                                \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

#define RUN(test)                                                                      \
    do {                                                                               \
        test();                                                                        \
        (void)printf("ok %s\n", #test);                                                \
    } while (0)

/* `test` returns a negative code when an allocation failed, and must leak nothing then
 * (run under ASan). It is run until it succeeds. */
#define RUN_FAILING(test)                                                              \
    do {                                                                               \
        long failing = 0;                                                              \
        int result;                                                                    \
        do {                                                                           \
            (void)at_memory_fail_after(failing++);                                     \
            result = test();                                                           \
        } while (result < 0 && failing < 100000);                                      \
        (void)at_memory_fail_after(-1);                                                \
        CHECK(result == 0);                                                            \
        (void)printf("ok %s (%ld allocations)\n", #test, failing - 1);                 \
    } while (0)

#endif
