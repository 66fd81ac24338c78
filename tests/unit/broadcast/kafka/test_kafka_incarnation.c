/*
 * A topic that is deleted and made anew while it is read, in every order in which librdkafka may tell of it. The few functions of
 * librdkafka that the reading uses are replaced by a log in memory, whose steps the test takes one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka_consumer_internal.h"
#include "shm/common/log.h"

#define TOPIC "t"
#define MOST  512

/* ---- the broker's log and librdkafka's fetcher, for one partition ---- */

struct fake_message {
    rd_kafka_message_t message;
    int64_t timestamp;
    char text[96];
};

static struct {
    bool there;
    int64_t begin;
    int64_t end;
    struct fake_message log[MOST]; /* by offset */
    int64_t clock_ms;

    bool running; /* from consume_start to consume_stop, or to an error that ends it */
    int64_t position;
    int64_t told_end; /* the offset of which "end of partition" was told */
    struct fake_message queue[4 * MOST];
    size_t queue_head;
    size_t queue_tail;
} fake;

static int event_number; /* names all events that were ever written */

static void fake_write(unsigned count)
{
    for (; count; count--) {
        struct fake_message *entry = &fake.log[fake.end];
        assert_true(fake.end < MOST);
        fake.clock_ms++;
        int length = snprintf(entry->text, sizeof entry->text,
            "{\"notifier_id\": \"other\", \"topics\": [\"t\"], \"data\": %d}", event_number++);
        entry->timestamp = fake.clock_ms;
        entry->message = (rd_kafka_message_t){.offset = fake.end++, .len = (size_t)length};
    }
}

static void fake_push(const struct fake_message *message)
{
    assert_true(fake.queue_tail < sizeof fake.queue / sizeof *fake.queue);
    fake.queue[fake.queue_tail] = *message;
    fake.queue[fake.queue_tail].message.payload =
        message->message.err ? NULL : fake.queue[fake.queue_tail].text;
    fake.queue_tail++;
}

static void fake_push_error(rd_kafka_resp_err_t code, int64_t offset)
{
    struct fake_message error = {.message = {.err = code, .offset = offset}};
    fake_push(&error);
}

static void fake_delete(void)
{
    fake.there = false;
    fake.begin = fake.end = 0;
}

static void fake_create(void)
{
    fake.there = true;
}

/* librdkafka asks for the topic; a missing one is told of in the queue. */
static void fake_ask(void)
{
    if (!fake.there && fake.running)
        fake_push_error(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, 0);
}

/* One answer to a fetch, with at most `most` messages. */
static void fake_fetch(unsigned most)
{
    if (!fake.running || !fake.there)
        return;
    if (fake.position == RD_KAFKA_OFFSET_BEGINNING)
        fake.position = fake.begin;
    else if (fake.position == RD_KAFKA_OFFSET_END)
        fake.position = fake.end;
    if (fake.position < fake.begin || fake.position > fake.end) {
        fake.running = false;
        fake_push_error(RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, fake.position);
        return;
    }
    for (; most && fake.position < fake.end; most--)
        fake_push(&fake.log[fake.position++]);
    if (fake.position == fake.end && fake.told_end != fake.end) {
        fake.told_end = fake.end;
        fake_push_error(RD_KAFKA_RESP_ERR__PARTITION_EOF, fake.end);
    }
}

int rd_kafka_consume_start_queue(
    rd_kafka_topic_t *topic, int32_t partition, int64_t offset, rd_kafka_queue_t *queue)
{
    (void)topic;
    (void)queue;
    assert_int_equal(partition, 0);
    assert_false(fake.running);
    fake.running = true;
    fake.position = offset;
    fake.told_end = -1;
    return 0;
}

int rd_kafka_consume_stop(rd_kafka_topic_t *topic, int32_t partition)
{
    (void)topic;
    (void)partition;
    fake.running = false;
    fake.queue_head = fake.queue_tail = 0;
    return 0;
}

