/* Shared pages; see page.h. */
#include "sys/page.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Move the mapping of `page->memory` behind a private page. */
static int mirror(at_page *page, at_fault *fault)
{
    size_t bytes = at_page_bytes();
    size_t shared = page->memory.size_bytes;
    char *both = mmap(NULL, bytes + shared, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (both == MAP_FAILED) {
        return at_fault_set_system(fault, errno, "mapping shared pages");
    }
    if (mprotect(both, bytes, PROT_READ | PROT_WRITE) != 0 ||
        mremap(page->memory.data, shared, shared, MREMAP_MAYMOVE | MREMAP_FIXED,
               both + bytes) == MAP_FAILED) {
        int code = at_fault_set_system(fault, errno, "moving shared pages");
        (void)munmap(both, bytes + shared);
        return code;
    }
    page->mirror = both;
    page->memory.data = both + bytes;
    return 0;
}

int at_page_open(at_page *page, const char *label, size_t size_bytes, at_fault *fault)
{
    size_t bytes = at_page_bytes();
    size_t whole = (size_bytes + bytes - 1) / bytes * bytes;
    int result = at_memfd_open(&page->memory, label, whole, fault);
    if (result < 0) {
        return result;
    }
    result = mirror(page, fault);
    if (result < 0) {
        at_memfd_close(&page->memory);
    }
    return result;
}

int at_page_adopt(at_page *page, int descriptor, at_fault *fault)
{
    int result = at_memfd_adopt(&page->memory, descriptor, fault);
    if (result < 0) {
        return result;
    }
    if (page->memory.size_bytes % at_page_bytes() != 0) {
        result = at_fault_set(fault, AT_EINVALID, "descriptor %d is of no shared pages",
                              descriptor);
    } else {
        result = mirror(page, fault);
    }
    if (result < 0) {
        (void)munmap(page->memory.data, page->memory.size_bytes);
    }
    return result;
}

void at_page_forget(at_page *page)
{
    (void)munmap(page->mirror, at_page_bytes() + page->memory.size_bytes);
}

void at_page_close(at_page *page)
{
    at_page_forget(page);
    (void)close(page->memory.descriptor);
}
