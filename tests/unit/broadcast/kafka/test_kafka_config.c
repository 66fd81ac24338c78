/* URIs, the KAFKA_* environment; messages that wait; the reading of librdkafka's statistics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka.h"
#include "broadcast/kafka/kafka_config.h"
#include "broadcast/kafka/kafka_extra.h"
#include "broadcast/kafka/kafka_pending.h"
#include "broadcast/kafka/kafka_stats.h"

static void test_good_uris(void **state)
{
    static const struct {
        const char *uri, *brokers;
    } cases[] = {
        {"kafka://h1:9092,h2:9092", "h1:9092,h2:9092"},
        {"kafka://broker", "broker"},
        {"KAFKA://broker:1", "broker:1"},
        {"kafka://h:9092/path,x?query=1,2#f", "h:9092"},
        {"kafka://h:9092?a=b", "h:9092"},
        {"kafka://h1:9092, h2:9092", "h1:9092,h2:9092"},
        {"kafka:// h1:9092 ,\th2 ", "h1:9092,h2"},
        {"kafka://[::1]:9092,[fe80::1]", "[::1]:9092,[fe80::1]"},
        {"kafka://h:65535", "h:65535"},
        {"kafka+mock://", NULL},
        {"Kafka+Mock:///x", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text brokers = {0};
        struct error err = {0};
        if (broadcast_kafka.check_uri(cases[i].uri, &err) != 0)
            fail_msg("%s: %s", cases[i].uri, err.text);
        assert_int_equal(kafka_config_parse_uri(cases[i].uri, &brokers, &err), 0);
        if (cases[i].brokers)
            assert_string_equal(brokers.data, cases[i].brokers);
        else
            assert_int_equal(brokers.length, 0);
        text_free(&brokers);
    }
}

static void test_bad_uris(void **state)
{
    static const struct {
        const char *uri, *expected;
    } cases[] = {
        {"kafka://", "no broker is named"},
        {"kafka:///path", "no broker is named"},
        {"kafka://u:hunter2@h:9092", "no user and password in the URI"},
        {"kafka://h1,u:hunter2@h2", "no user and password in the URI"},
        {"kafka://u:1234?hunter2@h:9092", "no user and password in the URI"},
        {"kafka://u:hunter2/x@h:9092", "no user and password in the URI"},
        {"kafka://u:hunter2", "no valid port"},
        {"kafka://SASL_SSL://h:9092", "KAFKA_SECURITY_PROTOCOL"},
        {"kafka://[hunter2", "closing bracket"},
        {"kafka://[::1]hunter2", "no [address]:port"},
        {"kafka://h:", "no valid port"},
        {"kafka://h:0", "no valid port"},
        {"kafka://h:65536", "no valid port"},
        {"kafka://h:99999999999999999999", "no valid port"},
        {"kafka://h:9x", "no valid port"},
        {"kafka://h1,,h2", "a broker has no name"},
        {"kafka://h1,", "a broker has no name"},
        {"kafka://:9092", "a broker has no name"},
        {"kafka://h 1", "has a blank"},
        {"kafka://h\xc3\xa9", "outside ASCII"},
        {"kafka://[::1", "closing bracket"},
        {"kafka://[::1]x", "no [address]:port"},
        {"kafka+mock://h", "takes no broker"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        assert_int_equal(broadcast_kafka.check_uri(cases[i].uri, &err), -1);
        if (!strstr(err.text, cases[i].expected))
            fail_msg("%s: %s", cases[i].uri, err.text);
        assert_null(strstr(err.text, "hunter2"));
    }
}

/* ---- security ---- */

static const char *const variables[] = {"KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM",
    "KAFKA_PLAIN_USERNAME", "KAFKA_PLAIN_PASSWORD", "KAFKA_SSL_CAFILE", "KAFKA_SSL_CAPATH",
    "KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE", "KAFKA_SSL_KEY_PASSWORD"};

static void forget_environment(void)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
}

static void expect_property(rd_kafka_conf_t *conf, const char *name, const char *expected)
{
    char value[128] = "";
    size_t size = sizeof value;
    rd_kafka_conf_get(conf, name, value, &size);
    assert_string_equal(value, expected);
}

