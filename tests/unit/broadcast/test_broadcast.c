/* Which backend a URI goes to, and what is said of one that goes to none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "broadcast/broadcast.h"

static void test_schemes_of_all_backends(void **state)
{
    static const char *const uris[] = {"kafka://h1:9092,h2:9092", "KAFKA://broker:1", "kafka+mock://",
        "redis://h", "REDISS://h", "postgres://h/db", "postgresql://h/db"};
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        struct error err = {0};
        if (broadcast_check_uri(uris[i], &err) != 0)
            fail_msg("%s: %s", uris[i], err.text);
    }
}

static void test_refused_schemes(void **state)
{
    static const struct {
        const char *uri, *expected;
    } cases[] = {
        {"", "has no scheme"},
        {"localhost:9092", "has no scheme"},
        {"://h", "has no scheme"},
        {NULL, "has no scheme"},
        {"nats://u:hunter2@h", "unknown backbone scheme 'nats://'"},
        {"unix:///run/redis.sock", "unix sockets, Sentinel and Cluster are not supported"},
        {"redis+sentinel://a/x", "'redis+sentinel://'; Redis is reached by TCP at one address"},
        {"SASL_SSL://h:9092", "set by KAFKA_SECURITY_PROTOCOL"},
        {"kafka+ssl://h:9092", "'kafka+ssl://'; Kafka is kafka://host1:9092,host2:9092"},
        {"postgresql+asyncpg://u:hunter2@h/d",
            "Postgres is postgresql://host:5432/database, with user:password@"},
        {"jdbc:postgresql://h/d?password=hunter2",
            "Postgres is postgresql://host:5432/database, with user:password@"},
        {"host=db password=hunter2", "Postgres is postgresql://host:5432/database, with user:password@"},
        {"password=hunter2://", "begins with no scheme"},
        {"hunter2, with more in it than schemes have://", "unknown backbone scheme"},
        {"redis-cluster://a", "unix sockets, Sentinel and Cluster are not supported"},
        {"redis://%2Frun%2Fredis.sock", "not by a unix socket"},
        {"redis://a,b", "no Sentinel, no Cluster"},
        {"a-very-long-scheme-indeed://h", "unknown backbone scheme"},
        {"memory://", "does not carry the memory backbone yet"},
        {"pulsar://h", "does not carry the pulsar backbone yet"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        assert_int_equal(broadcast_check_uri(cases[i].uri, &err), -1);
        if (!strstr(err.text, cases[i].expected))
            fail_msg("%s: %s", cases[i].uri ? cases[i].uri : "(null)", err.text);
        assert_null(strstr(err.text, "hunter2"));
    }
}

static void test_refusal_lists_the_schemes(void **state)
{
    static const char *const schemes[] = {
        "kafka://", "kafka+mock://", "redis://", "rediss://", "postgres://", "postgresql://"};
    struct error err = {0};
    (void)state;
    assert_int_equal(broadcast_check_uri("nats://h", &err), -1);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        assert_non_null(strstr(err.text, schemes[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schemes_of_all_backends),
        cmocka_unit_test(test_refused_schemes),
        cmocka_unit_test(test_refusal_lists_the_schemes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
