/* The codec, row by row as the reference behaves. Every input ends at a page that can't be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broadcast/backend/notification.h"

static struct notification_decoder *decoder;
static struct notification decoded;
static const char *reason;
static char *page_end; /* first byte that can't be read */
static size_t room;

static int set_up(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    (void)state;
    room = 1024 * page;
    char *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    page_end = memory + room;
    assert_int_equal(mprotect(page_end, page, PROT_NONE), 0);
    decoder = notification_decoder_make(64);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    notification_decoder_free(decoder);
    munmap(page_end - room, room + (size_t)sysconf(_SC_PAGESIZE));
    return 0;
}

static int decode_bytes(const char *bytes, size_t length)
{
    assert_true(length <= room);
    memcpy(page_end - length, bytes, length);
    return notification_decode(decoder, (struct slice){page_end - length, length}, &decoded, &reason);
}

static int decode(const char *text)
{
    return decode_bytes(text, strlen(text));
}

static void expect_slice(struct slice slice, const char *expected)
{
    if (!slice_equals_string(slice, expected))
        fail_msg("'%.*s' instead of '%s'", (int)slice.length, slice.data, expected);
}

static void test_encode(void **state)
{
    static const struct {
        const char *topic, *data, *expected;
    } cases[] = {
        {"t", "{\"\\u00e9\": 1}",
            "{\"notifier_id\": \"id\", \"topics\": [\"t\"], \"data\": {\"\\u00e9\": 1}}"},
        {"\xc3\xa9\"\\/\n\x7f\x01", "1", /* escaped as Python's json does */
            "{\"notifier_id\": \"id\", \"topics\": [\"\\u00e9\\\"\\\\/\\n\\u007f\\u0001\"], \"data\": 1}"},
        {"\xf0\x9f\x98\x80", "\"\xc3\xa9\"",
            "{\"notifier_id\": \"id\", \"topics\": [\"\\ud83d\\ude00\"], \"data\": \"\xc3\xa9\"}"},
        {"", "{\"b\":9007199254740993,\"a\":1.0,\"b\":1e400}",
            "{\"notifier_id\": \"id\", \"topics\": [\"\"], \"data\": "
            "{\"b\":9007199254740993,\"a\":1.0,\"b\":1e400}}"},
        {"t", "null", "{\"notifier_id\": \"id\", \"topics\": [\"t\"], \"data\": null}"},
        {"t", NULL, "{\"notifier_id\": \"id\", \"topics\": [\"t\"], \"data\": null}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        notification_encode(
            &out, SLICE_LITERAL("id"), slice_from_string(cases[i].topic), slice_from_string(cases[i].data));
        assert_string_equal(out.data, cases[i].expected);
        text_free(&out);
    }
}