rd_kafka_message_t *rd_kafka_consume_queue(rd_kafka_queue_t *queue, int timeout_ms)
{
    (void)queue;
    (void)timeout_ms;
    if (fake.queue_head == fake.queue_tail) {
        fake.queue_head = fake.queue_tail = 0;
        return NULL;
    }
    struct fake_message *copy = malloc(sizeof *copy); /* outlives its place in the queue, as librdkafka's */
    assert_non_null(copy);
    *copy = fake.queue[fake.queue_head++];
    if (copy->message.payload)
        copy->message.payload = copy->text;
    return &copy->message;
}

void rd_kafka_message_destroy(rd_kafka_message_t *message)
{
    free((char *)message - offsetof(struct fake_message, message));
}

int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *message, rd_kafka_timestamp_type_t *type)
{
    *type = RD_KAFKA_TIMESTAMP_CREATE_TIME;
    return ((const struct fake_message *)(const void *)((const char *)message -
                                                        offsetof(struct fake_message, message)))
        ->timestamp;
}

/* ---- the reader ---- */

static struct {
    struct event_base *base;
    struct kafka_consumer consumer;
    int delivered[16 * MOST];
    int count;
    unsigned gaps;
    char why[128];
    bool refuse;
} reader;

static bool on_event(void *context, const struct notification *notification)
{
    (void)context;
    if (reader.refuse)
        return false;
    reader.delivered[reader.count++] = atoi(notification->data.data);
    return true;
}

static void on_gap(void *context, uint64_t gap_ns, const char *why)
{
    (void)context;
    (void)gap_ns;
    reader.gaps++;
    snprintf(reader.why, sizeof reader.why, "%s", why);
}

static void on_state(void *context, enum broadcast_state state)
{
    (void)context;
    (void)state;
}

static void on_count(void *context, enum broadcast_count what, uint64_t amount)
{
    (void)context;
    (void)what;
    (void)amount;
}

static void on_batch_end(void *context)
{
    (void)context;
}

static void on_ready(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    kafka_consumer_on_messages(context);
}

static const struct broadcast_callbacks callbacks = {
    .event = on_event, .state = on_state, .gap = on_gap, .count = on_count, .batch_end = on_batch_end};
static const struct broadcast_settings settings = {
    .channel = TOPIC, .notifier_id = "self", .event_max_bytes = 1000000, .json_max_depth = 16};

static void turn(void)
{
    kafka_consumer_on_messages(&reader.consumer);
    event_base_loop(reader.base, EVLOOP_NONBLOCK);
}

/* What the statistics say at this moment. */
static void report(void)
{
    if (fake.there)
        kafka_consumer_topic_there(&reader.consumer, 1);
    else
        kafka_consumer_topic_missing(&reader.consumer);
}

/* Some seconds pass. */
static void wait_long(void)
{
    struct kafka_partition *partition = &reader.consumer.partitions[0];
    if (reader.consumer.missing_since_ns)
        reader.consumer.missing_since_ns -= KAFKA_MISSING_NS;
    if (partition->missing_ns)
        partition->missing_ns -= KAFKA_MISSING_NS;
    if (partition->short_ns)
        partition->short_ns -= KAFKA_MISSING_NS;
    fake.clock_ms += 3000;
}

