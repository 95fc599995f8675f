/* A talk: two processes over a stream socket that blocks, each of which sends when the
 * other waits. What is sent may bring a descriptor.
 *
 * ctx of all: detached.
 */
#ifndef AT_SYS_TALK_H
#define AT_SYS_TALK_H

#include <stddef.h>

#include "base/contexts.h"
#include "base/error.h"

/* Send all of `data`.
 * errs: AT_ECLOSED: nobody is there to receive it; else as `fault` says, with the errno
 */
int at_talk_send(int socket, const void *data, size_t size_bytes,
                 at_fault *fault) AT_DETACHED;

/* Wait for bytes, and take up to `size_bytes` of them. `*descriptor` is what came with
 * them, or -1.
 * gives: how many; 0: the other side has gone
 * owns:  the caller closes the descriptor with at_talk_drop()
 * errs:  AT_ECLOSED: it has gone without reading what was sent to it; AT_EINTERRUPTED;
 *        AT_EFORMAT: it sent more than one descriptor; AT_ESYSTEM: this process cannot
 *        have another one; else as `fault` says, with the errno */
long at_talk_receive(int socket, void *data, size_t size_bytes, int *descriptor,
                     at_fault *fault) AT_DETACHED;

/* Close a descriptor that came; -1 is none. */
void at_talk_drop(int descriptor);

#endif