static void test_security(void **state)
{
    struct error err = {0};
    (void)state;
    forget_environment();
    setenv("KAFKA_SSL_CAFILE", "/nowhere", 1); /* no TLS: not looked at */
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(kafka_config_apply_security(conf, &err), 0);
    expect_property(conf, "security.protocol", "plaintext");
    expect_property(conf, "ssl.ca.location", "");
    rd_kafka_conf_destroy(conf);

    forget_environment();
    setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", 1);
    setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", 1);
    setenv("KAFKA_PLAIN_USERNAME", "me", 1);
    setenv("KAFKA_PLAIN_PASSWORD", "hunter2", 1);
    setenv("KAFKA_SSL_CAPATH", "/etc/ssl/certs", 1);
    setenv("KAFKA_SSL_CERTFILE", "/c.pem", 1);
    setenv("KAFKA_SSL_KEYFILE", "/k.pem", 1);
    setenv("KAFKA_SSL_KEY_PASSWORD", "pw", 1);
    conf = rd_kafka_conf_new();
    assert_int_equal(kafka_config_apply_security(conf, &err), 0);
    expect_property(conf, "security.protocol", "sasl_ssl");
    expect_property(conf, "sasl.mechanisms", "SCRAM-SHA-512");
    expect_property(conf, "sasl.username", "me");
    expect_property(conf, "ssl.ca.location", "/etc/ssl/certs");
    expect_property(conf, "ssl.certificate.location", "/c.pem");
    expect_property(conf, "ssl.key.location", "/k.pem");
    expect_property(conf, "ssl.endpoint.identification.algorithm", "https");
    setenv("KAFKA_SSL_CAFILE", "/ca.pem", 1);
    assert_int_equal(kafka_config_apply_security(conf, &err), 0);
    expect_property(conf, "ssl.ca.location", "/ca.pem");
    rd_kafka_conf_destroy(conf);

    forget_environment();
    setenv("KAFKA_SECURITY_PROTOCOL", "", 1); /* empty is unset */
    assert_int_equal(kafka_config_apply_security(NULL, &err), 0);
    setenv("KAFKA_SECURITY_PROTOCOL", "ssl", 1);
    assert_int_equal(kafka_config_apply_security(NULL, &err), -1);
    assert_non_null(strstr(err.text, "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"));
    setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT", 1);
    assert_int_equal(kafka_config_apply_security(NULL, &err), -1);
    assert_non_null(strstr(err.text, "KAFKA_PLAIN_USERNAME is not set"));
    setenv("KAFKA_PLAIN_USERNAME", "me", 1);
    assert_int_equal(broadcast_kafka.check_uri("kafka://h", &err), -1);
    assert_non_null(strstr(err.text, "KAFKA_PLAIN_PASSWORD is not set"));
    assert_int_equal(broadcast_kafka.check_uri("kafka+mock://", &err), 0);
    setenv("KAFKA_PLAIN_PASSWORD", "hunter2", 1);
    assert_int_equal(kafka_config_apply_security(NULL, &err), 0);
    setenv("KAFKA_SASL_MECHANISM", "GSSAPI", 1);
    assert_int_equal(kafka_config_apply_security(NULL, &err), -1);
    setenv("KAFKA_SECURITY_PROTOCOL", "SSL", 1);
    setenv("KAFKA_SSL_KEYFILE", "/k", 1);
    assert_int_equal(kafka_config_apply_security(NULL, &err), -1);
    assert_non_null(strstr(err.text, "KAFKA_SSL_KEYFILE is set without KAFKA_SSL_CERTFILE"));
    forget_environment();
}

/* ---- pending messages ---- */

