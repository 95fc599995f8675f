/* Pages that processes share, with a private page in front of them.
 *
 * The kernel's list of robust futexes names a word by a list entry at a fixed distance
 * from it (linux/futex.h: robust_list_head). The entries of one process are pointers of
 * its own, so they cannot lie in memory that others write as well. Here the shared
 * pages, mostly one, are mapped behind a private one: an entry at some place of the
 * private page stands for the word at the same place of the first shared page.
 */
#ifndef AT_SYS_PAGE_H
#define AT_SYS_PAGE_H

#include <stddef.h>

#include "base/error.h"
#include "sys/map.h"
#include "sys/memfd.h"

/* Embedded by its user. */
typedef struct at_page {
    at_memfd memory; /* `data` is the shared memory, zeros at first */
    void *mirror;    /* the private page, at_page_bytes() before `data` */
} at_page;

/* New memory of `size_bytes` (not 0), rounded up to whole pages; `label` as for
 * at_memfd_open().
 * ctx:  any
 * owns: the caller ends it with at_page_close
 * errs: fault: AT_ENOMEM, AT_ESYSTEM */
int at_page_open(at_page *page, const char *label, size_t size_bytes, at_fault *fault);

/* The pages behind a descriptor.
 * ctx:  any
 * owns: takes the descriptor on success
 * errs: fault: AT_EINVALID where it is no such memory; AT_ENOMEM, AT_ESYSTEM */
int at_page_adopt(at_page *page, int descriptor, at_fault *fault);

/* ctx: any */
void at_page_close(at_page *page);

/* Take back an adoption: the descriptor is the caller's again. ctx: any */
void at_page_forget(at_page *page);

#endif
