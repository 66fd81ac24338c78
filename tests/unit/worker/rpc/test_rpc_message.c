/* The envelope's leniency: each row was probed on the reference (spec: wire.md section 3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "worker/rpc/rpc_message.h"

static const struct {
    const char *text;
    enum rpc_verdict verdict;
    const char *method;
    /* NULL: the reply says null */
    const char *call_id;
} rows[] = {
    /* not JSON */
    {"", RPC_VIOLATION, NULL, NULL},
    {"{", RPC_VIOLATION, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\"}}x", RPC_VIOLATION, NULL, NULL},
    {"\xef\xbb\xbf{}", RPC_VIOLATION, NULL, NULL},
    {" {\"request\":{\"method\":\"ping\"}} ", RPC_REQUEST, "ping", NULL},
    /* nothing in it */
    {"{}", RPC_IGNORED, NULL, NULL},
    {"[]", RPC_IGNORED, NULL, NULL},
    {"\"\"", RPC_IGNORED, NULL, NULL},
    {"{\"request\":null}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":null,\"response\":null}", RPC_IGNORED, NULL, NULL},
    /* validation errors */
    {"5", RPC_IGNORED, NULL, NULL},
    {"true", RPC_IGNORED, NULL, NULL},
    {"null", RPC_IGNORED, NULL, NULL},
    {"NaN", RPC_IGNORED, NULL, NULL},
    {"\"x\"", RPC_IGNORED, NULL, NULL},
    {"\"ab\"", RPC_IGNORED, NULL, NULL},
    {"{\"request\":5}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":false}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":\"\"}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":null}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":[\"ping\"]}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":{}}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":[]}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":\"x\"}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":[1]}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":5}}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":false}}", RPC_IGNORED, NULL, NULL},
    /* calls */
    {"{\"request\":{\"method\":\"ping\"}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":null}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"call_id\":\"c\",\"method\":\"ping\"}}", RPC_REQUEST, "ping", "c"},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":null}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":\"\"}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":[]}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":[[1,2]]}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":\"ping\",\"arguments\":[\"ab\"]}}", RPC_REQUEST, "ping", NULL},
    {"{\"request\":{\"method\":5}}", RPC_REQUEST, "5", NULL},
    {"{\"request\":{\"method\":true}}", RPC_REQUEST, "True", NULL},
    {"{\"request\":{\"method\":\"p\\u0069ng\"}}", RPC_REQUEST, "ping", NULL},
    {"{\"req\\u0075est\":{\"method\":\"ping\"}}", RPC_REQUEST, "ping", NULL},
    {"{\"jsonrpc\":\"2.0\",\"request\":{\"method\":\"ping\",\"extra\":1,\"call_id\":\"e\"}}", RPC_REQUEST,
        "ping", "e"},
    {"{\"request\":{\"method\":\"ping\",\"method\":\"_x\"}}", RPC_REQUEST, "_x", NULL},
    {"{\"request\":null,\"request\":{\"method\":\"ping\"}}", RPC_REQUEST, "ping", NULL},
    /* lists of pairs */
    {"[[\"request\",{\"method\":\"ping\",\"call_id\":\"1\"}]]", RPC_REQUEST, "ping", "1"},
    {"[[\"request\",[[\"method\",\"ping\"],[\"call_id\",5]]]]", RPC_REQUEST, "ping", "5"},
    {"{\"request\":[[\"method\",\"a\"],[\"method\",\"ping\"]]}", RPC_REQUEST, "ping", NULL},
    {"[[\"request\"]]", RPC_IGNORED, NULL, NULL},
    {"[[\"a\",\"b\",\"c\"]]", RPC_IGNORED, NULL, NULL},
    {"[\"ab\"]", RPC_IGNORED, NULL, NULL},
    {"[\"abc\"]", RPC_IGNORED, NULL, NULL},
    {"[5]", RPC_IGNORED, NULL, NULL},
    {"[[[\"x\"],1]]", RPC_IGNORED, NULL, NULL},
    {"[[1,2]]", RPC_VIOLATION, NULL, NULL},
    {"{\"request\":[[1,2]]}", RPC_IGNORED, NULL, NULL},
    {"[{\"request\":1,\"x\":2}]", RPC_IGNORED, NULL, NULL},
    /* responses */
    {"{\"response\":{\"result\":1,\"call_id\":\"x\"}}", RPC_IGNORED, NULL, NULL},
    {"{\"response\":5}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":{}}", RPC_REQUEST, "ping", "1"},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":[]}", RPC_REQUEST, "ping", "1"},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":{\"result\":1}}", RPC_REQUEST, "ping",
        "1"},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":5}", RPC_IGNORED, NULL, NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":{\"call_id\":{}}}", RPC_IGNORED, NULL,
        NULL},
    {"{\"request\":{\"method\":\"ping\",\"call_id\":\"1\"},\"response\":{\"result_type\":[]}}", RPC_IGNORED,
        NULL, NULL},
};

