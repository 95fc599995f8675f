/* Memory mappings: of whole files for reading, and changes to pages that are mapped.
 *
 * All addresses, offsets and sizes of the second group are multiples of
 * at_page_bytes().
 */
#ifndef AT_SYS_MAP_H
#define AT_SYS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum at_map_access {
    AT_MAP_NONE = 0,
    AT_MAP_READ = 1,
    AT_MAP_WRITE = 2,
    AT_MAP_EXECUTE = 4,
} at_map_access;

size_t at_page_bytes(void);

/* `size_bytes` (not 0) of an open file, read only. A file that somebody truncates
 * afterwards raises SIGBUS on access, as it does for the loader.
 * owns: the caller ends it with at_map_close
 * errs: fault */
int at_map_open(int descriptor, size_t size_bytes, const void **address,
                at_fault *fault);
void at_map_close(const void *address, size_t size_bytes);

/* `size_bytes` of private memory, not yet touched, will be filled at once: give it
 * large pages where it covers some, so that the kernel need not zero it in small ones.
 * Any address and size; nothing happens where the system does not have them. ctx: any
 */
void at_map_expect(void *address, size_t size_bytes);

/* Put pages of a file, private to this process, in the place of what is mapped there.
 * errs: AT_E*; what was mapped there is then still there */
int at_map_over(void *address, size_t size_bytes, int access, int descriptor,
                uint64_t offset);

/* Pages of a shared mapping of a memfd become zeros, for all who have it mapped, and
 * are the system's again until somebody writes to them. Whoever reads meanwhile sees of
 * each page what was there or zeros. ctx:  any errs: AT_E*; nothing was changed */
int at_map_empty(void *address, size_t size_bytes);

/* errs: AT_E* */
int at_map_protect(void *address, size_t size_bytes, int access);

#endif
