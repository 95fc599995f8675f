/* Shared memory; see memfd.h. */
#include "sys/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

/* Which file it is, and how large. */
static int look(at_memfd *memory, int descriptor)
{
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) {
        return -1;
    }
    *memory = (at_memfd){descriptor,
                         NULL,
                         facts.st_size > 0 ? (size_t)facts.st_size : 0,
                         {facts.st_dev, facts.st_ino}};
    return 0;
}

static int map(at_memfd *memory, at_fault *fault)
{
    void *data = mmap(NULL, memory->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                      memory->descriptor, 0);
    if (data == MAP_FAILED) {
        return at_fault_set_system(fault, errno, "mapping %zu bytes of shared memory",
                                   memory->size_bytes);
    }
    memory->data = data;
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
        fcntl(descriptor, F_ADD_SEALS, SEALS) != 0 || look(memory, descriptor) < 0) {
        int code = at_fault_set_system(fault, errno,
                                       "sizing shared memory to %zu bytes", size_bytes);
        (void)close(descriptor);
        return code;
    }
    int result = map(memory, fault);
    if (result < 0) {
        (void)close(descriptor);
    }
    return result;
}

int at_memfd_look(at_memfd *memory, int descriptor, at_fault *fault)
{
    int seals = fcntl(descriptor, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || look(memory, descriptor) < 0 ||
        memory->size_bytes == 0) {
        return at_fault_set(fault, AT_EINVALID,
                            "descriptor %d is no shared memory of atoll", descriptor);
    }
    return 0;
}

int at_memfd_adopt(at_memfd *memory, int descriptor, at_fault *fault)
{
    int result = at_memfd_look(memory, descriptor, fault);
    return result == 0 ? map(memory, fault) : result;
}

int at_memfd_join(at_memfd *memory, at_fault *fault)
{
    int descriptor = fcntl(memory->descriptor, F_DUPFD_CLOEXEC, 0);
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "keeping shared memory");
    }
    memory->descriptor = descriptor;
    int result = map(memory, fault);
    if (result < 0) {
        (void)close(descriptor);
    }
    return result;
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
