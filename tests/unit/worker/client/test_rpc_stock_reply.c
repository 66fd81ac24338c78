/* The stock reply is recognised as it comes, and skipping it tells the same story as parsing it: for replies
 * that are whole, cut at any byte, mutated, or in between other frames. */
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
#include "worker/rpc/rpc_message.h"
#include "worker/rpc/rpc_stock_reply.h"
#include "worker/websocket/websocket_frame.h"

#define LIMIT 500

static const char stock[] =
    "{\"request\": null, \"response\": {\"result\": \"None\", \"result_type\": \"str\", "
    "\"call_id\": \"0123456789abcdef0123456789abcdef\"}}";

static uint64_t seed;

static unsigned random_below(unsigned limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % limit;
}

static size_t frame_put(uint8_t *out, uint8_t first, const char *payload, size_t length)
{
    size_t at = websocket_header_write(out, WEBSOCKET_TEXT, length);
    out[0] = first;
    out[1] |= 0x80;
    uint8_t mask[4];
    for (size_t i = 0; i < sizeof(mask); i++)
        out[at + i] = mask[i] = (uint8_t)random_below(256);
    at += sizeof(mask);
    for (size_t i = 0; i < length; i++)
        out[at + i] = (uint8_t)payload[i] ^ mask[i & 3];
    return at + length;
}

static size_t stock_put(uint8_t *out)
{
    char text[sizeof(stock)];
    memcpy(text, stock, sizeof(stock));
    for (char *digit = strstr(text, "0123"); *digit != '"'; digit++)
        *digit = "0123456789abcdef"[random_below(16)];
    return frame_put(out, 0x81, text, sizeof(text) - 1);
}

/* What a connection would do with the input, as text. */
static void story(const uint8_t *input, size_t length, size_t cut, bool skip, char *log, size_t log_size)
{
    struct websocket_parser parser = {0};
    struct rpc_message message = {0};
    size_t used = 0;
    bool failed = false;
    log[0] = '\0';
    for (size_t at = 0; at < length && !failed;) {
        size_t part = at < cut ? cut - at : length - at;
        struct guarded piece = guarded_copy(input + at, part);
        uint8_t *bytes = piece.bytes;
        at += part;
        while (part > 0 && !failed) {
            size_t skipped =
                skip && websocket_parser_between_messages(&parser) ? rpc_stock_reply_skip(bytes, part) : 0;
            bytes += skipped;
            part -= skipped;
            if (part == 0)
                break;
            size_t consumed;
            struct slice payload = {0};
            struct websocket_failure failure;
            enum websocket_result result =
                websocket_parser_next(&parser, bytes, part, LIMIT, &consumed, &payload, &failure);
            bytes += consumed;
            part -= consumed;
            if (result == WEBSOCKET_FAILED) {
                used += (size_t)snprintf(log + used, log_size - used, "failed %u\n", failure.code);
                failed = true;
            } else if (result == WEBSOCKET_TEXT_MESSAGE) {
                enum rpc_verdict verdict = rpc_message_parse(&message, payload, 32, 1000);
                if (verdict != RPC_IGNORED)
                    used += (size_t)snprintf(log + used, log_size - used, "%s\n",
                        verdict == RPC_REQUEST ? message.method.data : "violation");
            } else if (result != WEBSOCKET_MORE) {
                used += (size_t)snprintf(log + used, log_size - used, "frame %d\n", (int)result);
            }
        }
        guarded_free(&piece);
    }
    /* the state in which the next input finds it */
    snprintf(log + used, log_size - used, "%d %u %u %llu", (int)parser.in_payload, parser.message_opcode,
        parser.header_length, (unsigned long long)parser.remaining);
    websocket_parser_free(&parser);
    rpc_message_free(&message);
}

static void expect_same(const uint8_t *input, size_t length, size_t cut)
{
    char plain[2048], quick[2048];
    story(input, length, cut, false, plain, sizeof(plain));
    story(input, length, cut, true, quick, sizeof(quick));
    if (strcmp(plain, quick) != 0)
        fail_msg("cut at %zu: <%s> became <%s>", cut, plain, quick);
}

