/* The topics argument: each cell of the table in rpc_topics.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "worker/rpc/rpc_topics.h"

static const struct event_limits limits = {
    .topics_max = 4, .topic_max_bytes = 40, .purge_channel = "__opal_scope_purge__"};

/* "true a,b", "violation" or "false" */
static void check(enum rpc_topics_use use, const char *json, const char *expected)
{
    struct json_document document = {0};
    struct rpc_topics topics = {0};
    struct text got = {0};
    uint32_t token = JSON_ABSENT;
    if (json) {
        assert_int_equal(json_parse(&document, json, strlen(json), 20, 1000), JSON_OK);
        token = 0;
    }
    switch (rpc_topics_read(&topics, &document, token, use, &limits)) {
    case RPC_TOPICS_VIOLATION:
        text_append_string(&got, "violation");
        break;
    case RPC_TOPICS_REFUSED:
        text_append_string(&got, "false");
        assert_non_null(topics.reason);
        break;
    case RPC_TOPICS_GOOD:
        text_append_string(&got, "true ");
        for (size_t i = 0; i < topics.count; i++) {
            text_append_slice(&got, topics.items[i]);
            text_append_char(&got, ',');
        }
        break;
    }
    if (strcmp(got.data, expected) != 0)
        fail_msg("%d %s: got <%s>, wanted <%s>", (int)use, json ? json : "(missing)", got.data, expected);
    text_free(&got);
    rpc_topics_free(&topics);
    json_free(&document);
}

static void test_table(void **state)
{
    (void)state;
    static const struct {
        const char *json, *subscribe, *unsubscribe, *publish;
    } rows[] = {
        {NULL, "true ", "true ", "true "},
        {"[]", "true ", "true ", "true "},
        {"[\"a\"]", "true a,", "true a,", "true a,"},
        {"[\"a\",\"a\"]", "true a,a,", "true a,a,", "true a,a,"},
        {"[\"\"]", "true ,", "true ,", "true ,"},
        {"\"str\"", "true s,t,r,", "violation", "true str,"},
        {"\"\"", "true ", "violation", "true ,"},
        {"\"\xc3\xa9\xf0\x9f\x98\x80z\"", "true \xc3\xa9,\xf0\x9f\x98\x80,z,", "violation",
            "true \xc3\xa9\xf0\x9f\x98\x80z,"},
        {"{}", "violation", "violation", "true "},
        {"{\"a\":1,\"b\":[2]}", "false", "violation", "true a,b,"},
        {"null", "violation", "violation", "violation"},
        {"5", "violation", "violation", "violation"},
        {"true", "violation", "violation", "violation"},
        {"[null]", "violation", "true ", "true "},
        {"[\"a\",null]", "violation", "true a,", "true a,"},
        {"[1,true,2.5]", "true ", "true ", "true "},
        {"[\"a\",1]", "true a,", "true a,", "true a,"},
        {"[[\"x\"]]", "violation", "violation", "violation"},
        {"[{}]", "violation", "violation", "violation"},
        {"[\"a\\u00e9\\n\"]", "true a\xc3\xa9\n,", "true a\xc3\xa9\n,", "true a\xc3\xa9\n,"},
        {"[\"__EventNotifier_ALL_TOPICS__\"]", "false", "true __EventNotifier_ALL_TOPICS__,", "false"},
        {"[\"a\",\"__opal_scope_purge__\"]", "false", "true a,__opal_scope_purge__,", "false"},
        {"[\"__opal_scope_purge__\",[]]", "violation", "violation", "violation"},
        {"[\"a\",\"b\",\"c\",\"d\",\"e\"]", "false", "false", "false"},
        {"\"abcde\"", "false", "violation", "true abcde,"},
        {"[\"01234567890123456789012345678901234567890\"]", "false",
            "true 01234567890123456789012345678901234567890,", "false"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check(RPC_TOPICS_SUBSCRIBE, rows[i].json, rows[i].subscribe);
        check(RPC_TOPICS_UNSUBSCRIBE, rows[i].json, rows[i].unsubscribe);
        check(RPC_TOPICS_PUBLISH, rows[i].json, rows[i].publish);
    }
    check(RPC_TOPICS_PUBLISH, "\"__EventNotifier_ALL_TOPICS__\"", "false");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};
    return cmocka_run_group_tests_name("rpc_topics", tests, NULL, NULL);
}
