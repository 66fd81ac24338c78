/* The arguments of a call, and Python's bool() of a JSON value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "worker/rpc/rpc_arguments.h"

#define TOPICS (1u << RPC_ARGUMENT_TOPICS)
#define DATA   (1u << RPC_ARGUMENT_DATA)

/* "refused", or the JSON of topics and data, "-" where there is none */
static void check(const char *arguments_json, unsigned allowed, const char *expected)
{
    struct rpc_message message = {0};
    struct rpc_arguments arguments;
    struct text call = {0}, got = {0};
    text_append_format(&call, "{\"request\": {\"method\": \"x\"%s%s}}",
        arguments_json ? ", \"arguments\": " : "", arguments_json ? arguments_json : "");
    assert_int_equal(rpc_message_parse(&message, text_slice(&call), 20, 1000), RPC_REQUEST);
    if (!rpc_arguments_read(&arguments, &message, allowed)) {
        text_append_string(&got, "refused");
    } else {
        static const enum rpc_argument shown[] = {RPC_ARGUMENT_TOPICS, RPC_ARGUMENT_DATA};
        for (size_t i = 0; i < 2; i++) {
            uint32_t token = arguments.tokens[shown[i]];
            text_append_string(&got, i ? " " : "");
            if (token == JSON_ABSENT)
                text_append_char(&got, '-');
            else
                text_append_slice(&got, json_raw(&message.document, token));
        }
    }
    if (!slice_equals_string(text_slice(&got), expected))
        fail_msg("%s: got <%.*s>, wanted <%s>", arguments_json ? arguments_json : "(missing)",
            (int)got.length, got.data, expected);
    text_free(&call);
    text_free(&got);
    rpc_message_free(&message);
}

static void test_arguments(void **state)
{
    static const struct {
        const char *json;
        unsigned allowed;
        const char *expected;
    } rows[] = {
        {NULL, 0, "- -"},
        {"{}", 0, "- -"},
        {"[]", 0, "- -"},
        {"\"\"", 0, "- -"},
        {"null", 0, "refused"},
        {"{\"topics\":[1]}", TOPICS, "[1] -"},
        {"{\"topics\":[1]}", DATA, "refused"},
        {"{\"topics\":1,\"data\":2}", TOPICS | DATA, "1 2"},
        {"[[\"topics\",1],[\"data\",2]]", TOPICS | DATA, "1 2"},
        {"{\"topics\":1,\"topics\":2}", TOPICS, "2 -"},
        {"{\"other\":1}", TOPICS | DATA, "refused"},
        {"[\"ab\"]", TOPICS | DATA, "refused"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(rows[i].json, rows[i].allowed, rows[i].expected);
}

static void test_truthy(void **state)
{
    static const struct {
        const char *json;
        bool truthy;
    } rows[] = {
        {"null", false},
        {"false", false},
        {"true", true},
        {"\"\"", false},
        {"\"0\"", true},
        {"[]", false},
        {"[0]", true},
        {"{}", false},
        {"{\"a\":0}", true},
        {"0", false},
        {"-0.0", false},
        {"0e5", false},
        {"0.001", true},
        {"-1", true},
        {"NaN", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json_document document = {0};
        assert_int_equal(json_parse(&document, rows[i].json, strlen(rows[i].json), 20, 1000), JSON_OK);
        if (rpc_truthy(&document, 0) != rows[i].truthy)
            fail_msg("%s", rows[i].json);
        json_free(&document);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_truthy),
    };
    return cmocka_run_group_tests_name("rpc_arguments", tests, NULL, NULL);
}
