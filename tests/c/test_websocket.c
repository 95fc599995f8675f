/* WebSocket: the RFC's own examples, every rule of framing with its close code, text
 * cut anywhere, and the writer read back. Input goes in whole and byte by byte. */
#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "http/websocket.h"
#include "http/websocket_deflate.h"

static at_bytes input;
static char transcript[4096];
static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

/* Append a client's frame to the input. `first` is its first byte. */
static void add_frame(unsigned first, const char *payload, size_t size)
{
    char head[14] = {(char)first};
    size_t head_size = at_ws_prefix(head, AT_WS_TEXT, false, size);
    head[0] = (char)first;
    head[1] = (char)(head[1] | 0x80);
    memcpy(head + head_size, mask, 4);
    CHECK(at_bytes_append(&input, head, head_size + 4) == 0);
    CHECK(at_bytes_append(&input, payload, size) == 0);
    if (size != 0) {
        at_ws_unmask(input.data + input.size - size, size, mask, 0);
    }
}

static void add_text(unsigned first, const char *payload)
{
    add_frame(first, payload, strlen(payload));
}

static void note(const char *format, ...)
{
    size_t used = strlen(transcript);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(transcript + used, sizeof transcript - used, format, arguments);
    va_end(arguments);
}

static void note_event(const at_ws_event *event)
{
    int shown = event->data.size < 40 ? (int)event->data.size : 40;
    const char *data = shown != 0 ? event->data.data : "";
    switch (event->opcode) {
    case AT_WS_TEXT:
        note("text %zu %.*s;", event->data.size, shown, data);
        break;
    case AT_WS_BINARY:
        note("binary %zu;", event->data.size);
        break;
    case AT_WS_PING:
        note("ping %.*s;", shown, data);
        break;
    case AT_WS_PONG:
        note("pong %.*s;", shown, data);
        break;
    default:
        note("close %u %.*s;", event->close_code, shown, data);
        break;
    }
}

/* Read the input in blocks of `step` bytes into the transcript. */
static void read_in_steps(size_t step, size_t size_max, bool deflated)
{
    at_ws_deflate *deflate = NULL;
    if (deflated) {
        at_ws_deflate_options options;
        at_ws_deflate_options_init(&options);
        CHECK(at_ws_deflate_new(&options, &deflate) == 0);
    }
    at_ws_reader reader;
    at_ws_reader_init(&reader, size_max, deflate);
    transcript[0] = '\0';
    int result = AT_EAGAIN;
    for (size_t begin = 0; begin < input.size && result == AT_EAGAIN; begin += step) {
        size_t size = input.size - begin < step ? input.size - begin : step;
        char *block = malloc(size);
        CHECK(block != NULL);
        memcpy(block, input.data + begin, size);
        size_t at = 0;
        size_t used;
        at_ws_event event;
        while ((result = at_ws_read(&reader, block + at, size - at, &used, &event)) ==
               1) {
            note_event(&event);
            at += used;
        }
        CHECK(result != AT_EAGAIN || at + used == size);
        free(block);
    }
    if (result == AT_EFORMAT || result == AT_ELIMIT) {
        CHECK(reader.error_text != NULL);
        note("error %u;", reader.error_code);
    } else {
        CHECK(result == AT_EAGAIN || result == AT_ECLOSED);
    }
    at_ws_reader_fini(&reader);
    at_ws_deflate_free(deflate);
}

static void expect_limited(const char *wanted, size_t size_max, bool deflated)
{
    static const size_t steps[] = {SIZE_MAX, 1, 7};
    for (size_t i = 0; i < 3; i++) {
        size_t step = steps[i] < input.size ? steps[i] : input.size;
        read_in_steps(step, size_max, deflated);
        if (strcmp(transcript, wanted) != 0) {
            (void)fprintf(stderr, "in steps of %zu: got  %s\n not %s\n", step,
                          transcript, wanted);
        }
        CHECK(strcmp(transcript, wanted) == 0);
    }
    at_bytes_fini(&input);
}

static void expect(const char *wanted)
{
    expect_limited(wanted, 1 << 20, false);
}

static void expect_deflated(const char *wanted)
{
    expect_limited(wanted, 1 << 20, true);
}

