/* git and ssh get what they need of the environment, and nothing else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/config.h"
#include "server/policy/bundle/child_environment.h"

static void test_kept(void **state)
{
    static const char *const kept[] = {"PATH=/bin", "HOME=/", "SSH_AUTH_SOCK=/s", "GIT_SSH_COMMAND=ssh -v",
        "https_proxy=http://proxy", "NO_PROXY=*", "GIT_SSL_CAINFO=/ca", "GIT_CONFIG_COUNT=1",
        "GIT_CONFIG_KEY_0=a.b", "GIT_CONFIG_VALUE_0=c", "LD_PRELOAD=libnss_wrapper.so", "TZ="};
    (void)state;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (!child_environment_keeps(kept[i], NULL))
            fail_msg("%s", kept[i]);
}

static void test_dropped(void **state)
{
    static const char *const dropped[] = {"OPAL_AUTH_MASTER_TOKEN=x", "OPAL_", "OPALD_FETCH_VERSION=1",
        "DATABASE_PASSWORD=x", "AWS_SECRET_ACCESS_KEY=x", "KAFKA_PLAIN_PASSWORD=x", "PGPASSWORD=x",
        "VAULT_TOKEN=x", "GIT_DIR=/x", "GIT_OBJECT_DIRECTORY=/x", "GIT_TRACE=1", "GIT_ASKPASS=x",
        "NOTIFY_SOCKET=/x", "LC_ALL=de", "PATHS=/x", "PATH", "HOMEDIR=/x", "", "="};
    (void)state;
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (child_environment_keeps(dropped[i], NULL))
            fail_msg("%s", dropped[i]);
}

static void test_more(void **state)
{
    char *items[] = {"AWS_*", "VAULT_TOKEN", ""};
    const struct config_list more = {items, 3};
    (void)state;
    assert_true(child_environment_keeps("AWS_SECRET_ACCESS_KEY=x", &more));
    assert_true(child_environment_keeps("VAULT_TOKEN=x", &more));
    assert_false(child_environment_keeps("VAULT_TOKEN_2=x", &more));
    assert_false(child_environment_keeps("AWS=x", &more));
    assert_false(child_environment_keeps("OPAL_X=y", &more));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept), cmocka_unit_test(test_dropped), cmocka_unit_test(test_more)};
    return cmocka_run_group_tests_name("server/policy/bundle/child_environment", tests, NULL, NULL);
}