static void settle(void)
{
    for (int i = 0; i < 6; i++) {
        report();
        fake_ask();
        fake_fetch(MOST);
        turn();
        kafka_consumer_end_checks(&reader.consumer);
        if (i == 2)
            wait_long();
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    memset(&reader, 0, sizeof reader);
    event_number = 0;
    fake.clock_ms = kafka_consumer_wall_ms();
    reader.base = event_base_new();
    /* LOST: no state is told, which would ask librdkafka for the topic's settings */
    reader.consumer = (struct kafka_consumer){.magic = KAFKA_CONSUMER_MAGIC,
        .settings = &settings,
        .callbacks = &callbacks,
        .brokers = "none",
        .state = BROADCAST_LOST,
        .decoder = notification_decoder_make(16)};
    reader.consumer.resync = kafka_resync_open(reader.base, &callbacks, NULL);
    assert_non_null(reader.consumer.resync);
    reader.consumer.messages.event = event_new(reader.base, -1, EV_PERSIST, on_ready, &reader.consumer);
    fake_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (reader.consumer.held)
        rd_kafka_message_destroy(reader.consumer.held);
    event_free(reader.consumer.messages.event);
    kafka_resync_close(reader.consumer.resync);
    notification_decoder_free(reader.consumer.decoder);
    json_free(&reader.consumer.statistics);
    free(reader.consumer.partitions);
    event_base_free(reader.base);
    return 0;
}

/* Exactly the events `first` to `end - 1` came, in order, from the `from`th on. */
static void assert_delivered(int from, int first, int end)
{
    assert_int_equal(reader.count - from, end - first);
    for (int i = from; i < reader.count; i++)
        assert_int_equal(reader.delivered[i], first + i - from);
}

static void start_with(unsigned before, unsigned read)
{
    fake_write(before);
    report();
    fake_fetch(MOST);
    turn();
    fake_write(read);
    fake_fetch(MOST);
    turn();
    assert_delivered(0, (int)before, (int)(before + read));
}

/* ---- tests ---- */

/* The offset is found to be lost before the topic is known to have been gone: its end was read, then all of it again. */
static void test_lost_before_it_is_known(void **state)
{
    (void)state;
    start_with(3, 10);
    fake_delete();
    report();
    fake_ask();
    turn();
    wait_long();
    fake_create();
    fake_write(2);
    fake_fetch(MOST); /* out of range */
    turn();
    fake_write(3);
    fake_fetch(MOST);
    turn();
    report(); /* only now */
    settle();
    assert_delivered(10, 13, 18);
    assert_int_equal(reader.gaps, 1);
    assert_string_equal(reader.why, "the Kafka topic was deleted and made anew");
}

/* The new topic has more events than the old one had, and none of the fetches fails. */
static void test_longer_than_the_old(void **state)
{
    (void)state;
    start_with(3, 10);
    fake_delete();
    fake_ask();
    fake_create();
    fake_write(30);
    turn();
    fake_fetch(MOST);
    turn();
    settle();
    assert_delivered(10, 13, 43);
    assert_int_equal(reader.gaps, 1);
}

/* Nobody saw that it was gone, but it is shorter. */
static void test_unseen_and_shorter(void **state)
{
    (void)state;
    start_with(3, 10);
    fake_delete();
    fake_create();
    fake_write(7);
    fake_fetch(MOST);
    turn();
    fake_fetch(MOST);
    fake_write(20);
    settle();
    assert_delivered(10, 13, 40);
    assert_int_equal(reader.gaps, 1);
}

/* Behind a lost connection, with exactly as many events, and with fewer by one. */
static void test_behind_an_outage(void **state)
{
    static const unsigned counts[] = {13, 12, 11, 40, 0};
    int from = 10;
    int first = 13;
    start_with(3, 10);
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        kafka_consumer_want_check(&reader.consumer);
        turn();
        fake_delete();
        fake_create();
        fake_write(counts[i]);
        settle();
        assert_delivered(from, first, first + (int)counts[i]);
        assert_int_equal(reader.gaps, i + 1);
        from = reader.count;
        first += (int)counts[i];
    }
}

/* A broker that denies a topic which it has, an outage, a new leader that knows less for a moment: nothing twice, no gap. */
static void test_false_alarms(void **state)
{
    (void)state;
    start_with(3, 10);
    for (int i = 0; i < 3; i++) {
        fake.there = false;
        fake_ask();
        if (i)
            report();
        turn();
        if (i == 2)
            wait_long();
        fake.there = true;
        fake_write(2);
        settle();
    }
    kafka_consumer_want_check(&reader.consumer);
    turn();
    fake.end -= 1; /* of 19: the last one is not there yet */
    fake_fetch(MOST);
    turn();
    kafka_consumer_end_checks(&reader.consumer);
    fake.end += 1;
    settle();
    fake_write(1);
    settle();
    assert_delivered(0, 3, 20);
    assert_int_equal(reader.gaps, 0);
}

