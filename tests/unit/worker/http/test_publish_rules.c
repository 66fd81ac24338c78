/* OPAL_PUBLISH_PEER_TYPES: which peer types may publish, and which topic is reserved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/http/publish_rules.h"

static char client[] = "client", datasource[] = "datasource";

static bool admits(const struct config *config, const char *payload)
{
    struct token_claims claims = {0};
    assert_int_equal(json_parse(&claims.document, payload, strlen(payload), 8, 100), JSON_OK);
    bool admitted = publish_rules_admit(config, &claims);
    json_free(&claims.document);
    return admitted;
}

static void test_rules(void **state)
{
    char *one[] = {datasource}, *two[] = {client, datasource};
    const struct config unset = {0};
    const struct config sources = {.publish_peer_types = {one, 1}};
    const struct config both = {.publish_peer_types = {two, 2}};
    (void)state;
    assert_true(admits(&unset, "{\"peer_type\":\"client\"}") && admits(&unset, "{}"));
    assert_false(publish_rules_reserve(&unset, SLICE_LITERAL("webhook")));
    assert_true(admits(&sources, "{\"peer_type\":\"datasource\"}"));
    assert_false(admits(&sources, "{\"peer_type\":\"client\"}"));
    assert_false(admits(&sources, "{\"peer_type\":\"data\"}"));
    assert_false(
        admits(&sources, "{\"peer_type\":[\"datasource\"]}") || admits(&sources, "{\"peer_type\":null}"));
    assert_false(admits(&sources, "{}"));
    assert_true(publish_rules_admit(&sources, NULL)); /* open mode */
    assert_true(publish_rules_reserve(&sources, SLICE_LITERAL("webhook")));
    assert_false(publish_rules_reserve(&sources, SLICE_LITERAL("webhooks")));
    assert_true(
        admits(&both, "{\"peer_type\":\"client\"}") && admits(&both, "{\"peer_type\":\"datasource\"}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
