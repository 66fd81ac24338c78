/* Which repository and branch a webhook speaks of, and the secret in its header. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "worker/policy/webhook_params.h"
#include "worker/policy/webhook_payload.h"

static bool matches(const char *json, const char *url)
{
    struct json_document document = {0};
    struct webhook_payload payload = {0};
    assert_int_equal(json_parse(&document, json, strlen(json), 20, 1000), JSON_OK);
    webhook_payload_read(&payload, &document);
    bool result = webhook_payload_matches(&payload, url);
    webhook_payload_free(&payload);
    json_free(&document);
    return result;
}

#define BY_URL(url) "{\"repository\": {\"clone_url\": \"" url "\", \"full_name\": \"x/y\"}}"
/* refs_changed of Bitbucket Server and Data Center */
#define BITBUCKET_SERVER \
    "{\"eventKey\": \"repo:refs_changed\", \"repository\": {\"slug\": \"rules\", \"links\": {\"clone\": " \
    "[{\"href\": " \
    "\"https://bb.example/scm/proj/rules.git\", \"name\": \"http\"}, {\"href\": " \
    "\"ssh://git@bb.example:7999/proj/rules.git\"}, 5, {}]}}, \"changes\": [{\"ref\": {\"id\": " \
    "\"refs/heads/main\", \"displayId\": \"main\"}, \"type\": \"UPDATE\"}, {\"ref\": 5}, null]}"
#define BY_NAME(name) "{\"repository\": {\"full_name\": \"" name "\"}}"

static void urls(void **state)
{
    (void)state;
    assert_true(matches(BY_URL("https://h/o/r.git"), "https://u:p%40@H/o/r.git?a#b"));
    assert_true(matches(BY_URL("https://h:81/o/r"), "HTTPS://h:81/o/r"));
    assert_true(matches(BY_URL("git@h:o/r.git"), "git@h:o/r.git"));
    assert_true(matches(BY_URL("ssh://h/o/r.git"), "ssh://git@h/o/r.git"));
    assert_true(matches(BY_URL("/srv/r.git"), "/srv/r.git"));
    assert_false(matches(BY_URL("https://h/o/R.git"), "https://h/o/r.git"));
    assert_true(matches(BY_URL("https://h/o/r"), "https://h/o/r.git"));
    assert_true(matches(BY_URL("https://H/o/r/"), "https://token@h/o/r.git"));
    assert_true(matches(BY_URL("ssh://git@h/o/r.git"), "git@h:o/r"));
    assert_true(matches(BY_URL("git@h:o/r.git"), "ssh://git@h:22/o/r"));
    assert_false(matches(BY_URL("ssh://git@h:7999/o/r.git"), "git@h:o/r"));
    assert_false(matches(BY_URL("https://h/o/rr"), "https://h/o/r"));
    assert_false(matches(BY_URL("https://other/o/r"), "https://h/o/r"));
    assert_false(matches(BY_URL("http://[::"), "https://h/o/r"));
    assert_false(matches(BY_URL("https://evil/"), "https://evil/@h/o/r"));
    assert_true(matches(BY_NAME("o/r"), "https://h/o/r.git"));
    assert_true(matches(BY_NAME("o/r"), "git@h:o/r.git"));
    assert_true(matches(BY_NAME("o/r"), "https://h/o/r/"));
    assert_true(matches(BITBUCKET_SERVER, "https://bb.example/scm/proj/rules"));
    assert_true(matches(BITBUCKET_SERVER, "ssh://git@bb.example:7999/proj/rules.git"));
    assert_false(matches(BITBUCKET_SERVER, "https://bb.example/scm/proj/other"));
    assert_false(matches(BY_NAME("o/r"), "https://h/x/o/r.git"));
    assert_false(matches("{}", "https://h/o/r.git"));
    assert_false(matches("{\"repository\": 3, \"project\": null, \"resource\": []}", "https://h/o/r.git"));
}

static void branches(void **state)
{
    static const char json[] =
        "{\"ref\": \"refs/heads/a/b\", \"refUpdates\": {\"name\": \"one\"}, \"resource\": {\"refUpdates\": "
        "[{\"name\": \"refs/heads/two\"}, 5, {\"name\": 6}]}, \"push\": {\"changes\": [{\"new\": null}, "
        "{\"new\": {\"name\": \"three\"}}]}}";
    struct json_document document = {0};
    struct webhook_payload payload = {0};
    (void)state;
    assert_int_equal(json_parse(&document, json, strlen(json), 20, 1000), JSON_OK);
    webhook_payload_read(&payload, &document);
    assert_int_equal(payload.branch_count, 4);
    assert_true(webhook_payload_has_branch(&payload, "a/b"));
    assert_true(webhook_payload_has_branch(&payload, "two"));
    assert_true(webhook_payload_has_branch(&payload, "three"));
    assert_false(webhook_payload_has_branch(&payload, "refs/heads/two"));
    webhook_payload_free(&payload);
    assert_int_equal(json_parse(&document, BITBUCKET_SERVER, strlen(BITBUCKET_SERVER), 20, 1000), JSON_OK);
    webhook_payload_read(&payload, &document);
    assert_int_equal(payload.branch_count, 1);
    assert_true(webhook_payload_has_branch(&payload, "main"));
    webhook_payload_free(&payload);
    json_free(&document);
}

static void assert_secret(const char *pattern, const char *header, const char *expected)
{
    char json[512];
    struct config config = {.policy_repo_webhook_params = json};
    struct error err = {0};
    snprintf(json, sizeof json,
        "{\"secret_header_name\": \"h\", \"secret_type\": \"token\", \"secret_parsing_regex\": \"%s\", "
        "\"event_header_name\": \"e\", \"push_event_value\": \"push\"}",
        pattern);
    struct webhook_params *params = webhook_params_load(&config, &err);
    assert_non_null(params);
    assert_true(params->match_sender_url && params->secret_is_token);
    struct slice secret = webhook_params_secret(params, slice_from_string(header));
    assert_true(slice_equals_string(secret, expected));
    webhook_params_free(params);
}

static void secrets(void **state)
{
    (void)state;
    assert_secret("sha256=(.*)", "sha256=abc", "abc");
    assert_secret("sha256=(.*)", "x sha256=a sha256=b", "a sha256=b");
    assert_secret("(.*)", "token", "token");
    assert_secret("[0-9a-f]+", "zz12ab zz3", "12ab");
    assert_secret("sha256=(.*)", "sha1=abc", "");
    assert_secret("(x)?y", "y", "");
    /* a pattern that would take for ever gives up */
    assert_secret("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls), cmocka_unit_test(branches), cmocka_unit_test(secrets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
