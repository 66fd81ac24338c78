/* The frame parser: every refusal, every way to cut the input, input that ends at a forbidden page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/shm/common/guard_page.h"
#include "tests/unit/shm/common/random_seed.h"
#include "worker/websocket/websocket_frame.h"

#define LIMIT 1000
#define FINAL 0x80

/* Appends one masked frame. `declared` beyond the payload's length makes a head that promises more. */
static size_t frame_put(uint8_t *out, uint8_t first, const void *payload, size_t length, uint64_t declared)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t at = websocket_header_write(header, WEBSOCKET_TEXT, declared);
    memcpy(out, header, at);
    out[0] = first;
    out[1] |= 0x80;
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < length; i++)
        out[at + i] = (uint8_t)(((const uint8_t *)payload)[i] ^ mask[i & 3]);
    return at + length;
}

static size_t frame_text(uint8_t *out, uint8_t first, const char *payload)
{
    return frame_put(out, first, payload, strlen(payload), strlen(payload));
}

/* Feeds the input in pieces of `step` bytes, each at a guard page; writes what came out as one line a
 * result. */
static void feed(const uint8_t *input, size_t length, size_t step, char *log, size_t log_size)
{
    struct websocket_parser parser = {0};
    size_t used = 0;
    log[0] = '\0';
    for (size_t at = 0; at < length;) {
        size_t part = length - at < step ? length - at : step;
        struct guarded piece = guarded_copy(input + at, part);
        at += part;
        size_t offset = 0;
        bool more = true;
        while (more) {
            size_t consumed;
            struct slice payload = {0};
            struct websocket_failure failure;
            enum websocket_result result = websocket_parser_next(
                &parser, piece.bytes + offset, part - offset, LIMIT, &consumed, &payload, &failure);
            offset += consumed;
            more = result != WEBSOCKET_MORE;
            static const char *const names[] = {"", "text", "binary", "ping", "pong", "close"};
            if (result == WEBSOCKET_FAILED) {
                used += (size_t)snprintf(
                    log + used, log_size - used, "failed %u %s\n", failure.code, failure.reason);
                guarded_free(&piece);
                websocket_parser_free(&parser);
                return;
            }
            if (more)
                used += (size_t)snprintf(log + used, log_size - used, "%s %.*s\n", names[result],
                    (int)payload.length, payload.data ? payload.data : "");
        }
        assert_int_equal(offset, part);
        guarded_free(&piece);
    }
    websocket_parser_tidy(&parser);
    if (!parser.in_payload && parser.message_opcode == 0)
        assert_int_equal(websocket_parser_held(&parser), 0);
    websocket_parser_free(&parser);
}

/* Whatever the cut, the outcome must be the same. */
static void expect(const uint8_t *input, size_t length, const char *expected)
{
    char log[8192];
    for (size_t step = 1; step <= length; step++) {
        feed(input, length, step, log, sizeof(log));
        if (strcmp(log, expected) != 0)
            fail_msg("step %zu: got <%s> instead of <%s>", step, log, expected);
    }
}

static void expect_one(uint8_t first, const char *payload, const char *expected)
{
    uint8_t bytes[1024];
    expect(bytes, frame_text(bytes, first, payload), expected);
}

static void test_messages(void **state)
{
    (void)state;
    expect_one(FINAL | 1, "hello", "text hello\n");
    expect_one(FINAL | 1, "", "text \n");
    expect_one(FINAL | 2, "x", "binary \n");
    expect_one(FINAL | 2, "", "binary \n");
    expect_one(FINAL | 9, "hi", "ping hi\n");
    expect_one(FINAL | 9, "", "ping \n");
    expect_one(FINAL | 10, "ab", "pong ab\n");
    expect_one(
        FINAL | 1, "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "text gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\n");
}

static void test_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = {124, 125, 126, 127, 128, 255, 256, 999, 1000};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t bytes[1100];
        char payload[1001] = {0}, expected[1100];
        memset(payload, 'a', lengths[i]);
        snprintf(expected, sizeof(expected), "text %s\n", payload);
        size_t length = frame_text(bytes, FINAL | 1, payload);
        char log[2048];
        for (size_t step = 1; step <= 20; step++) {
            feed(bytes, length, step, log, sizeof(log));
            assert_string_equal(log, expected);
        }
        feed(bytes, length, length, log, sizeof(log));
        assert_string_equal(log, expected);
    }
}

