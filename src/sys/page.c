/* Shared pages; see page.h. */
#include "sys/page.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Move the mapping of `page->memory` behind a private page. */
static int mirror(at_page *page, at_fault *fault)
{
    size_t bytes = at_page_bytes();
    struct stat facts;
    if (fstat(page->memory.descriptor, &facts) != 0) {
        return at_fault_set_system(fault, errno, "looking at shared memory");
    }
    page->identity[0] = facts.st_dev;
    page->identity[1] = facts.st_ino;
    char *both = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (both == MAP_FAILED) {
        return at_fault_set_system(fault, errno, "mapping a shared page");
    }
    if (mremap(page->memory.data, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
               both + bytes) == MAP_FAILED) {
        int code = at_fault_set_system(fault, errno, "moving a shared page");
        (void)munmap(both, 2 * bytes);
        return code;
    }
    page->mirror = both;
    page->memory.data = both + bytes;
    return 0;
}

int at_page_open(at_page *page, const char *label, at_fault *fault)
{
    int result = at_memfd_open(&page->memory, label, at_page_bytes(), fault);
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
    if (page->memory.size_bytes != at_page_bytes()) {
        result = at_fault_set(fault, AT_EINVALID, "descriptor %d is no shared page",
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
    (void)munmap(page->mirror, 2 * at_page_bytes());
}

void at_page_close(at_page *page)
{
    at_page_forget(page);
    (void)close(page->memory.descriptor);
}
