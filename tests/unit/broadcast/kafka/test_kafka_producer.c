/* The producer when things go wrong, against librdkafka's mock cluster, which returns the errors that are
 * asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "broadcast/kafka/kafka_producer.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"

#define TOPIC           "EventNotifier"
#define REQUEST_PRODUCE 0 /* Kafka protocol, API key */

static struct fixture {
    rd_kafka_t *owner;
    rd_kafka_mock_cluster_t *cluster;
    struct event_base *base;
    struct kafka_producer *producer;
    struct broadcast_settings settings;
    uint64_t counts[BROADCAST_COUNT_TOO_LARGE + 1];
    bool asking;            /* send_number gives each message its number + 1 as token */
    unsigned told[1001][2]; /* by token: how often acknowledged [1], given up [0] */
    uint64_t last_told;
    unsigned resyncs; /* calls for a resync that expect_in_kafka met */
    unsigned resyncs_expected;
    unsigned resync_before; /* the number that came next after the last of them */
} fixture;

static void on_count(void *context, enum broadcast_count what, uint64_t amount)
{
    (void)context;
    fixture.counts[what] += amount;
}

static void on_acknowledged(void *context, uint64_t token, bool ok)
{
    (void)context;
    assert_in_range(token, 1, 1000);
    fixture.told[token][ok]++;
    fixture.last_told = token;
}

static const struct broadcast_callbacks callbacks = {.count = on_count, .acknowledged = on_acknowledged};

static int set_up(void **state)
{
    struct error err = {0};
    (void)state;
    log_configure(&(struct log_settings){.level = LOG_CRITICAL});
    memset(&fixture, 0, sizeof fixture);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    fixture.owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    fixture.cluster = rd_kafka_mock_cluster_new(fixture.owner, 1);
    assert_int_equal(rd_kafka_mock_topic_create(fixture.cluster, TOPIC, 3, 1), 0);
    fixture.base = event_base_new();
    static const struct event_limits limits = {.event_max_bytes = 1 << 20};
    fixture.settings = (struct broadcast_settings){.channel = TOPIC,
        .limits = &limits,
        .queue_max_bytes = 10 << 20,
        .queue_max_messages = 1000,
        .reconnect_backoff_min = 0.05,
        .reconnect_backoff_max = 0.2};
    fixture.producer = kafka_producer_open(fixture.base, &fixture.settings,
        rd_kafka_mock_cluster_bootstraps(fixture.cluster), false, &callbacks, NULL, &err);
    assert_non_null(fixture.producer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (fixture.producer)
        kafka_producer_close(fixture.producer, 0);
    event_base_free(fixture.base);
    rd_kafka_mock_cluster_destroy(fixture.cluster);
    rd_kafka_destroy(fixture.owner);
    return 0;
}

static int send_number(unsigned number, size_t padding)
{
    struct text message = {0};
    text_append_format(&message, "%u", number);
    for (size_t i = 0; i < padding; i++)
        text_append_char(&message, ' ');
    int result = kafka_producer_send(
        fixture.producer, text_slice(&message), fixture.asking ? (uint64_t)number + 1 : 0);
    text_free(&message);
    return result;
}

static void run_ms(unsigned ms)
{
    struct timeval time = {ms / 1000, (suseconds_t)(ms % 1000 * 1000)};
    event_base_loopexit(fixture.base, &time);
    event_base_dispatch(fixture.base);
}

static void run_until_sent(size_t pending, unsigned limit_ms)
{
    uint64_t end = clock_monotonic_ns() + limit_ms * CLOCK_MILLISECOND;
    while (kafka_producer_pending(fixture.producer) > pending && clock_monotonic_ns() < end)
        run_ms(10);
    assert_int_equal(kafka_producer_pending(fixture.producer), pending);
}

/* The numbers in partition 0, from its beginning, must be these in this order; a repeated stretch is allowed
 * when `repeats`. */
static void expect_in_kafka(unsigned first, unsigned end, bool repeats)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(fixture.cluster), NULL, 0);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", NULL, 0);
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    rd_kafka_t *reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, NULL, 0);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(reader, TOPIC, NULL);
    assert_int_equal(rd_kafka_consume_start(topic, 0, RD_KAFKA_OFFSET_BEGINNING), 0);
    unsigned next = first;
    fixture.resyncs = 0;
    while (next < end || fixture.resyncs < fixture.resyncs_expected) {
        rd_kafka_message_t *message = rd_kafka_consume(topic, 0, 5000);
        if (!message)
            fail_msg("number %u is not in Kafka", next);
        assert_int_equal(message->err, 0);
        assert_null(message->key);
        if (memmem(
                message->payload, message->len, "\"topics\": [], \"data\": null, \"opald_resync\": \"", 44)) {
            fixture.resyncs++;
            fixture.resync_before = next;
            rd_kafka_message_destroy(message);
            continue;
        }
        unsigned number = (unsigned)strtoul(message->payload, NULL, 10);
        if (number > next || (number < next && !repeats))
            fail_msg("number %u where %u should be", number, next);
        if (number == next)
            next++;
        rd_kafka_message_destroy(message);
    }
    rd_kafka_message_t *more = rd_kafka_consume(topic, 0, 300);
    if (more && !repeats)
        assert_int_equal(more->err, RD_KAFKA_RESP_ERR__PARTITION_EOF);
    assert_int_equal(fixture.resyncs, fixture.resyncs_expected);
    if (more)
        rd_kafka_message_destroy(more);
    rd_kafka_consume_stop(topic, 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(reader);
}

