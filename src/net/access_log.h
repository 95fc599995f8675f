/* The access log: a line for each request, written where no request waits for it.
 *
 * When a request begins, what its line will say of it is copied (an entry). When it
 * ends, the entry goes into its reactor's ring: bounded, one thread puts, one takes,
 * and no lock. A thread of the log makes lines of entries and writes them in batches.
 * When the disk is slower than the requests, rings are full and entries are dropped and
 * counted: a log may be late or have gaps, a request may not.
 *
 * The thread sleeps while there is nothing. Whoever puts the first entry wakes it, and
 * it gathers for a moment before it writes, so that a system call on a reactor's thread
 * comes a few times a second at most.
 */
#ifndef AT_NET_ACCESS_LOG_H
#define AT_NET_ACCESS_LOG_H

#include "base/contexts.h"
#include "http/h1.h"
#include "net/exchange.h"

typedef struct at_access_log at_access_log;
typedef struct at_access_ring at_access_ring;
typedef struct at_access_entry at_access_entry;

/* Begin to log into the file at `path` ("-": standard output).
 * ctx:  any
 * owns: the caller frees it, after every ring was closed
 * errs: as at_log_format_new(), at_log_file_open(); AT_ENOMEM, AT_EAGAIN (no thread) */
int at_access_log_new(at_access_log **log, const char *path, at_span format,
                      at_fault *fault);

/* Write what is there, for two seconds at most, and end. NULL is allowed. It takes no
 * GIL: the wait is short, attached or not. */
void at_access_log_free(at_access_log *log) AT_UNCHECKED;

/* Open the file again, which was moved away.
 * ctx:  any
 * errs: as at_log_file_open(), and then the old one stays */
int at_access_log_reopen(at_access_log *log, at_fault *fault);

/* Lines that the system refused to write. ctx: any */
uint64_t at_access_log_failed(const at_access_log *log);

/* A ring for a reactor, NULL without memory; closed by it before it goes. */
at_access_ring *at_access_ring_open(at_access_log *log);
void at_access_ring_close(at_access_ring *ring);

/* What is to be said of the request; NULL without memory. `exchange` is on a
 * connection. */
at_access_entry *at_access_entry_new(const at_access_ring *ring,
                                     const at_exchange *exchange,
                                     const at_h1_request *request);

/* One for bytes that were no request, from `peer`. */
at_access_entry *at_access_entry_new_bare(const at_address *peer, int64_t begun_ns);
void at_access_entry_free(at_access_entry *entry);

/* Does the format ask for headers of responses? */
bool at_access_wants_response(const at_access_ring *ring);

/* The response's headers, when they are sent. */
void at_access_entry_headers(const at_access_ring *ring, at_access_entry *entry,
                             const at_h1_header *headers, size_t header_count);

/* The request is over. False: there was no room, and the entry is gone.
 * ctx:  the reactor's thread
 * owns: takes the entry */
bool at_access_put(at_access_ring *ring, at_access_entry *entry, int status,
                   uint64_t sent_bytes, int64_t now_ns);

#endif