static void test_fragments(void **state)
{
    (void)state;
    uint8_t bytes[512];
    size_t length = frame_text(bytes, 1, "ab\xc3");
    length += frame_text(bytes + length, FINAL | 9, "p");
    length += frame_text(bytes + length, 0, "\xbc");
    length += frame_text(bytes + length, 0, "");
    length += frame_text(bytes + length, FINAL | 10, "q");
    length += frame_text(bytes + length, FINAL, "cd");
    length += frame_text(bytes + length, FINAL | 1, "next");
    expect(bytes, length,
        "ping p\npong q\ntext ab\xc3\xbc"
        "cd\ntext next\n");

    length = frame_text(bytes, 1, "");
    length += frame_text(bytes + length, FINAL, "");
    expect(bytes, length, "text \n");
    length = frame_text(bytes, 2, "x");
    length += frame_text(bytes + length, FINAL, "\xff");
    expect(bytes, length, "binary \n");
}

static void test_protocol_errors(void **state)
{
    (void)state;
    uint8_t bytes[512];
    for (uint8_t opcode = 0; opcode < 16; opcode++)
        if ((opcode > 2 && opcode < 8) || opcode > 10)
            expect_one(FINAL | opcode, "x", "failed 1002 invalid opcode\n");
    for (unsigned bit = 0x10; bit <= 0x40; bit <<= 1)
        expect_one((uint8_t)(FINAL | bit | 1), "x", "failed 1002 reserved bits must be 0\n");
    expect_one(FINAL, "x", "failed 1002 unexpected continuation frame\n");
    expect_one(9, "x", "failed 1002 fragmented control frame\n");
    expect_one(8, "", "failed 1002 fragmented control frame\n");

    char big[127] = {0};
    memset(big, 'a', 126);
    expect_one(FINAL | 9, big, "failed 1002 control frame too long\n");

    size_t length = frame_text(bytes, 1, "a");
    length += frame_text(bytes + length, FINAL | 1, "b");
    expect(bytes, length, "failed 1002 expected a continuation frame\n");
    length = frame_text(bytes, 1, "a");
    length += frame_text(bytes + length, FINAL | 8, "\x03\xe8");
    expect(bytes, length, "failed 1002 incomplete fragmented message\n");

    length = frame_text(bytes, FINAL | 1, "unmasked");
    bytes[1] &= 0x7f;
    expect(bytes, length, "failed 1002 incorrect masking\n");
}

static void test_limits(void **state)
{
    (void)state;
    uint8_t bytes[1200];
    char payload[1000] = {0};
    memset(payload, 'a', 999);
    expect(bytes, frame_put(bytes, FINAL | 1, "", 0, LIMIT + 1),
        "failed 1009 frame with 1001 bytes exceeds limit of 1000 bytes\n");
    expect(bytes, frame_put(bytes, FINAL | 1, "", 0, UINT64_C(1) << 63),
        "failed 1009 frame with 9223372036854775808 bytes exceeds limit of 1000 bytes\n");
    expect(bytes, frame_put(bytes, FINAL | 1, "", 0, UINT64_MAX),
        "failed 1009 frame with 18446744073709551615 bytes exceeds limit of 1000 bytes\n");
    size_t length = frame_text(bytes, 1, payload);
    length += frame_put(bytes + length, FINAL, "", 0, 2);
    char log[4096];
    for (size_t step = 1; step <= length; step += 7) {
        feed(bytes, length, step, log, sizeof(log));
        assert_string_equal(
            log, "failed 1009 frame with 2 bytes after reading 999 bytes exceeds limit of 1000 bytes\n");
    }
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff", "a\x80", "\xc0\xaf", "\xc1\x81", "\xe0\x80\xaf", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3(", "\xe2(\xa1", "\xf0(\x8c\xbc",
        "12345678\xff"};
    static const char *const good[] = {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9 2345678"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_one(FINAL | 1, bad[i], "failed 1007 \n");
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char expected[64];
        snprintf(expected, sizeof(expected), "text %s\n", good[i]);
        expect_one(FINAL | 1, good[i], expected);
    }
    /* refused at the first bad byte, before the message is complete */
    uint8_t bytes[64];
    expect(bytes, frame_text(bytes, 1, "{\xff"), "failed 1007 \n");
}