static void test_plain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(send_number(i, 0), 0);
    run_until_sent(0, 10000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SENT], 500);
    expect_in_kafka(0, 500, false);
}

/* A fatal error of the idempotent producer while messages wait: a new handle sends them, in order, none lost.
 * */
static void test_fatal_error(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        send_number(i, 0);
    run_until_sent(0, 10000);
    rd_kafka_mock_broker_set_down(fixture.cluster, 1);
    run_ms(50);
    for (unsigned i = 100; i < 200; i++)
        assert_int_equal(send_number(i, 0), 0);
    rd_kafka_t *before = kafka_producer_handle(fixture.producer);
    assert_int_equal(
        rd_kafka_test_fatal_error(before, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test"), 0);
    run_ms(20);
    for (unsigned i = 200; i < 300; i++)
        assert_int_equal(send_number(i, 0), 0);
    rd_kafka_mock_broker_set_up(fixture.cluster, 1);
    run_until_sent(0, 15000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SENT], 300);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 0);
    expect_in_kafka(0, 300, true);
}

static void test_fatal_error_when_idle(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    for (unsigned round = 1; round <= 3; round++) {
        rd_kafka_test_fatal_error(
            kafka_producer_handle(fixture.producer), RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, "test");
        run_ms(300);
        assert_int_equal(send_number(round, 0), 0);
        run_until_sent(0, 10000);
    }
    expect_in_kafka(0, 4, false);
}

/* Errors that pass: librdkafka retries them itself. */
static void test_passing_errors(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    rd_kafka_mock_push_request_errors(fixture.cluster, REQUEST_PRODUCE, 4,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR__TRANSPORT,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    for (unsigned i = 1; i < 200; i++)
        send_number(i, 0);
    run_until_sent(0, 20000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SENT], 200);
    expect_in_kafka(0, 200, false);
}

/* Refused as a whole: sent one by one, so nothing but what is refused alone is lost. */
static void test_batch_too_large(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    rd_kafka_mock_push_request_errors(
        fixture.cluster, REQUEST_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    rd_kafka_mock_broker_set_down(fixture.cluster, 1); /* so that all are one batch */
    run_ms(50);
    for (unsigned i = 1; i < 100; i++)
        send_number(i, 0);
    rd_kafka_mock_broker_set_up(fixture.cluster, 1);
    run_until_sent(0, 20000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_TOO_LARGE], 0);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SENT], 100);
    expect_in_kafka(0, 100, false);
}

