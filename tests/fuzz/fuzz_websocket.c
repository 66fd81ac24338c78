/*
 * libFuzzer: any bytes into the websocket frame parser, cut in two different ways: both must tell the same
 * story, consume everything, stay within the limit, give only valid UTF-8 and hold no memory between
 * messages.
 *   make build/fuzz/fuzz_websocket && build/fuzz/fuzz_websocket -max_total_time=30
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/websocket/websocket_frame.h"
#include "tests/fuzz/fuzz.h"

#define MESSAGE_MAX 300

static void check(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_websocket: %s\n", what);
        abort();
    }
}

static void note(struct text *story, enum websocket_result result, struct slice payload)
{
    text_append_format(story, "[%d %zu]", (int)result, payload.length);
    text_append_slice(story, payload);
}

static void run(const uint8_t *bytes, size_t size, size_t step, struct text *story)
{
    struct websocket_parser parser = {0};
    bool failed = false;
    for (size_t at = 0; at < size && !failed;) {
        size_t part = size - at < step ? size - at : step;
        uint8_t *piece = malloc(part); /* of the exact size, so that an over-read is seen */
        memcpy(piece, bytes + at, part);
        at += part;
        for (size_t offset = 0;;) {
            struct slice payload = {0};
            struct websocket_failure failure;
            size_t consumed;
            enum websocket_result result = websocket_parser_next(
                &parser, piece + offset, part - offset, MESSAGE_MAX, &consumed, &payload, &failure);
            check(consumed <= part - offset, "consumed more than there was");
            offset += consumed;
            if (result == WEBSOCKET_MORE) {
                check(offset == part, "left input behind");
                break;
            }
            if (result == WEBSOCKET_FAILED) {
                payload = slice_from_string(failure.reason);
                check(payload.length <= 123, "a reason that fits no close frame");
                check(websocket_close_code_valid(failure.code), "a code that may not be sent");
                failed = true;
            }
            if (result == WEBSOCKET_TEXT_MESSAGE) {
                check(payload.length <= MESSAGE_MAX, "message above the limit");
                check(utf8_is_valid(payload), "text that is not UTF-8");
            }
            if (result == WEBSOCKET_PING_FRAME || result == WEBSOCKET_PONG_FRAME ||
                result == WEBSOCKET_CLOSE_FRAME)
                check(payload.length <= WEBSOCKET_CONTROL_MAX, "control frame above its limit");
            note(story, result, payload);
            if (failed)
                break;
        }
        free(piece);
        websocket_parser_tidy(&parser);
        check(websocket_parser_held(&parser) < 4096, "holds more than a message and a control frame");
    }
    websocket_parser_free(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct text whole, cut;
    if (size < 1)
        return 0;
    size_t step = bytes[0] % 17 + 1u;
    text_clear(&whole);
    text_clear(&cut);
    text_append(&whole, "", 0);
    text_append(&cut, "", 0);
    run(bytes + 1, size - 1, size, &whole);
    run(bytes + 1, size - 1, step, &cut);
    check(whole.length == cut.length && memcmp(whole.data, cut.data, whole.length) == 0,
        "the cut changes the outcome");
    return 0;
}
