/*
 * OPAL_POLICY_REPO_WEBHOOK_PARAMS: what is taken, what is refused with which words, and which part of a
 * header is the secret.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/policy/webhook_params.h"

#define GOOD(more) \
    "{\"secret_header_name\":\"x-s\",\"secret_type\":\"token\",\"secret_parsing_regex\":\"(.*)\"," \
    "\"event_header_name\":\"x-e\",\"push_event_value\":\"push\"" more "}"

static struct webhook_params *load(const char *text)
{
    struct config config = {.policy_repo_webhook_params = text};
    struct error err = {0};
    struct webhook_params *params = webhook_params_load(&config, &err);
    if (!params)
        fail_msg("%s -> %s", text, err.text);
    return params;
}

static void test_taken(void **state)
{
    struct webhook_params *params = load(NULL);
    (void)state;
    assert_string_equal(params->secret_header_name, "x-hub-signature-256");
    assert_string_equal(params->event_header_name, "X-GitHub-Event");
    assert_null(params->event_request_key);
    assert_string_equal(params->push_event_value, "push");
    assert_true(params->match_sender_url && !params->secret_is_token);
    webhook_params_free(params);

    params =
        load(GOOD(",\"event_request_key\":null,\"match_sender_url\":false,\"secret_type\":\"signature\""));
    assert_true(!params->match_sender_url && !params->secret_is_token); /* of two the last one counts */
    webhook_params_free(params);
}

static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {"", "must be a JSON object"},
        {"[]", "must be a JSON object"},
        {"{\"a\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", "must be a JSON object"},
        {"{}", "\"secret_header_name\" is missing"},
        {"{\"secret_header_name\":1}", "\"secret_header_name\" must be a string"},
        {"{\"secret_header_name\":\"a\",\"secret_type\":\"x\"}",
            "\"secret_type\" must be \"token\" or \"signature\""},
        {GOOD(",\"secret_parsing_regex\":\"(\""),
            "\"secret_parsing_regex\": missing closing parenthesis at character 1"},
        {GOOD(",\"push_event_value\":null"), "\"push_event_value\" is missing"},
        {GOOD(",\"event_header_name\":null"), "must have \"event_header_name\" or \"event_request_key\""},
        {GOOD(",\"match_sender_url\":1"), "\"match_sender_url\" must be true or false"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config config = {.policy_repo_webhook_params = cases[i][0]};
        struct error err = {0};
        assert_null(webhook_params_load(&config, &err));
        static const char option[] = "OPAL_POLICY_REPO_WEBHOOK_PARAMS: ";
        if (strncmp(err.text, option, sizeof option - 1) != 0 ||
            strcmp(err.text + sizeof option - 1, cases[i][1]) != 0)
            fail_msg("%s -> %s", cases[i][0], err.text);
    }
}

static void test_secrets(void **state)
{
    static const char *const cases[][3] = {
        {"sha256=(.*)", "sha256=abc", "abc"}, {"sha256=(.*)", "sha1=abc", ""},
        {"[a-z]+", "12abc34def", "abc"},
        {"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
            ""}, /* given up: too many steps */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text text = {0};
        text_append_format(&text,
            "{\"secret_header_name\":\"x\",\"secret_type\":\"token\",\"secret_parsing_regex\":\"%s\","
            "\"event_header_name\":\"x\",\"push_event_value\":\"push\"}",
            cases[i][0]);
        struct webhook_params *params = load(text.data);
        assert_true(
            slice_equals_string(webhook_params_secret(params, slice_from_string(cases[i][1])), cases[i][2]));
        assert_int_equal(webhook_params_secret(params, (struct slice){0}).length, 0);
        webhook_params_free(params);
        text_free(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