static void test_too_large_alone(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    rd_kafka_mock_push_request_errors(fixture.cluster, REQUEST_PRODUCE, 2,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    send_number(7, 0);
    run_until_sent(0, 10000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_TOO_LARGE], 1);
    send_number(1, 0);
    run_until_sent(0, 10000);
    fixture.resyncs_expected = 1; /* for what the other servers did not get */
    expect_in_kafka(0, 2, false);
    /* above librdkafka's own limit: refused at once */
    errno = 0;
    assert_int_equal(send_number(8, 3 << 20), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_TOO_LARGE], 2);
    assert_int_equal(kafka_producer_pending(fixture.producer), 0);
}

/* Refused before it was under way, with nothing else to send: the others are told all the same. */
static void test_too_large_from_the_start(void **state)
{
    (void)state;
    assert_int_equal(send_number(8, 3 << 20), -1);
    run_ms(20);
    run_until_sent(0, 10000);
    fixture.resyncs_expected = 1;
    expect_in_kafka(0, 0, false);
}

/* A fault of the message: given up and counted, the next one goes. */
static void test_given_up(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    rd_kafka_mock_push_request_errors(fixture.cluster, REQUEST_PRODUCE, 2,
        RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
    send_number(7, 0);
    run_until_sent(0, 10000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 1);
    send_number(1, 0);
    run_until_sent(0, 10000);
    fixture.resyncs_expected = 1; /* for what the other servers did not get */
    expect_in_kafka(0, 2, false);
    assert_int_equal(fixture.resync_before, 1);
}

/* A right that is missing for a while is a fault of the topic: everything waits, in order. */
static void test_no_right_for_a_while(void **state)
{
    (void)state;
    send_number(0, 0);
    run_until_sent(0, 10000);
    /* Unlike a real broker the mock does not check sequence numbers: one request may be under way when it
     * refuses. */
    rd_kafka_mock_push_request_errors(fixture.cluster, REQUEST_PRODUCE, 2,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    send_number(1, 0);
    run_ms(100);
    for (unsigned i = 2; i < 50; i++)
        send_number(i, 0);
    run_ms(100);
    for (unsigned i = 50; i < 100; i++)
        send_number(i, 0);
    run_until_sent(0, 20000);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 0);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SENT], 100);
    expect_in_kafka(0, 100, false);
}

static void expect_told(unsigned first, unsigned end)
{
    for (unsigned number = first; number < end; number++) {
        assert_int_equal(fixture.told[number + 1][1], 1);
        assert_int_equal(fixture.told[number + 1][0], 0);
    }
}

/* Whoever asks after a message hears of it once, also when it was sent again by a new handle, and of one
 * given up. */