static void handshake_key(void)
{
    char accept[AT_WS_ACCEPT_BYTES];
    CHECK(at_ws_accept_key((at_span){"dGhlIHNhbXBsZSBub25jZQ==", 24}, accept) == 0);
    CHECK(memcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof accept) == 0);
    static const char *const bad[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "AAAA",
                                      "dGhlIHNhbXBsZSBub25jZQ===",
                                      "dGhlIHNhbXBsZSBub25j\nQ==",
                                      "dGhlIHNhbXBsZSBub25jZQaa"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(at_ws_accept_key((at_span){bad[i], strlen(bad[i])}, accept) ==
              AT_EFORMAT);
    }
}

static void examples_of_the_rfc(void)
{
    CHECK(at_bytes_append(&input, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11) ==
          0);
    expect("text 5 Hello;");
    add_text(0x01, "Hel");
    add_text(0x80, "lo");
    expect("text 5 Hello;");
    CHECK(at_bytes_append(&input, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11) ==
          0);
    expect("pong Hello;");
}

static void messages(void)
{
    static char large[70000];
    memset(large, 'x', sizeof large);
    add_text(0x81, "");
    add_frame(0x82, "", 0);
    add_frame(0x82, large, 125);
    add_frame(0x82, large, 126);
    add_frame(0x82, large, 65535);
    add_frame(0x82, large, 65536);
    add_frame(0x02, large, 65536);
    add_frame(0x00, large, 0);
    add_frame(0x80, large, 10);
    expect("text 0 ;binary 0;binary 125;binary 126;binary 65535;binary 65536;"
           "binary 65546;");
}

static void control_between_fragments(void)
{
    add_text(0x01, "a");
    add_text(0x89, "ping");
    add_text(0x00, "b");
    add_text(0x8a, "");
    add_text(0x80, "");
    expect("ping ping;pong ;text 2 ab;");
}

static void framing_rules(void)
{
    static const unsigned refused[] = {0x83, 0x87, 0x8b, 0x8f, /* opcodes */
                                       0xc1, 0xa1, 0x91, 0xf1, /* bits */
                                       0x09, 0x08, 0x0a,       /* control in parts */
                                       0x00, 0x80};            /* nothing to continue */
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        add_text(0x89, "x");
        add_text(refused[i], "ab");
        expect("ping x;error 1002;");
    }
    add_text(0x01, "a");
    add_text(0x81, "b");
    expect("error 1002;");
    CHECK(at_bytes_append(&input, "\x81\x05Hello", 7) == 0);
    expect("error 1002;"); /* no mask */
    CHECK(at_bytes_append(&input, "\x89\xfe", 2) == 0);
    expect("error 1002;"); /* large ping */
    CHECK(at_bytes_append(&input, "\x82\xfe\x00\x7d\0\0\0\0", 8) == 0);
    expect("error 1002;"); /* long form of a short length */
    CHECK(at_bytes_append(&input, "\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14) == 0);
    expect("error 1002;");
    CHECK(at_bytes_append(&input, "\x82\xff\x80\0\0\0\0\1\0\0\0\0\0\0", 14) == 0);
    expect("error 1002;");
}

static void sizes_are_bounded(void)
{
    add_text(0x81, "0123456789");
    expect_limited("text 10 0123456789;", 10, false);
    add_text(0x81, "0123456789a");
    expect_limited("error 1009;", 10, false);
    add_text(0x01, "01234");
    add_text(0x00, "56789");
    add_text(0x80, "a");
    expect_limited("error 1009;", 10, false);
    CHECK(at_bytes_append(&input, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
                          14) == 0);
    expect("error 1009;"); /* at once, whatever follows */
}

static void closing(void)
{
    add_text(0x88, "");
    add_text(0x81, "ignored");
    expect("close 1005 ;");
    add_text(0x88, "\x03\xe8");
    expect("close 1000 ;");
    add_text(0x88, "\x0f\xa0so long");
    expect("close 4000 so long;");
    add_text(0x88, "\x03");
    expect("error 1002;");
    add_frame(0x88, "\x03\xe8\xff", 3);
    expect("error 1007;");
    static const unsigned bad[] = {0,    999,  1004, 1005, 1006,
                                   1015, 1016, 2999, 5000, 65535};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char code[2] = {(char)(bad[i] >> 8), (char)bad[i]};
        add_frame(0x88, code, 2);
        expect("error 1002;");
    }
    static const unsigned good[] = {1000, 1003, 1007, 1011, 1014, 3000, 4999};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char code[2] = {(char)(good[i] >> 8), (char)good[i]};
        char wanted[40];
        (void)snprintf(wanted, sizeof wanted, "close %u ;", good[i]);
        add_frame(0x88, code, 2);
        expect(wanted);
    }
}

