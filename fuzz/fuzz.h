/* What the fuzz targets share. A target is one LLVMFuzzerTestOneInput; libFuzzer drives
 * it in a fuzzing build, and replay.c feeds it its corpus in the tests. */
#ifndef AT_FUZZ_FUZZ_H
#define AT_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An invariant of what is fuzzed; stays in every build. */
#define HOLDS(expression)                                                              \
    do {                                                                               \
        if (!(expression)) {                                                           \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,    \
                          #expression);                                                \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* A copy of exactly `size` bytes, so that ASan sees a read behind them; free() it. */
static inline char *exact_copy(const void *data, size_t size)
{
    char *copy = malloc(size != 0 ? size : 1);
    HOLDS(copy != NULL);
    if (size != 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

#endif