static void test_text(void **state)
{
    (void)state;
    assert_true(rpc_is_stock_reply(slice_from_string(stock)));
    for (size_t length = 0; length < sizeof(stock) - 1; length++)
        assert_false(rpc_is_stock_reply((struct slice){stock, length}));
    for (size_t i = 0; i < sizeof(stock) - 1; i++) { /* one wrong byte anywhere, each wrong byte */
        bool digit = i >= 83 && i < 115;
        for (unsigned byte = 0; byte < 256; byte++) {
            char changed[sizeof(stock)];
            memcpy(changed, stock, sizeof(stock));
            changed[i] = (char)byte;
            bool good = digit ? byte != 0 && strchr("0123456789abcdef", (int)byte) != NULL
                              : byte == (uint8_t)stock[i];
            assert_int_equal(rpc_is_stock_reply((struct slice){changed, sizeof(stock) - 1}), good);
        }
    }
}

static void test_skip(void **state)
{
    (void)state;
    uint8_t input[4 * RPC_STOCK_REPLY_FRAME];
    size_t length = 0;
    for (unsigned i = 0; i < 4; i++)
        length += stock_put(input + length);
    assert_int_equal(length, sizeof(input));
    for (size_t part = 0; part <= length; part++) {
        struct guarded piece = guarded_copy(input, part);
        assert_int_equal(
            rpc_stock_reply_skip(piece.bytes, part), part / RPC_STOCK_REPLY_FRAME * RPC_STOCK_REPLY_FRAME);
        assert_memory_equal(piece.bytes, input, part);
        guarded_free(&piece);
    }
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    uint8_t input[4096];
    for (unsigned round = 0; round < 4; round++) {
        size_t length = 0;
        for (unsigned i = 0; i < 3; i++)
            length += stock_put(input + length);
        for (size_t cut = 0; cut <= length; cut++)
            expect_same(input, length, cut);
    }
}

/* Streams of replies and other frames, some with a few bytes changed. */
static void test_streams(void **state)
{
    (void)state;
    static const char request[] = "{\"request\": {\"method\": \"ping\", \"call_id\": \"1\"}}";
    uint8_t input[4096];
    for (unsigned round = 0; round < 20000; round++) {
        size_t length = 0;
        for (unsigned frames = 1 + random_below(5); frames > 0; frames--) {
            uint8_t *out = input + length;
            switch (random_below(8)) {
            case 0:
                length += frame_put(out, 0x81, request, sizeof(request) - 1);
                break;
            case 1:
                length += frame_put(out, 0x89, "beat", 4);
                break;
            case 2: { /* in two fragments: in `first` nothing is between messages */
                size_t first = random_below(sizeof(stock));
                length += frame_put(out, 0x01, stock, first);
                length += frame_put(input + length, 0x80, stock + first, sizeof(stock) - 1 - first);
                break;
            }
            case 3: /* a whole one, where a continuation is due */
                length += frame_put(out, 0x01, stock, 10);
                length += stock_put(input + length);
                break;
            default:
                length += stock_put(out);
            }
        }
        for (unsigned changes = random_below(3); changes > 0; changes--)
            input[random_below((unsigned)length)] ^= (uint8_t)(1u << random_below(8));
        expect_same(input, length, random_below((unsigned)length + 1));
    }
}

/* Each bit of one frame turned. */
static void test_mutations(void **state)
{
    (void)state;
    uint8_t input[2 * RPC_STOCK_REPLY_FRAME];
    size_t length = stock_put(input);
    length += stock_put(input + length);
    for (size_t bit = 0; bit < 8 * RPC_STOCK_REPLY_FRAME; bit++) {
        input[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_same(input, length, 0);
        expect_same(input, length, RPC_STOCK_REPLY_FRAME);
        input[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    /* xorshift stays at 0 */
    seed = random_seed(2463534242) | UINT64_C(1) << 63;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
