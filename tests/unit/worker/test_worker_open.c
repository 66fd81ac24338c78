/* A worker whose settings are not usable ends with status 1; it never serves with half of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/worker/worker_fixture.h"

static void expect_failure(struct fixture *fixture)
{
    fixture_launch(fixture);
    assert_int_equal(fixture_wait(fixture, 5000), 1);
    assert_int_not_equal(worker_table_state(fixture->segment, 0), WORKER_READY);
    fixture_stop(fixture);
}

static char *bad_network[] = {"10.0.0.0/8", "nonsense"};
static const struct config_list bad_list = {.items = bad_network, .count = 2};

static void test_proxies(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_config(&fixture);
    fixture.config.proxy_protocol_from = bad_list;
    expect_failure(&fixture);
}

static void test_forwarders(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_config(&fixture);
    fixture.config.forwarded_allow_ips = bad_list;
    expect_failure(&fixture);
}

static void test_data_sources(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_config(&fixture);
    fixture.config.data_config_sources = "{\"config\": {\"entries\": 5}}";
    expect_failure(&fixture);
}

static void test_load_limit(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_config(&fixture);
    fixture.config.client_load_limit_notation = "ten a second";
    expect_failure(&fixture);
}

static void test_webhook_params(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_config(&fixture);
    fixture.config.policy_repo_webhook_params = "[";
    expect_failure(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxies),
        cmocka_unit_test(test_forwarders),
        cmocka_unit_test(test_data_sources),
        cmocka_unit_test(test_load_limit),
        cmocka_unit_test(test_webhook_params),
    };
    return cmocka_run_group_tests_name("worker_open", tests, NULL, NULL);
}
