/* atoll's public C API, for programs that embed Python and extensions that feed it.
 *
 * Nothing here needs Python.h, and no function needs a thread state unless it says so.
 * The functions come as a table out of a capsule, so that an extension needs no library
 * to link with (and `atoll` is a function of the C library):
 *
 *     const atoll_api *api = PyCapsule_Import(ATOLL_API_CAPSULE, 0);
 *     if (api == NULL || api->version < 1) { ... }
 *     atoll_channel *channel = api->channel_of(object);      // with a thread state
 *     api->channel_send_bytes(channel, "data", 4, -1);       // from any thread
 *
 * A table only grows: what is there in version N stays as it is in all later ones. It
 * lies in static memory of the _atoll module, which is never unloaded.
 *
 * Functions that return int give 0, or one of the negative codes below. They may be
 * called by any number of threads at once, on one channel too. Those that wait must not
 * be called with a thread state attached: the other side may need its GIL.
 */
#ifndef ATOLL_ATOLL_H
#define ATOLL_ATOLL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATOLL_VERSION_MAJOR 0
#define ATOLL_VERSION_MINOR 1
#define ATOLL_VERSION_PATCH 0

#define ATOLL_API_CAPSULE "atoll._atoll._C_API"
#define ATOLL_API_VERSION 1

enum {
    ATOLL_ENOMEM = -1,
    ATOLL_ECLOSED = -5,      /* closed; for a receiver: and drained */
    ATOLL_ETIMEOUT = -6,     /* not in time */
    ATOLL_EINTERRUPTED = -7, /* a signal handler ran: call again */
    ATOLL_EFORMAT = -10,     /* a message that is no bytes */
};

typedef struct atoll_channel atoll_channel;
typedef struct atoll_message atoll_message;

typedef struct atoll_api {
    unsigned version; /* ATOLL_API_VERSION of the atoll that runs */

    /* The channel of the atoll.Channel `object`, a PyObject. Needs a thread state.
     * Returns a reference, given back with channel_unref(); NULL with a Python
     * exception set. While a reference is held, the channel does not close by itself.
     */
    atoll_channel *(*channel_of)(void *object);

    void (*channel_unref)(atoll_channel *channel);

    /* Send a copy of the bytes; the receiver gets a bytes object. Waits for room up to
     * `timeout` seconds: 0 does not wait and any negative number waits for ever.
     * ATOLL_ENOMEM, ATOLL_ECLOSED, ATOLL_ETIMEOUT, ATOLL_EINTERRUPTED */
    int (*channel_send_bytes)(atoll_channel *channel, const void *data,
                              size_t size_bytes, double timeout);

    /* Send the memory itself; the receiver gets a read-only buffer of it. `release` is
     * called once, on any thread and with or without a GIL, when nobody uses the memory
     * any more: it must neither block nor call Python. After an error it is not called,
     * and the memory stays the caller's. Errors as channel_send_bytes(). */
    int (*channel_send_buffer)(atoll_channel *channel, void *data, size_t size_bytes,
                               void (*release)(void *context), void *context,
                               double timeout);

    /* Receive a message, whatever it holds; let go of it with message_free(). Errors as
     * channel_send_bytes(). */
    int (*channel_recv)(atoll_channel *channel, atoll_message **message,
                        double timeout);

    /* The bytes of a message, where it holds a bytes object or came from
     * channel_send_buffer(): good until message_free(). ATOLL_EFORMAT for others. */
    int (*message_bytes)(const atoll_message *message, const void **data,
                         size_t *size_bytes);

    void (*message_free)(atoll_message *message);

    /* Refuse further sends. */
    void (*channel_close)(atoll_channel *channel);
} atoll_api;

#ifdef __cplusplus
}
#endif

#endif