static void test_tokens(void **state)
{
    (void)state;
    send_number(900, 0); /* nobody asks */
    fixture.asking = true;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(send_number(i, 0), 0);
    run_until_sent(0, 10000);
    expect_told(0, 100);
    assert_int_equal(fixture.last_told, 100);
    assert_int_equal(fixture.told[901][1], 0);
    rd_kafka_mock_broker_set_down(fixture.cluster, 1);
    run_ms(50);
    for (unsigned i = 100; i < 200; i++)
        assert_int_equal(send_number(i, 0), 0);
    assert_int_equal(rd_kafka_test_fatal_error(kafka_producer_handle(fixture.producer),
                         RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test"),
        0);
    run_ms(20);
    assert_int_equal(fixture.last_told, 100); /* given back is not given up */
    for (unsigned i = 200; i < 300; i++)
        assert_int_equal(send_number(i, 0), 0);
    rd_kafka_mock_broker_set_up(fixture.cluster, 1);
    run_until_sent(0, 15000);
    expect_told(0, 300);
    rd_kafka_mock_push_request_errors(fixture.cluster, REQUEST_PRODUCE, 2,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    send_number(300, 0);
    run_until_sent(0, 10000);
    assert_int_equal(fixture.told[301][0], 1);
    assert_int_equal(fixture.told[301][1], 0);
    send_number(400, 0);
    run_until_sent(0, 10000);
    assert_int_equal(send_number(301, 3 << 20), -1); /* that was the answer */
    assert_int_equal(fixture.told[302][0] + fixture.told[302][1], 0);
    rd_kafka_mock_broker_set_down(fixture.cluster, 1);
    run_ms(50);
    send_number(302, 0);
    size_t unsent = kafka_producer_close(fixture.producer, 50);
    fixture.producer = NULL;
    assert_int_equal(unsent, 2); /* no answer; the other is the call for a resync */
    assert_int_equal(fixture.told[303][0] + fixture.told[303][1], 0);
}

static void test_bounds(void **state)
{
    (void)state;
    rd_kafka_mock_broker_set_down(fixture.cluster, 1);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(send_number(i, 0), 0);
    errno = 0;
    assert_int_equal(send_number(1000, 0), -1);
    assert_int_equal(errno, ENOBUFS);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 1);
    rd_kafka_mock_broker_set_up(fixture.cluster, 1);
    run_until_sent(0, 20000);
    /* One call for a resync, behind everything that waited. */
    assert_int_equal(send_number(1000, 0), 0);
    run_until_sent(0, 10000);
    fixture.resyncs_expected = 1;
    expect_in_kafka(0, 1001, false);
    assert_int_equal(fixture.resync_before, 1000);
    /* and by bytes */
    rd_kafka_mock_broker_set_down(fixture.cluster, 1);
    unsigned taken = 0;
    while (send_number(taken, 1 << 20) == 0)
        taken++;
    assert_int_equal(errno, ENOBUFS);
    assert_int_equal(taken, 9);
    uint64_t began = clock_monotonic_ns();
    assert_int_equal(kafka_producer_close(fixture.producer, 200), 9);
    fixture.producer = NULL;
    assert_true(clock_monotonic_ns() - began < 3 * CLOCK_SECOND);
}

/* Its name has a number that rises; its address may come again. */
static void remember_handle(char name[64])
{
    snprintf(name, 64, "%s", rd_kafka_name(kafka_producer_handle(fixture.producer)));
}

/* The topic's limit becomes known while events are on their way: librdkafka is made anew in between, nothing
 * is lost, doubled or overtaken. */
static void test_smaller_batches(void **state)
{
    char before[64];
    (void)state;
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(send_number(i, 100), 0);
    kafka_producer_limit_batches(fixture.producer, 1000);
    remember_handle(before);
    for (unsigned i = 500; i < 1000; i++)
        assert_int_equal(send_number(i, 100), 0);
    run_until_sent(0, 20000);
    assert_string_not_equal(rd_kafka_name(kafka_producer_handle(fixture.producer)), before);
    kafka_producer_limit_batches(fixture.producer, 2000); /* no reason to make it anew */
    remember_handle(before);
    assert_int_equal(send_number(1000, 0), 0);
    run_until_sent(0, 20000);
    assert_string_equal(rd_kafka_name(kafka_producer_handle(fixture.producer)), before);
    kafka_producer_limit_batches(fixture.producer, 500); /* nothing is in flight: at once */
    assert_int_equal(send_number(1001, 0), 0);
    run_until_sent(0, 20000);
    expect_in_kafka(0, 1002, false);
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 0);
}

/* A queue that overflows again and again calls for one resync, and for the next some seconds later, or at the
 * close. */
static void test_resyncs_are_apart(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        rd_kafka_mock_broker_set_down(fixture.cluster, 1);
        run_ms(100);
        for (unsigned i = 0; i < 1000; i++)
            assert_int_equal(send_number(round * 1000 + i, 0), 0);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(send_number(9999, 0), -1);
        rd_kafka_mock_broker_set_up(fixture.cluster, 1);
        run_until_sent(0, 20000);
    }
    assert_int_equal(fixture.counts[BROADCAST_COUNT_SEND_FAILED], 15);
    assert_int_equal(kafka_producer_close(fixture.producer, 5000), 0);
    fixture.producer = NULL;
    fixture.resyncs_expected = 2;
    expect_in_kafka(0, 3000, false);
    assert_int_equal(fixture.resync_before, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fatal_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fatal_error_when_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_passing_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_large_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_large_from_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_right_for_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resyncs_are_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_smaller_batches, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