static void test_accepted(void **state)
{
    static const struct {
        const char *text, *notifier, *topics, *data; /* topics joined by '|' */
    } cases[] = {
        {"{\"notifier_id\": \"n\", \"topics\": [\"t\"], \"data\": {\"k\": 1}}", "n", "t", "{\"k\": 1}"},
        {"{\"notifier_id\":\"ext\",\"topics\":[\"t\"]}", "ext", "t", "null"},
        {"{\"notifier_id\":\"ext\",\"topics\":[\"t\"],\"data\":null}", "ext", "t", "null"},
        {" \t\n{\"data\" : [ 1 , 2 ] "
         ",\"x\":{\"topics\":5},\"topics\":[\"a\",\"b\"],\"notifier_id\":\"n\"}\r ",
            "n", "a|b", "[ 1 , 2 ]"},
        {"{\"notifier_id\":5,\"topics\":[\"t\"]}", "5", "t", "null"},
        {"{\"notifier_id\":\"\",\"topics\":[\"t\"]}", "", "t", "null"},
        {"{\"notifier_id\":5.0,\"topics\":[\"t\"]}", "5.0", "t", "null"},
        {"{\"notifier_id\":1e2,\"topics\":[\"t\"]}", "100.0", "t", "null"},
        {"{\"notifier_id\":true,\"topics\":[false]}", "True", "False", "null"},
        {"{\"notifier_id\":\"x\",\"topics\":[]}", "x", "", "null"},
        {"{\"notifier_id\":\"x\",\"topics\":[1,2.5,1e3,\"s\"]}", "x", "1|2.5|1000.0|s", "null"},
        {"{\"notifier_id\":NaN,\"topics\":[NaN,-Infinity,Infinity,-0,-0.0,1.10,1E400,-1e400]}", "nan",
            "nan|-inf|inf|0|-0.0|1.1|inf|-inf", "null"},
        {"{\"notifier_id\":\"x\",\"topics\":[123456789012345678901234567890,1e15,1e16,123456789012345680.0,0."
         "0001,0.00001,"
         "1.5e-7,1e22,5e-324,1.7976931348623157e308,0.1,100.25]}",
            "x",
            "123456789012345678901234567890|1000000000000000.0|1e+16|1.2345678901234568e+17|0.0001|1e-05|1."
            "5e-07|1e+22|"
            "5e-324|1.7976931348623157e+308|0.1|100.25",
            "null"},
        {"{\"notifier_id\":\"a\",\"notifier_id\":\"b\",\"topics\":5,\"topics\":[\"u\"],\"data\":1,\"data\":"
         "2}",
            "b", "u", "2"},
        {"{\"notifier_id\":\"\\u0061\\n\",\"topics\":[\"\\u00e9\",\"p\",\"\\ud83d\\ude00\"]}", "a\n",
            "\xc3\xa9|p|\xf0\x9f\x98\x80", "null"},
        {"{\"notifier_id\":\"\xc3\xa9\",\"topics\":[\"\xf0\x9f\x98\x80\"],\"data\":\"\xc3\xa9\"}", "\xc3\xa9",
            "\xf0\x9f\x98\x80", "\"\xc3\xa9\""},
        {"{\"notifier_id\":\"x\",\"topics\":[\"__EventNotifier_ALL_TOPICS__\"]}", "x",
            "__EventNotifier_ALL_TOPICS__", "null"},
        {"{\"notifi\\u0065r_id\":\"x\",\"topics\":[\"t\"]}", "x", "t", "null"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"t\"],\"data\":{\"a\":9007199254740993,\"a\":1.0,\"b\":1e400,"
         "\"c\":NaN}}",
            "x", "t", "{\"a\":9007199254740993,\"a\":1.0,\"b\":1e400,\"c\":NaN}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text topics = {0};
        if (decode(cases[i].text) != 0)
            fail_msg("%s: %s", cases[i].text, reason);
        expect_slice(decoded.notifier_id, cases[i].notifier);
        expect_slice(decoded.data, cases[i].data);
        for (uint32_t t = 0; t < decoded.topic_count; t++) {
            if (t)
                text_append_char(&topics, '|');
            text_append_slice(&topics, decoded.topics[t]);
        }
        expect_slice((struct slice){topics.data ? topics.data : "", topics.length}, cases[i].topics);
        text_free(&topics);
    }
}

static void test_rejected(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "Expecting value"},
        {"not json", "Expecting value"},
        {"{", NULL},
        {"[1]", "not a JSON object"},
        {"[]", "not a JSON object"},
        {"5", "not a JSON object"},
        {"null", "not a JSON object"},
        {"\"x\"", "not a JSON object"},
        {"{}", "notifier_id is missing"},
        {"{\"topics\":[\"t\"]}", "notifier_id is missing"},
        {"{\"notifier_id\":null,\"topics\":[\"t\"]}", "notifier_id is not a string"},
        {"{\"notifier_id\":[],\"topics\":[\"t\"]}", "notifier_id is not a string"},
        {"{\"notifier_id\":{},\"topics\":[\"t\"]}", "notifier_id is not a string"},
        {"{\"notifier_id\":\"x\"}", "topics is missing"},
        {"{\"notifier_id\":\"x\",\"topics\":null}", "topics is not an array"},
        {"{\"notifier_id\":\"x\",\"topics\":\"t\"}", "topics is not an array"},
        {"{\"notifier_id\":\"x\",\"topics\":{\"a\":1}}", "topics is not an array"},
        {"{\"notifier_id\":\"x\",\"topics\":5}", "topics is not an array"},
        {"{\"notifier_id\":\"x\",\"topics\":[null]}", "a topic is not a string"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"a\",[\"b\"]]}", "a topic is not a string"},
        {"{\"notifier_id\":\"x\",\"topics\":[{}]}", "a topic is not a string"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"t\"]} x", "Extra data"},
        {"\xef\xbb\xbf{\"notifier_id\":\"x\",\"topics\":[\"t\"]}", NULL},
        {"{\"notifier_id\":\"x\",\"topics\":[\"\xff\"]}", "not valid UTF-8"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"t\"],\"data\":\"\xed\xa0\x80\"}", "not valid UTF-8"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"t\"],\"data\":{\"a\":}}", "Expecting value"},
        {"{\"notifier_id\":\"x\",\"topics\":[\"t\"],\"data\":01}", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (decode(cases[i].text) != -1)
            fail_msg("accepted: %s", cases[i].text);
        assert_non_null(reason);
        if (cases[i].reason)
            assert_string_equal(reason, cases[i].reason);
    }
    /* the decoder is none the worse for it */
    assert_int_equal(decode("{\"notifier_id\":\"x\",\"topics\":[\"t\"]}"), 0);
}