/* Nothing of the topic was read when it goes: there is no mark to look for. */
static void test_nothing_read_yet(void **state)
{
    (void)state;
    start_with(5, 0);
    fake_delete();
    report();
    fake_ask();
    turn();
    wait_long();
    fake_create();
    fake_write(9);
    settle();
    assert_delivered(0, 5, 14);
    assert_int_equal(reader.gaps, 1);
}

/* Retention: the last one read is gone but none is lost; then some are lost. */
static void test_retention(void **state)
{
    (void)state;
    start_with(3, 10);
    fake.begin = 13;
    kafka_consumer_want_check(&reader.consumer);
    turn();
    fake_write(2);
    settle();
    assert_delivered(0, 3, 15);
    assert_int_equal(reader.gaps, 0);
    fake_write(10);
    fake.begin = 20;
    settle();
    assert_delivered(0, 3, 15);
    assert_int_equal(reader.gaps, 1);
    assert_string_equal(reader.why, "the place where we stopped is not in Kafka's log any more");
    fake_write(1);
    settle();
    assert_int_equal(reader.count, 13);
    assert_int_equal(reader.delivered[12], 25);
}

/* The ring is full while the topic is made anew: what was refused is of the old one and says nothing about the new one. */
static void test_held_meanwhile(void **state)
{
    (void)state;
    start_with(3, 10);
    reader.refuse = true;
    fake_write(4);
    fake_fetch(MOST);
    turn();
    assert_non_null(reader.consumer.held);
    fake_delete();
    fake_ask();
    report();
    turn();
    fake_create();
    fake_write(2);
    report();
    reader.refuse = false;
    kafka_consumer_resume(&reader.consumer);
    settle();
    assert_delivered(0, 3, 19); /* 4 of the old and 2 of the new one */
    assert_int_equal(reader.gaps, 1);
}

/* The old topic's last writer had a clock that was an hour fast: the new one's events are not taken for history. */
static void test_fast_clock(void **state)
{
    (void)state;
    start_with(3, 10);
    fake.clock_ms += 3600 * 1000;
    fake_write(1);
    fake_fetch(MOST);
    turn();
    fake.clock_ms -= 3600 * 1000;
    fake_delete();
    fake_create();
    fake_write(4);
    settle();
    assert_delivered(0, 3, 18);
    assert_int_equal(reader.gaps, 1);
}

/* Any order: after each step the new topic's events may be late, never lost, doubled or out of order. */
static void test_any_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++) {
        teardown(NULL);
        setup(NULL);
        srand(seed);
        start_with((unsigned)rand() % 5, 1 + (unsigned)rand() % 10);
        for (int incarnation = 0; incarnation < 4; incarnation++) {
            int first = event_number;
            int from = reader.count;
            bool told = rand() % 2;
            if (!told) { /* not asked for in time; the connection had broken */
                settle();
                kafka_consumer_want_check(&reader.consumer);
                turn();
            }
            fake_delete();
            if (told) {
                for (int i = rand() % 4; i; i--)
                    (rand() % 2 ? report : turn)();
                fake_ask();
                for (int i = rand() % 4; i; i--)
                    (rand() % 2 ? report : turn)();
                if (rand() % 2)
                    wait_long();
            }
            fake_create();
            fake_write(1 + (unsigned)rand() % 25);
            for (int i = rand() % 12; i; i--)
                switch (rand() % 6) {
                case 0:
                    report();
                    break;
                case 1:
                    fake_write(1 + (unsigned)rand() % 3);
                    break;
                case 2:
                    fake_fetch(1 + (unsigned)rand() % 5);
                    break;
                case 3:
                    kafka_consumer_want_check(&reader.consumer);
                    break;
                default:
                    turn();
                }
            settle();
            assert_delivered(from, first, event_number);
            assert_int_equal(reader.gaps, incarnation + 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lost_before_it_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longer_than_the_old, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unseen_and_shorter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_behind_an_outage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_false_alarms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_read_yet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fast_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_order, setup, teardown),
    };
    log_configure(&(struct log_settings){.level = LOG_CRITICAL}); /* thousands of topics made anew */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
