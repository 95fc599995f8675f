/* Stream sockets that never block: listen, accept, receive, send.
 *
 * Every function here: ctx: any; but at_socket_listen, which may ask a name server.
 */
#ifndef AT_SYS_STREAM_H
#define AT_SYS_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"

/* An end of a connection, as a program shows it. */
typedef struct at_address {
    char host[108]; /* numeric address, or the path of a Unix socket; terminated */
    int port;       /* -1 for a Unix socket */
} at_address;

/* Open listening TCP sockets for every address that `host` names (terminated; empty:
 * all of this machine), on `port` (0: the system chooses, the same for all). Stores up
 * to `most` descriptors.
 * ctx:   detached
 * gives: how many were opened, 1 at least
 * owns:  the caller closes them with at_socket_close
 * errs:  as at_error_from_errno(), AT_ENOTFOUND for a name nobody knows */
int at_socket_listen(const char *host, int port, int backlog, int *descriptors,
                     int most, at_fault *fault);

/* Open a listening Unix socket at `path`; a socket there that nobody listens on any
 * more is replaced, and nothing else is. Everyone may connect who may enter the folder.
 * ctx:   any
 * gives: the descriptor
 * errs:  as at_error_from_errno() */
int at_socket_listen_unix(const char *path, int backlog, at_fault *fault);

/* A copy of a descriptor that was opened by another: it does not block, and children do
 * not inherit it.
 * ctx:   any
 * gives: the descriptor
 * errs:  as at_error_from_errno() */
int at_socket_copy_unblocked(int descriptor, at_fault *fault);

/* A listening socket that was opened by another (systemd): a copy of its descriptor.
 * ctx:   any
 * gives: the descriptor
 * errs:  AT_EINVALID (not a listening stream socket) */
int at_socket_adopt(int descriptor, at_fault *fault);

/* Take a connection that waits; it will not block, and sends without delay.
 * gives: the descriptor
 * errs:  AT_EAGAIN: none waits (any more). AT_ELIMIT: no descriptors are left.
 *        AT_ENOMEM. */
int at_socket_accept(int listener, at_address *peer);

/* The socket's own end. */
void at_socket_name(int descriptor, at_address *address);

/* gives: bytes received; 0: the peer will send no more
 * errs:  AT_EAGAIN; anything else: the connection is dead */
long at_socket_receive(int descriptor, void *data, size_t size_bytes);

/* As at_socket_receive, but the bytes stay to be received. */
long at_socket_peek(int descriptor, void *data, size_t size_bytes);

/* Send the pieces, at most 8, in one call.
 * gives: bytes taken, perhaps fewer than there are
 * errs:  AT_EAGAIN; anything else: the connection is dead */
long at_socket_send(int descriptor, const at_span *pieces, int count);

/* Send from the file, without a copy through this process.
 * gives: bytes taken; 0 where the file has no more, or cannot be sent in this way
 * errs:  as at_socket_send */
long at_socket_send_file(int descriptor, int file, uint64_t offset, size_t size_bytes);

/* How long ago the last bytes came, read or not, as the kernel knows it: to a few
 * milliseconds; negative for a socket that is not TCP. */
int64_t at_socket_age_ns(int descriptor);

/* The same socket by another descriptor, which the caller closes.
 * errs: as at_error_from_errno() */
int at_socket_copy(int descriptor);

/* Say that no more will be sent; what was sent still arrives. */
void at_socket_shut_write(int descriptor);

/* Nothing is sent or received any more, on any thread, but what was sent still arrives;
 * the descriptor stays open. */
void at_socket_shut(int descriptor);

/* Let the close that follows reset the connection, so that the peer sees a failure
 * and not a short answer. */
void at_socket_reset_on_close(int descriptor);

void at_socket_close(int descriptor);

#endif