static void test_limits(void **state)
{
    struct text text = {0};
    (void)state;
    /* topics: 1024, and one more */
    for (unsigned count = NOTIFICATION_TOPICS_MAX; count <= NOTIFICATION_TOPICS_MAX + 1; count++) {
        text_clear(&text);
        text_append_string(&text, "{\"notifier_id\":\"x\",\"topics\":[");
        for (unsigned i = 0; i < count; i++)
            text_append_format(&text, "%s\"\\u0074%u\"", i ? "," : "", i);
        text_append_string(&text, "]}");
        assert_int_equal(decode_bytes(text.data, text.length), count > NOTIFICATION_TOPICS_MAX ? -1 : 0);
        if (count == NOTIFICATION_TOPICS_MAX) {
            assert_int_equal(decoded.topic_count, count);
            expect_slice(decoded.topics[0], "t0");
            expect_slice(decoded.topics[1023], "t1023");
        } else {
            assert_string_equal(reason, "too many topics");
        }
    }
    /* depth: 64 for the data, as at a door; the object around it is not counted */
    for (unsigned depth = 64; depth <= 65; depth++) {
        text_clear(&text);
        text_append_string(&text, "{\"notifier_id\":\"x\",\"topics\":[],\"data\":");
        for (unsigned i = 0; i < depth; i++)
            text_append_char(&text, '[');
        for (unsigned i = 0; i < depth; i++)
            text_append_char(&text, ']');
        text_append_char(&text, '}');
        assert_int_equal(decode_bytes(text.data, text.length), depth == 64 ? 0 : -1);
    }
    assert_string_equal(reason, "JSON is nested too deeply");
    /* a million values */
    text_clear(&text);
    text_append_string(&text, "{\"notifier_id\":\"x\",\"topics\":[\"t\"],\"data\":[0");
    for (unsigned i = 0; i < 1200000; i++)
        text_append_string(&text, ",1");
    text_append_string(&text, "]}");
    assert_int_equal(decode_bytes(text.data, text.length), 0);
    assert_int_equal(decoded.data.length, 2 * 1200000 + 3);
    expect_slice(decoded.topics[0], "t");
    text_free(&text);
}

/* Every beginning of a message is refused without reading past it. */
static void test_prefixes(void **state)
{
    static const char whole[] = "{\"notifier_id\": \"\\u00e9n\", \"topics\": [\"t\", 1.5e3, "
                                "\"\xf0\x9f\x98\x80\"], \"data\": {\"a\": [true, null, "
                                "-1.5E-3, \"\\ud83d\\ude00\"]}}";
    (void)state;
    for (size_t length = 0; length < sizeof whole - 1; length++)
        assert_int_equal(decode_bytes(whole, length), -1);
    assert_int_equal(decode_bytes(whole, sizeof whole - 1), 0);
    expect_slice(decoded.notifier_id, "\xc3\xa9n");
    expect_slice(decoded.topics[1], "1500.0");
}

static void test_round_trip(void **state)
{
    static const char *const topics[] = {
        "t", "", "a b", "policy_data/users", "\xc3\xa9\xf0\x9f\x98\x80", "\"\\\b\f\n\r\t\x1f\x7f"};
    (void)state;
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        struct text out = {0};
        notification_encode(&out, SLICE_LITERAL("0123456789abcdef0123456789abcdef"),
            slice_from_string(topics[i]), SLICE_LITERAL("[1.0, {\"x\": 12345678901234567890}]"));
        assert_int_equal(decode_bytes(out.data, out.length), 0);
        expect_slice(decoded.notifier_id, "0123456789abcdef0123456789abcdef");
        assert_int_equal(decoded.topic_count, 1);
        expect_slice(decoded.topics[0], topics[i]);
        expect_slice(decoded.data, "[1.0, {\"x\": 12345678901234567890}]");
        text_free(&out);
    }
}

/* Another opald's call for a resync: to nobody for the reference, a reason for us; in a message with topics
 * the key means nothing. */
static void test_resync(void **state)
{
    static const char *const plain[] = {
        "{\"notifier_id\": \"a\", \"topics\": []}",
        "{\"notifier_id\": \"a\", \"topics\": [], \"opald_resync\": null}",
        "{\"notifier_id\": \"a\", \"topics\": [], \"opald_resync\": {\"x\": 1}}",
        "{\"notifier_id\": \"a\", \"topics\": [\"t\"], \"opald_resync\": \"why\"}",
    };
    struct text out = {0};
    (void)state;
    notification_encode_resync(&out, SLICE_LITERAL("abc"), SLICE_LITERAL("7 events \"lost\" \xc3\xa9"));
    assert_string_equal(out.data,
        "{\"notifier_id\": \"abc\", \"topics\": [], \"data\": null, \"opald_resync\": "
        "\"7 events \\\"lost\\\" \\u00e9\"}");
    assert_int_equal(decode_bytes(out.data, out.length), 0);
    assert_int_equal(decoded.topic_count, 0);
    expect_slice(decoded.notifier_id, "abc");
    expect_slice(decoded.resync, "7 events \"lost\" \xc3\xa9");
    text_free(&out);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        assert_int_equal(decode_bytes(plain[i], strlen(plain[i])), 0);
        assert_null(decoded.resync.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_resync),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
