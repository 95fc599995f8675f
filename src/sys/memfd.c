/* Shared memory; see memfd.h. */
#include "sys/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

static int map(at_memfd *memory, int descriptor, size_t size_bytes, at_fault *fault)
{
    void *data =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED) {
        return at_fault_set_system(fault, errno, "mapping %zu bytes of shared memory",
                                   size_bytes);
    }
    *memory = (at_memfd){descriptor, data, size_bytes};
    return 0;
}

int at_memfd_open(at_memfd *memory, const char *label, size_t size_bytes,
                  at_fault *fault)
{
    char name[201];
    (void)snprintf(name, sizeof name, "%s", label);
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "making shared memory");
    }
    if (ftruncate(descriptor, (off_t)size_bytes) != 0 ||
        fcntl(descriptor, F_ADD_SEALS, SEALS) != 0) {
        int code = at_fault_set_system(fault, errno,
                                       "sizing shared memory to %zu bytes", size_bytes);
        (void)close(descriptor);
        return code;
    }
    int result = map(memory, descriptor, size_bytes, fault);
    if (result < 0) {
        (void)close(descriptor);
    }
    return result;
}

int at_memfd_adopt(at_memfd *memory, int descriptor, at_fault *fault)
{
    struct stat facts;
    int seals = fcntl(descriptor, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(descriptor, &facts) != 0 ||
        facts.st_size <= 0) {
        return at_fault_set(fault, AT_EINVALID,
                            "descriptor %d is no shared memory of atoll", descriptor);
    }
    return map(memory, descriptor, (size_t)facts.st_size, fault);
}

void at_memfd_unmap(at_memfd *memory)
{
    (void)munmap(memory->data, memory->size_bytes);
}

void at_memfd_close(at_memfd *memory)
{
    at_memfd_unmap(memory);
    (void)close(memory->descriptor);
}
