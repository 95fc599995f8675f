/* Random bytes; see entropy.h. */
#include "sys/entropy.h"

#include <errno.h>
#include <sys/random.h>

int at_entropy_fill(void *data, size_t size_bytes, at_fault *fault)
{
    ssize_t got;
    do { /* up to 256 bytes come whole; a signal may come while the system starts */
        got = getrandom(data, size_bytes, 0);
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)size_bytes
               ? 0
               : at_fault_set_system(fault, errno, "asking for random bytes");
}