static void test_close_frames(void **state)
{
    (void)state;
    static const struct {
        uint16_t code;
        bool valid;
    } codes[] = {{0, 0}, {999, 0}, {1000, 1}, {1001, 1}, {1002, 1}, {1003, 1}, {1004, 0}, {1005, 0},
        {1006, 0}, {1007, 1}, {1011, 1}, {1012, 1}, {1013, 1}, {1014, 1}, {1015, 0}, {1016, 0}, {2999, 0},
        {3000, 1}, {4999, 1}, {5000, 0}, {65535, 0}};
    uint8_t bytes[256];
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        uint8_t payload[4] = {(uint8_t)(codes[i].code >> 8), (uint8_t)codes[i].code, 'o', 'k'};
        char log[256];
        size_t length = frame_put(bytes, FINAL | 8, payload, 4, 4);
        for (size_t step = 1; step <= length; step++) {
            feed(bytes, length, step, log, sizeof(log));
            if (codes[i].valid)
                assert_memory_equal(log, "close ", 6);
            else
                assert_string_equal(log, "failed 1002 invalid status code\n");
        }
    }
    expect_one(FINAL | 8, "", "close \n");
    expect_one(FINAL | 8, "\x03", "failed 1002 close frame too short\n");
    expect_one(FINAL | 8,
        "\x03\xe8"
        "ab\xff",
        "failed 1007 invalid start byte at position 2\n");
    expect_one(FINAL | 8, "\x03\xe8\xe2(", "failed 1007 invalid continuation byte at position 0\n");
    expect_one(FINAL | 8,
        "\x03\xe8"
        "a\xe2\x82",
        "failed 1007 unexpected end of data at position 1\n");
}

static void test_writing(void **state)
{
    (void)state;
    uint8_t out[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    assert_int_equal(websocket_header_write(out, WEBSOCKET_TEXT, 125), 2);
    assert_memory_equal(out, "\x81\x7d", 2);
    assert_int_equal(websocket_header_write(out, WEBSOCKET_TEXT, 126), 4);
    assert_memory_equal(out, "\x81\x7e\x00\x7e", 4);
    assert_int_equal(websocket_header_write(out, WEBSOCKET_TEXT, 65535), 4);
    assert_memory_equal(out, "\x81\x7e\xff\xff", 4);
    assert_int_equal(websocket_header_write(out, WEBSOCKET_TEXT, 65536), 10);
    assert_memory_equal(out, "\x81\x7f\0\0\0\0\0\1\0\0", 10);
    assert_int_equal(websocket_close_write(out, 0, "x"), 2);
    assert_memory_equal(out, "\x88\x00", 2);
    assert_int_equal(websocket_close_write(out, 1012, ""), 4);
    assert_memory_equal(out, "\x88\x02\x03\xf4", 4);
    assert_int_equal(websocket_close_write(out, 1013, "client too slow"), 19);
    assert_memory_equal(out,
        "\x88\x11\x03\xf5"
        "client too slow",
        19);
    char reason[200];
    memset(reason, 'r', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    assert_int_equal(websocket_close_write(out, 1011, reason), 2 + WEBSOCKET_CONTROL_MAX);
}

/* Random valid streams with random cuts against the whole: the same outcome. */
static void test_random_cuts(void **state)
{
    (void)state;
    srandom(random_seed(7));
    for (int round = 0; round < 300; round++) {
        uint8_t bytes[4096];
        size_t length = 0;
        bool inside = false;
        for (int frames = 0; frames < 12; frames++) {
            char payload[64] = {0};
            size_t size = (size_t)random() % 60;
            for (size_t i = 0; i < size; i++)
                payload[i] = (char)('a' + random() % 26);
            bool control = random() % 4 == 0;
            bool final = random() % 2 == 0;
            uint8_t opcode = control ? 9 : inside ? 0 : 1;
            length += frame_text(bytes + length, (uint8_t)((control || final ? FINAL : 0) | opcode), payload);
            if (!control)
                inside = !final;
        }
        char whole[8192], cut[8192];
        feed(bytes, length, length, whole, sizeof(whole));
        feed(bytes, length, 1 + (size_t)random() % 30, cut, sizeof(cut));
        assert_string_equal(whole, cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_protocol_errors),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_close_frames),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_random_cuts),
    };
    return cmocka_run_group_tests_name("websocket_frame", tests, NULL, NULL);
}
