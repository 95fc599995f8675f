/* Memory mappings; see map.h. */
#include "sys/map.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int protection(int access)
{
    return ((access & AT_MAP_READ) != 0 ? PROT_READ : 0) |
           ((access & AT_MAP_WRITE) != 0 ? PROT_WRITE : 0) |
           ((access & AT_MAP_EXECUTE) != 0 ? PROT_EXEC : 0);
}

size_t at_page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int at_map_open(int descriptor, size_t size_bytes, const void **address,
                at_fault *fault)
{
    void *mapped = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapped == MAP_FAILED) {
        return at_fault_set_system(fault, errno, "cannot map %zu bytes", size_bytes);
    }
    *address = mapped;
    return 0;
}

void at_map_close(const void *address, size_t size_bytes)
{
    if (address != NULL) {
        (void)munmap((void *)address, size_bytes);
    }
}

int at_map_over(void *address, size_t size_bytes, int access, int descriptor,
                uint64_t offset)
{
    void *mapped = mmap(address, size_bytes, protection(access),
                        MAP_PRIVATE | MAP_FIXED, descriptor, (off_t)offset);
    return mapped != MAP_FAILED ? 0 : at_error_from_errno(errno);
}

int at_map_protect(void *address, size_t size_bytes, int access)
{
    return mprotect(address, size_bytes, protection(access)) == 0
               ? 0
               : at_error_from_errno(errno);
}

int at_map_empty(void *address, size_t size_bytes)
{
    return madvise(address, size_bytes, MADV_REMOVE) == 0 ? 0
                                                          : at_error_from_errno(errno);
}

void at_map_expect(void *address, size_t size_bytes)
{
    const uintptr_t page = at_page_bytes();
    uintptr_t first = ((uintptr_t)address + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)address + size_bytes) & ~(page - 1);
    if (end > first) {
        (void)madvise((char *)address + (first - (uintptr_t)address), end - first,
                      MADV_HUGEPAGE);
    }
}