static void test_pending(void **state)
{
    struct kafka_pending pending;
    struct kafka_pending_item *items[5];
    (void)state;
    kafka_pending_init(&pending);
    assert_null(kafka_pending_first(&pending));
    assert_int_equal(kafka_pending_oldest_ns(&pending), 0);
    for (uint64_t i = 0; i < 5; i++)
        items[i] = kafka_pending_add(&pending, i, 0, 10 * i, 1000 + i);
    assert_int_equal(kafka_pending_in_flight(&pending), 5);
    assert_int_equal(pending.bytes, 100);
    /* They come back in any order, some are acknowledged meanwhile, one is empty. */
    kafka_pending_wait(&pending, items[3], (struct slice){"third...third...third...third.", 30});
    kafka_pending_remove(&pending, items[1]);
    kafka_pending_wait(&pending, items[0], (struct slice){NULL, 0});
    kafka_pending_wait(&pending, items[2], (struct slice){"second..second..sec.", 20});
    kafka_pending_remove(&pending, items[4]);
    assert_int_equal(kafka_pending_in_flight(&pending), 0);
    assert_int_equal(kafka_pending_oldest_ns(&pending), 1000);
    assert_ptr_equal(kafka_pending_first(&pending), items[0]);
    assert_ptr_equal(TAILQ_NEXT(items[0], link), items[2]);
    assert_memory_equal(items[3]->bytes, "third", 5);
    kafka_pending_go(&pending, items[0]);
    assert_int_equal(kafka_pending_in_flight(&pending), 1);
    kafka_pending_remove(&pending, items[0]);
    assert_int_equal(pending.count, 2);
    assert_int_equal(pending.bytes, 50);
    kafka_pending_clear(&pending);
    assert_int_equal(pending.waiting, 0);
    assert_int_equal(pending.bytes, 0);
}

/* ---- statistics ---- */

