/* A passage: a socket pair over which processes give each other open sockets.
 *
 * Whoever receives takes the next message, and a message is whole or not there, so any
 * number of processes may share both ends. What lies in it when the last process ends
 * is closed by the kernel.
 *
 * ctx of all: any.
 */
#ifndef AT_SYS_PASSAGE_H
#define AT_SYS_PASSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A copy of that end of a passage (a Unix socket of kind SOCK_SEQPACKET), which never
 * blocks.
 * gives: the descriptor
 * errs:  AT_EINVALID (another kind of descriptor) */
int at_passage_adopt(int descriptor, at_fault *fault);

/* Send a copy of `descriptor` with `note`; the caller closes its own. Waits for room up
 * to `timeout_ms`.
 * errs: AT_EAGAIN (no room); as at_error_from_errno() */
int at_passage_send(int passage, int descriptor, const void *note, size_t note_bytes,
                    int timeout_ms);

/* Take the next: its descriptor, and the note, which has exactly `note_bytes`.
 * gives: the descriptor, the caller's
 * errs:  AT_EAGAIN (none waits); AT_EINVALID (a message of another kind, dropped) */
int at_passage_receive(int passage, void *note, size_t note_bytes);

#endif
