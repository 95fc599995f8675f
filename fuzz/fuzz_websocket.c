/* What a WebSocket client may send, and its offers of permessage-deflate. The first
 * byte chooses: bit 0 turns compression on, bit 1 feeds the negotiation instead. The
 * events must be the same however the bytes are cut, texts must be UTF-8, and no
 * message may be larger than was allowed. */
#include "fuzz.h"

#include <stdbool.h>

#include "base/error.h"
#include "http/websocket.h"
#include "http/websocket_deflate.h"

enum { MESSAGE_BYTES_MAX = 3000 };

typedef struct reading {
    uint64_t sum; /* over all events */
    unsigned event_count;
    bool failed;
} reading;

static void add_event(reading *outcome, const at_ws_event *event)
{
    HOLDS(event->data.size <= MESSAGE_BYTES_MAX);
    if (event->opcode == AT_WS_TEXT || event->opcode == AT_WS_CLOSE) {
        at_utf8 utf8 = {0};
        HOLDS(at_utf8_feed(&utf8, event->data) && at_utf8_is_complete(&utf8));
    }
    HOLDS(event->opcode < AT_WS_CLOSE || event->data.size <= AT_WS_CONTROL_BYTES_MAX);
    outcome->sum = outcome->sum * 31 + event->opcode;
    for (size_t i = 0; i < event->data.size; i++) {
        outcome->sum = outcome->sum * 31 + (uint8_t)event->data.data[i];
    }
    outcome->event_count++;
}

static reading read_in_steps(const uint8_t *data, size_t size, size_t step,
                             bool deflated)
{
    at_ws_deflate *deflate = NULL;
    if (deflated) {
        at_ws_deflate_options options;
        at_ws_deflate_options_init(&options);
        HOLDS(at_ws_deflate_new(&options, &deflate) == 0);
    }
    at_ws_reader reader;
    at_ws_reader_init(&reader, MESSAGE_BYTES_MAX, deflate);
    reading outcome = {0};
    int result = AT_EAGAIN;
    for (size_t begin = 0; begin < size && result == AT_EAGAIN; begin += step) {
        size_t here = size - begin < step ? size - begin : step;
        char *copy = exact_copy(data + begin, here);
        size_t at = 0;
        size_t used;
        at_ws_event event = {0};
        while ((result = at_ws_read(&reader, copy + at, here - at, &used, &event)) ==
               1) {
            HOLDS(used <= here - at);
            add_event(&outcome, &event);
            at += used;
        }
        HOLDS(result != AT_EAGAIN || at + used == here);
        HOLDS(reader.message.size <= MESSAGE_BYTES_MAX + 1);
        free(copy);
    }
    outcome.failed = result == AT_EFORMAT || result == AT_ELIMIT;
    HOLDS(outcome.failed == (reader.error_code != 0));
    at_ws_reader_fini(&reader);
    at_ws_deflate_free(deflate);
    return outcome;
}

static void negotiate(const uint8_t *data, size_t size)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    at_bytes answer;
    at_bytes_init(&answer);
    char *offers = exact_copy(data, size);
    int result = at_ws_deflate_negotiate((at_span){offers, size}, &options, &answer);
    HOLDS(result == 0 || (result == 1 && answer.size >= 18));
    if (result == 1) {
        at_ws_deflate *deflate;
        HOLDS(at_ws_deflate_new(&options, &deflate) == 0);
        at_ws_deflate_free(deflate);
    }
    free(offers);
    at_bytes_fini(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    uint8_t choice = *data++;
    size--;
    if ((choice & 2) != 0) {
        negotiate(data, size);
        return 0;
    }
    reading whole = read_in_steps(data, size, size, choice & 1);
    reading by_byte = read_in_steps(data, size, 1, choice & 1);
    HOLDS(whole.sum == by_byte.sum && whole.event_count == by_byte.event_count);
    HOLDS(whole.failed == by_byte.failed);
    return 0;
}