static void test_statistics(void **state)
{
#define BROKER(name, node, source, state) \
    "\"" name "\": {\"name\":\"" name "\", \"nodeid\":" #node ", \"source\":\"" source \
    "\", \"state\":\"" state "\", \"connects\":3, \"toppars\":{}}"
#define PARTITION(number, broker, unknown) \
    "\"" #number "\": {\"partition\":" #number ", \"broker\":" #broker ", \"leader\":" #broker \
    ", \"unknown\":" unknown "}"
#define STATS(brokers, age, partitions) \
    "{\"brokers\": {" brokers "}, \"topics\":{ \"t\": {\"topic\":\"t\", \"metadata_age\":" #age \
    ", \"partitions\":{ " partitions "} } } }"
    static const struct {
        const char *text;
        bool readable;
        struct kafka_stats expected;
    } cases[] = {
        {STATS(BROKER("h:1/1", 1, "learned", "UP"), 12,
             PARTITION(0, 1, "false") ", " PARTITION(-1, -1, "true")),
            true, {true, 1, 1, true, 0, 0}},
        {STATS(BROKER("h:1/1", 1, "learned", "DOWN"), 12, PARTITION(0, 1, "false")), true,
            {true, 1, 0, false, 0, 0}},
        {STATS(BROKER("a", 1, "learned", "UP") "," BROKER("b", 2, "learned", "CONNECT"), 12,
             PARTITION(0, 1, "false") "," PARTITION(1, 2, "false") "," PARTITION(2, -1, "true")),
            true, {true, 2, 1, false, 0, 0}},
        {STATS(BROKER("a", 1, "learned", "UP"), 12, PARTITION(0, -1, "false")), true,
            {true, 1, 1, false, 0, 0}},
        {STATS(BROKER("a", 1, "learned", "UP"), 12, PARTITION(0, -1, "true")), true,
            {true, 0, 1, true, 0, 0}},
        {STATS(BROKER("a", 1, "learned", "UP"), 0, ""), true, {false, 0, 1, true, 0, 0}},
        {STATS(BROKER(":0/internal", -1, "internal", "UP"), 0, ""), true, {false, 0, 0, true, 0, 0}},
        {"{\"brokers\":{}, \"topics\":{}}", true, {false, 0, 0, true, 0, 0}},
        {"{\"brokers\":{\"a\":5}, \"topics\":{\"t\":{\"partitions\":{\"0\":7}}}}", true,
            {false, 0, 0, true, 0, 0}},
        {"{\"brokers\":[], \"topics\":{}}", false, {0}},
        {"{\"topics\":{}}", false, {0}},
        {"[]", false, {0}},
        {"{", false, {0}},
        {"", false, {0}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kafka_stats stats;
        bool readable = kafka_stats_read(cases[i].text, strlen(cases[i].text), "t", &stats);
        if (readable != cases[i].readable)
            fail_msg("case %zu", i);
        if (!readable)
            continue;
        assert_int_equal(stats.topic_answered, cases[i].expected.topic_answered);
        assert_int_equal(stats.partition_count, cases[i].expected.partition_count);
        assert_int_equal(stats.brokers_up, cases[i].expected.brokers_up);
        assert_int_equal(stats.leaders_up, cases[i].expected.leaders_up);
    }
}

/* The value of a property after the operator's settings, "" when unknown. */
static const char *extra_value(enum kafka_extra_role role, const char *settings, const char *key)
{
    static char value[128];
    size_t size = sizeof value;
    struct error err = {0};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (kafka_extra_apply(conf, role, settings, &err) < 0)
        fail_msg("%s", err.text);
    if (rd_kafka_conf_get(conf, key, value, &size) != RD_KAFKA_CONF_OK)
        value[0] = '\0';
    rd_kafka_conf_destroy(conf);
    return value;
}

static void test_extra_settings(void **state)
{
    static const char settings[] = "client.id=a=b\nlinger.ms=7\nfetch.min.bytes=9\nlinger.ms=8\n";
    (void)state;
    assert_string_equal(extra_value(KAFKA_EXTRA_PRODUCER, settings, "client.id"), "a=b");
    assert_string_equal(extra_value(KAFKA_EXTRA_CONSUMER, settings, "client.id"), "a=b");
    assert_string_equal(extra_value(KAFKA_EXTRA_PRODUCER, settings, "linger.ms"), "8");
    assert_string_equal(
        extra_value(KAFKA_EXTRA_CONSUMER, settings, "linger.ms"), "5"); /* librdkafka's default */
    assert_string_equal(extra_value(KAFKA_EXTRA_CONSUMER, settings, "fetch.min.bytes"), "9");
    assert_string_equal(extra_value(KAFKA_EXTRA_PRODUCER, settings, "fetch.min.bytes"), "1");
    assert_string_equal(
        extra_value(KAFKA_EXTRA_PRODUCER, "compression.type=lz4\n", "compression.codec"), "lz4");
    assert_string_equal(
        extra_value(KAFKA_EXTRA_PRODUCER, "acks=all\nenable.idempotence=true\n", "enable.idempotence"),
        "true");
    assert_string_equal(extra_value(KAFKA_EXTRA_PRODUCER, NULL, "client.id"), "rdkafka");
}

static void test_extra_refused(void **state)
{
    static const struct {
        const char *settings;
        const char *message;
    } cases[] = {
        {"foo.bar=1\n", "foo.bar: No such configuration property"},
        {"linger.ms=abc\n", "linger.ms: Invalid value"},
        {"client.id=x\nsocket.timeout.ms=1\n", "socket.timeout.ms: "},
        {"enable.idempotence=false\n", "enable.idempotence can't be changed from true: events would be lost"},
        {"acks=1\n", "acks can't be changed from all"},
        {"auto.offset.reset=latest\n",
            "auto.offset.reset can't be changed from error: a lost offset must be noticed"},
        {"enable.partition.eof=false\n", "enable.partition.eof can't be changed from true"},
        {"group.id=opal\n", "group.id can't be set: every server reads the whole topic"},
        {"transactional.id=x\n", "transactional.id can't be set"},
        {"message.timeout.ms=1000\n", "message.timeout.ms can't be changed from 0"},
        {"queue.buffering.max.messages=5\n", "OPAL_KAFKA_QUEUE_MAX_MESSAGES"},
        {"bootstrap.servers=h:1\n", "OPAL_BROADCAST_URI names the brokers"},
        {"log_cb=1\n", "log_cb: "},
        {"no setting\n", "no key=value"},
    };
    static const enum kafka_extra_role roles[] = {KAFKA_EXTRA_PRODUCER, KAFKA_EXTRA_CONSUMER};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned refused = 0;
        for (size_t k = 0; k < 2; k++) {
            struct error err = {0};
            rd_kafka_conf_t *conf = rd_kafka_conf_new();
            refused += kafka_extra_apply(conf, roles[k], cases[i].settings, &err) < 0;
            if (err.code && (!strstr(err.text, cases[i].message) || strchr(err.text, '\n')))
                fail_msg("case %zu: %s", i, err.text);
            rd_kafka_conf_destroy(conf);
        }
        if (!refused)
            fail_msg("case %zu is accepted", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_uris),
        cmocka_unit_test(test_bad_uris),
        cmocka_unit_test(test_security),
        cmocka_unit_test(test_pending),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_extra_settings),
        cmocka_unit_test(test_extra_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