static void text_is_utf8(void)
{
    add_text(0x81, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5");
    expect("text 11 \xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5;");
    add_text(0x01, "\xf0\x9f"); /* a character in three frames */
    add_text(0x00, "\x98");
    add_text(0x80, "\x80");
    expect("text 4 \xf0\x9f\x98\x80;");
    static const char *const bad[] = {
        "\x80",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3(",
        "\xe2\x82(",
        "0123456789abcdef\xfe",
        "a\xe2\x82",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        add_text(0x81, bad[i]);
        expect("error 1007;");
        add_frame(0x82, bad[i], 1);
        expect("binary 1;");
    }
    add_text(0x01, "\xf4\x90"); /* at once, not when the message ends */
    expect("error 1007;");
    static const char *const good[] = {
        "\x7f",         "\xc2\x80",         "\xdf\xbf",
        "\xe0\xa0\x80", "\xed\x9f\xbf",     "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        at_utf8 utf8 = {0};
        CHECK(at_utf8_feed(&utf8, (at_span){good[i], strlen(good[i])}));
        CHECK(at_utf8_is_complete(&utf8));
    }
}

static void unmasking(void)
{
    char data[100];
    char wanted[100];
    for (size_t size = 0; size <= sizeof data; size++) {
        for (uint64_t offset = 0; offset < 5; offset++) {
            for (size_t i = 0; i < size; i++) {
                data[i] = (char)i;
                wanted[i] = (char)(i ^ mask[(offset + i) % 4]);
            }
            at_ws_unmask(data, size, mask, offset);
            CHECK(memcmp(data, wanted, size) == 0);
        }
    }
}

static void written_frames(void)
{
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_ws_write_message(&out, NULL, AT_WS_TEXT, (at_span){"Hello", 5}) == 0);
    CHECK(out.size == 7 && memcmp(out.data, "\x81\x05Hello", 7) == 0);
    out.size = 0;
    CHECK(at_ws_write_message(&out, NULL, AT_WS_PONG, (at_span){"Hello", 5}) == 0);
    CHECK(out.size == 7 && memcmp(out.data, "\x8a\x05Hello", 7) == 0);
    out.size = 0;
    static char large[65536];
    CHECK(at_ws_write_message(&out, NULL, AT_WS_BINARY, (at_span){large, 256}) == 0);
    CHECK(out.size == 260 && memcmp(out.data, "\x82\x7e\x01\x00", 4) == 0);
    out.size = 0;
    CHECK(at_ws_write_message(&out, NULL, AT_WS_BINARY, (at_span){large, 65536}) == 0);
    CHECK(out.size == 65546 &&
          memcmp(out.data, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10) == 0);
    out.size = 0;
    CHECK(at_ws_write_message(&out, NULL, AT_WS_PING, (at_span){large, 126}) ==
          AT_EINVALID);
    CHECK(at_ws_write_close(&out, 1001, (at_span){"bye", 3}) == 0);
    CHECK(out.size == 7 && memcmp(out.data,
                                  "\x88\x05\x03\xe9"
                                  "bye",
                                  7) == 0);
    out.size = 0;
    CHECK(at_ws_write_close(&out, AT_WS_CODE_NONE, (at_span){NULL, 0}) == 0);
    CHECK(out.size == 2 && memcmp(out.data, "\x88\x00", 2) == 0);
    out.size = 0;
    char reason[200]; /* cut in front of the character that does not fit */
    memset(reason, 'a', 122);
    memcpy(reason + 122, "\xe2\x82\xac", 3);
    CHECK(at_ws_write_close(&out, 1000, (at_span){reason, 125}) == 0);
    CHECK(out.size == 2 + 2 + 122);
    out.size = 0;
    CHECK(at_ws_write_close(&out, 1000, (at_span){"\xff", 1}) == AT_EINVALID);
    CHECK(at_ws_write_close(&out, 1006, (at_span){NULL, 0}) == AT_EINVALID);
    CHECK(at_ws_write_close(&out, 999, (at_span){NULL, 0}) == AT_EINVALID);
    CHECK(at_ws_write_close(&out, 5000, (at_span){NULL, 0}) == AT_EINVALID);
    CHECK(out.size == 0);
    at_bytes_fini(&out);
}

/* RFC 7692 7.2.3. */
static void deflate_examples(void)
{
    add_frame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    add_frame(0xc1, "\xf2\x00\x11\x00\x00", 5); /* out of the window of the first */
    expect_deflated("text 5 Hello;text 5 Hello;");
    add_frame(0x41, "\xf2\x48\xcd", 3);
    add_text(0x89, "p");
    add_frame(0x80, "\xc9\xc9\x07\x00", 4);
    expect_deflated("ping p;text 5 Hello;");
    add_frame(0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11);
    expect_deflated("text 5 Hello;");
    add_frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8); /* BFINAL */
    add_frame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    expect_deflated("text 5 Hello;text 5 Hello;");
    add_frame(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13);
    expect_deflated("text 5 Hello;");
    add_frame(0xc1, "\x00", 1);
    add_frame(0xc2, "\x00", 1);
    add_text(0x81, "plain"); /* a message may be sent as it is */
    expect_deflated("text 0 ;binary 0;text 5 plain;");
}

