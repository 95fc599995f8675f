/* Static files: folders that are served below a prefix, without the layer above.
 *
 * A layer between the reactor and its hooks: a request below a mount's prefix is
 * answered here, everything else goes on to the hooks of the layer above. It speaks
 * through the exchange alone, so the protocol and its encryption do not matter.
 *
 *   static.c        mounts, the path, the file; streaming it
 *   static_rules.c  what RFC 9110 says of conditions, ranges and encodings: no I/O
 */
#ifndef AT_NET_STATIC_H
#define AT_NET_STATIC_H

#include <stdbool.h>

#include "net/exchange.h"

/* The mounts of a service. */
typedef struct at_static_mounts at_static_mounts;

/* Add `folder` below `prefix` ("/assets"; "/" for all) to *mounts, which is made where
 * it is NULL. The longest prefix that fits a path wins.
 * ctx:  any, before the first reactor is opened
 * errs: fault: AT_EINVALID (the prefix), as at_beneath_folder(), AT_ENOMEM */
int at_static_mount(at_static_mounts **mounts, const char *prefix, const char *folder,
                    at_fault *fault);

/* ctx: any; NULL is allowed */
void at_static_mounts_free(at_static_mounts *mounts);

/* The layer of one reactor; on the reactor's thread, as its hooks. */
typedef struct at_static at_static;

/* owns: the caller frees it, after the last connection; `mounts` must live until then
 * errs: NULL when out of memory */
at_static *at_static_new(const at_static_mounts *mounts, const at_hooks *above,
                         void *context);
void at_static_free(at_static *layer);

/* The hooks to give a reactor, with the layer as their context. */
extern const at_hooks at_static_hooks;

/* ---- static_rules.c ------------------------------------------------------------- */

enum { AT_STATIC_ETAG_BYTES = 64 };

typedef struct at_static_facts {
    at_span etag;       /* strong, with its quotes */
    int64_t modified_s; /* since 1970 */
    uint64_t size_bytes;
} at_static_facts;

typedef struct at_static_verdict {
    int status;            /* 200, 206, 304, 412 or 416 */
    uint64_t first, count; /* for 200 and 206: the bytes to send */
} at_static_verdict;

/* What a GET or HEAD with these headers asks of the representation (RFC 9110 13, 14).
 * ctx: any */
at_static_verdict at_static_judge(const at_h1_request *request,
                                  const at_static_facts *facts);

/* Does Accept-Encoding take `coding` ("br", "gzip") by name?
 * ctx: any */
bool at_static_accepts(const at_h1_request *request, const char *coding);

/* Content-Type of a file by the end of its name, never NULL; *compressible where a
 * precompressed form makes sense.
 * ctx: any */
const char *at_static_type(const char *path, bool *compressible);

#endif