static void test_leniency(void **state)
{
    (void)state;
    struct rpc_message message = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum rpc_verdict verdict = rpc_message_parse(&message, slice_from_string(rows[i].text), 512, 10000);
        if (verdict != rows[i].verdict)
            fail_msg("%s: verdict %d", rows[i].text, (int)verdict);
        if (verdict != RPC_REQUEST)
            continue;
        if (!slice_equals_string(text_slice(&message.method), rows[i].method))
            fail_msg("%s: method %s", rows[i].text, message.method.data);
        if (message.has_call_id != (rows[i].call_id != NULL))
            fail_msg("%s: call id", rows[i].text);
        if (rows[i].call_id)
            assert_true(slice_equals_string(text_slice(&message.call_id), rows[i].call_id));
    }
    rpc_message_free(&message);
}

static void test_depth_and_tokens(void **state)
{
    (void)state;
    struct rpc_message message = {0};
    struct text text = {0};
    text_append_string(&text, "{\"x\":");
    for (int i = 0; i < 100; i++)
        text_append_char(&text, '[');
    for (int i = 0; i < 100; i++)
        text_append_char(&text, ']');
    text_append_string(&text, ",\"request\":{\"method\":\"ping\"}}");
    assert_int_equal(rpc_message_parse(&message, text_slice(&text), 50, 10000), RPC_VIOLATION);
    assert_int_equal(rpc_message_parse(&message, text_slice(&text), 200, 10000), RPC_REQUEST);
    assert_int_equal(rpc_message_parse(&message, text_slice(&text), 200, 50), RPC_VIOLATION);
    text_free(&text);
    rpc_message_free(&message);
}

static void test_reply(void **state)
{
    (void)state;
    struct text out = {0};
    rpc_reply_write(&out, "\"pong\"", "str", true, SLICE_LITERAL("c1"));
    assert_string_equal(out.data, "{\"request\": null, \"response\": {\"result\": \"pong\", \"result_type\": "
                                  "\"str\", \"call_id\": \"c1\"}}");
    text_clear(&out);
    rpc_reply_write(&out, "true", "bool", false, (struct slice){0});
    assert_string_equal(out.data, "{\"request\": null, \"response\": {\"result\": true, \"result_type\": "
                                  "\"bool\", \"call_id\": null}}");
    text_clear(&out);
    rpc_reply_write(&out, "true", "bool", true, SLICE_LITERAL("\xc3\xa9\n\xf0\x9f\x98\x80\x7f/\"\\"));
    assert_non_null(strstr(out.data, "\"call_id\": \"\\u00e9\\n\\ud83d\\ude00\\u007f/\\\"\\\\\"}}"));
    text_free(&out);
}

static void test_mapping_walk(void **state)
{
    (void)state;
    struct json_document document = {0};
    static const char text[] = "[[\"a\",1],[\"b\",[2]],{\"c\":3,\"d\":4},\"xy\"]";
    assert_int_equal(json_parse(&document, text, sizeof(text) - 1, 10, 100), JSON_OK);
    uint32_t cursor = 0, key, value;
    assert_true(rpc_mapping_next(&document, 0, &cursor, &key, &value));
    assert_true(json_string_equals(&document, key, SLICE_LITERAL("a")));
    assert_true(slice_equals_string(json_raw(&document, value), "1"));
    assert_true(rpc_mapping_next(&document, 0, &cursor, &key, &value));
    assert_true(slice_equals_string(json_raw(&document, value), "[2]"));
    assert_true(
        rpc_mapping_next(&document, 0, &cursor, &key, &value)); /* iterating an object gives its keys */
    assert_true(json_string_equals(&document, key, SLICE_LITERAL("c")));
    assert_true(json_string_equals(&document, value, SLICE_LITERAL("d")));
    assert_true(rpc_mapping_next(&document, 0, &cursor, &key, &value));
    assert_int_equal(key, JSON_ABSENT);
    assert_false(rpc_mapping_next(&document, 0, &cursor, &key, &value));
    json_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leniency),
        cmocka_unit_test(test_depth_and_tokens),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_mapping_walk),
    };
    return cmocka_run_group_tests_name("rpc_message", tests, NULL, NULL);
}