static void deflate_rules(void)
{
    add_frame(0x41, "\xf2\x48\xcd", 3);
    add_frame(0xc0, "\xc9\xc9\x07\x00", 4); /* only the first frame carries the bit */
    expect_deflated("error 1002;");
    add_frame(0xc9, "x", 1);
    expect_deflated("error 1002;");
    add_frame(0xa1, "x", 1);
    expect_deflated("error 1002;");
    add_frame(0xc1, "\xff\xff\xff\xff", 4);
    expect_deflated("error 1007;");
    add_frame(0xc1, "\xf2\x48\xcd", 3); /* ends inside a block */
    expect_deflated("error 1007;");
}

static void deflated_round_trip(bool forget)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    options.server_no_context_takeover = options.client_no_context_takeover = forget;
    at_ws_deflate *sender;
    at_ws_deflate *receiver;
    CHECK(at_ws_deflate_new(&options, &sender) == 0);
    CHECK(at_ws_deflate_new(&options, &receiver) == 0);
    static char message[100000];
    unsigned state = 1;
    size_t repeat_size = 0;
    for (int round = 0; round < 30; round++) {
        size_t size = round % 3 == 0 ? 0 : (size_t)(round * 3000 + 1);
        for (size_t i = 0; i < size; i++) {
            state = state * 1103515245 + 12345;
            message[i] =
                (char)("abcd"[state >> 16 & 3] + (round == 7 ? state >> 20 : 0));
        }
        at_bytes packed;
        at_bytes_init(&packed);
        CHECK(at_ws_deflate_message(sender, (at_span){message, size}, &packed) == 0);
        CHECK(size < 1000 || round == 7 || packed.size < size / 2);
        at_bytes plain;
        at_bytes_init(&plain);
        CHECK(at_ws_inflate(receiver, (at_span){packed.data, packed.size}, true, &plain,
                            size) == 0);
        CHECK(plain.size == size &&
              (size == 0 || memcmp(plain.data, message, size) == 0));
        at_bytes_fini(&plain);
        at_bytes_fini(&packed);
    }
    for (int i = 0; i < 2; i++) { /* is the first message remembered? */
        at_bytes packed;
        at_bytes_init(&packed);
        CHECK(at_ws_deflate_message(sender, (at_span){"once upon a time", 16},
                                    &packed) == 0);
        CHECK(i == 0 || (packed.size == repeat_size) == forget);
        repeat_size = packed.size;
        at_bytes_fini(&packed);
    }
    at_ws_deflate_free(sender);
    at_ws_deflate_free(receiver);
}

static void round_trips(void)
{
    deflated_round_trip(false);
    deflated_round_trip(true);
}

static void inflated_size_is_bounded(void)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    at_ws_deflate *sender;
    CHECK(at_ws_deflate_new(&options, &sender) == 0);
    char *zeros = calloc(1, 8 << 20);
    CHECK(zeros != NULL);
    at_bytes packed;
    at_bytes_init(&packed);
    CHECK(at_ws_deflate_message(sender, (at_span){zeros, 8 << 20}, &packed) == 0);
    CHECK(packed.size < 20000);
    add_frame(0xc2, packed.data, packed.size);
    expect_limited("binary 8388608;", 8 << 20, true);
    add_frame(0xc2, packed.data, packed.size);
    expect_limited("error 1009;", (8 << 20) - 1, true);
    add_frame(0xc2, packed.data, packed.size);
    expect_limited("error 1009;", 1000, true);
    free(zeros);
    at_bytes_fini(&packed);
    at_ws_deflate_free(sender);
}

static void negotiation(void)
{
    static const struct {
        const char *offers;
        const char *answer; /* NULL: none */
    } cases[] = {
        {"permessage-deflate", "permessage-deflate"},
        {"", NULL},
        {"x-other", NULL},
        {"x-other, permessage-deflate ; client_max_window_bits",
         "permessage-deflate; client_max_window_bits=12"},
        {"permessage-deflate; client_max_window_bits=10",
         "permessage-deflate; client_max_window_bits=10"},
        {"permessage-deflate; client_max_window_bits=\"9\"",
         "permessage-deflate; client_max_window_bits=9"},
        {"permessage-deflate; server_max_window_bits=10",
         "permessage-deflate; server_max_window_bits=10"},
        {"permessage-deflate; server_max_window_bits=15",
         "permessage-deflate; server_max_window_bits=12"},
        {"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
         "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
        {"permessage-deflate; server_max_window_bits=8", NULL},
        {"permessage-deflate; server_max_window_bits=8, permessage-deflate",
         "permessage-deflate"},
        {"permessage-deflate; server_max_window_bits", NULL},
        {"permessage-deflate; server_max_window_bits=16", NULL},
        {"permessage-deflate; server_max_window_bits=010", NULL},
        {"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
         NULL},
        {"permessage-deflate; client_max_window_bits=7", NULL},
        {"permessage-deflate; server_no_context_takeover=1", NULL},
        {"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
         NULL},
        {"permessage-deflate; unknown", NULL},
        {"permessage-deflate;", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        at_ws_deflate_options options;
        at_ws_deflate_options_init(&options);
        at_bytes answer;
        at_bytes_init(&answer);
        int result = at_ws_deflate_negotiate(
            (at_span){cases[i].offers, strlen(cases[i].offers)}, &options, &answer);
        CHECK(result == (cases[i].answer != NULL));
        if (result == 1) {
            CHECK(answer.size == strlen(cases[i].answer));
            CHECK(memcmp(answer.data, cases[i].answer, answer.size) == 0);
            at_ws_deflate *deflate; /* and the streams take what was agreed on */
            CHECK(at_ws_deflate_new(&options, &deflate) == 0);
            at_ws_deflate_free(deflate);
        }
        at_bytes_fini(&answer);
    }
}

/* Everything that allocates, in one conversation. */
static int out_of_memory(void)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    at_ws_deflate *deflate = NULL;
    at_bytes out;
    at_bytes_init(&out);
    int result = at_ws_deflate_new(&options, &deflate);
    if (result == 0) {
        result = at_ws_write_message(&out, deflate, AT_WS_TEXT, (at_span){"Hello", 5});
    }
    if (result == 0) {
        result = at_ws_write_close(&out, 1000, (at_span){NULL, 0});
    }
    at_ws_reader reader;
    at_ws_reader_init(&reader, 1000, deflate);
    if (result == 0) {
        char frame[] = "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
        size_t used;
        at_ws_event event;
        result = at_ws_read(&reader, frame, sizeof frame - 1, &used, &event);
        CHECK(result == AT_ENOMEM || (result == 1 && event.data.size == 5));
        result = result == 1 ? 0 : result;
    }
    at_ws_reader_fini(&reader);
    at_ws_deflate_free(deflate);
    at_bytes_fini(&out);
    return result;
}

int main(void)
{
    at_bytes_init(&input);
    RUN(handshake_key);
    RUN(examples_of_the_rfc);
    RUN(messages);
    RUN(control_between_fragments);
    RUN(framing_rules);
    RUN(sizes_are_bounded);
    RUN(closing);
    RUN(text_is_utf8);
    RUN(unmasking);
    RUN(written_frames);
    RUN(deflate_examples);
    RUN(deflate_rules);
    RUN(round_trips);
    RUN(inflated_size_is_bounded);
    RUN(negotiation);
    RUN_FAILING(out_of_memory);
    return 0;
}
