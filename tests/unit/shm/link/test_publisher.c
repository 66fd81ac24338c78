/* The publisher on a real segment; the test is the master. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shm/common/log.h"
#include "shm/ring_event.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"
#include "shm/link/notify.h"
#include "shm/link/publisher.h"

struct fixture {
    struct segment *master;
    struct segment *worker;
    struct uplink *uplink; /* the master's side */
    struct publisher *publisher;
};

struct outcome {
    int calls;
    enum publish_outcome last;
};

static void done(void *context, enum publish_outcome result)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->last = result;
}

static void fixture_open(struct fixture *fixture, size_t queue_max)
{
    struct segment_settings settings = {.ring_bytes = 1 << 20, .uplink_bytes = 65536, .slots = 2};
    struct log_settings quiet = {.level = LOG_CRITICAL};
    struct error err = {0};
    log_configure(&quiet);
    fixture->master = segment_create(&settings, &err);
    assert_non_null(fixture->master);
    assert_int_equal(uplink_prepare(fixture->master, 1, &err), 0);
    worker_table_next_incarnation(fixture->master, 1);
    event_limit_write(fixture->master, 20000);
    struct segment_descriptors descriptors = segment_descriptors(fixture->master, 1);
    descriptors.memory = dup(descriptors.memory);
    descriptors.doorbell = dup(descriptors.doorbell);
    descriptors.wake = dup(descriptors.wake);
    fixture->worker = segment_attach(&descriptors, 1, &err);
    assert_non_null(fixture->worker);
    fixture->uplink = uplink_open(fixture->master, 1);
    fixture->publisher = publisher_open(fixture->worker, 1, queue_max);
}

static void fixture_close(struct fixture *fixture)
{
    publisher_close(fixture->publisher);
    uplink_close(fixture->uplink);
    segment_close(fixture->worker);
    segment_close(fixture->master);
}

static const struct identity me = {{1, 2, 3, 4}};

static enum publish_outcome publish(
    struct fixture *fixture, size_t size, publish_done *callback, void *context, uint64_t *ticket)
{
    static char data[1 << 20];
    struct slice topics[2] = {SLICE_LITERAL("a"), SLICE_LITERAL("b")};
    memset(data, 'x', size);
    data[0] = data[size - 1] = '"';
    struct publish_request request = {
        .topics = topics,
        .topic_count = 2,
        .notifier = &me,
        .data = {data, size},
        .done = callback,
        .context = context,
    };
    return publisher_publish(fixture->publisher, &request, ticket);
}

/* Takes one event out of the uplink; returns its ticket, UINT64_MAX when there is none. */
static uint64_t take(struct fixture *fixture, size_t size)
{
    struct uplink_record record;
    struct ring_event event;
    bool corrupt = false;
    if (!uplink_next(fixture->uplink, &record, &corrupt)) {
        assert_false(corrupt);
        return UINT64_MAX;
    }
    assert_int_equal(record.type, RING_EVENT);
    assert_true(ring_event_decode(record.body, record.length, &event));
    assert_int_equal(event.origin, 1);
    assert_int_equal(event.incarnation, worker_table_incarnation(fixture->master, 1));
    assert_int_equal(event.topic_count, 2);
    assert_true(event.flags & RING_EVENT_HAS_NOTIFIER);
    assert_true(identity_equals(&event.notifier, &me));
    if (size > 0)
        assert_int_equal(event.data.length, size);
    uint64_t ticket = event.ticket;
    uplink_release(fixture->uplink);
    return ticket;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct fixture fixture;
    struct outcome first = {0}, second = {0};
    uint64_t one, two;
    fixture_open(&fixture, 1 << 20);
    assert_int_equal(publish(&fixture, 100, done, &first, &one), PUBLISH_ORDERED);
    assert_int_equal(publish(&fixture, 100, NULL, NULL, NULL), PUBLISH_ORDERED);
    assert_int_equal(publish(&fixture, 100, done, &second, &two), PUBLISH_ORDERED);
    assert_int_equal(first.calls, 0);
    assert_int_equal(take(&fixture, 100), one);
    assert_int_equal(take(&fixture, 100), 0); /* nobody waits */
    assert_int_equal(take(&fixture, 100), two);
    assert_int_equal(take(&fixture, 0), UINT64_MAX);
    publisher_complete(fixture.publisher, one, PUBLISH_ORDERED);
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.last, PUBLISH_ORDERED);
    publisher_complete(fixture.publisher, two, PUBLISH_REFUSED);
    assert_int_equal(second.last, PUBLISH_REFUSED);
    publisher_complete(fixture.publisher, two, PUBLISH_ORDERED); /* again: nobody there */
    publisher_complete(fixture.publisher, 99, PUBLISH_ORDERED);  /* never given */
    assert_int_equal(second.calls, 1);
    assert_int_equal(counter_read(fixture.master, 1, COUNTER_EVENTS_PUBLISHED), 3);
    fixture_close(&fixture);
}

static void test_cancel_and_gaps(void **state)
{
    (void)state;
    struct fixture fixture;
    struct outcome outcomes[300] = {0};
    uint64_t tickets[300];
    fixture_open(&fixture, 1 << 20);
    for (int i = 0; i < 300; i++) { /* more than the deque holds at first */
        assert_int_equal(publish(&fixture, 10, done, &outcomes[i], &tickets[i]), PUBLISH_ORDERED);
        while (take(&fixture, 10) != UINT64_MAX)
            ;
    }
    publisher_cancel(fixture.publisher, tickets[0]);
    publisher_cancel(fixture.publisher, tickets[250]);
    publisher_complete(fixture.publisher, tickets[0], PUBLISH_ORDERED);
    assert_int_equal(outcomes[0].calls, 0);
    publisher_complete(
        fixture.publisher, tickets[5], PUBLISH_ORDERED); /* 1..4 got lost: they must not wait for ever */
    for (int i = 1; i <= 4; i++)
        assert_int_equal(outcomes[i].last, PUBLISH_REFUSED);
    assert_int_equal(outcomes[5].last, PUBLISH_ORDERED);
    for (int i = 6; i < 300; i++)
        publisher_complete(fixture.publisher, tickets[i], PUBLISH_ORDERED);
    for (int i = 1; i < 300; i++)
        assert_int_equal(outcomes[i].calls, i == 250 ? 0 : 1);
    fixture_close(&fixture);
}

static void test_full_uplink(void **state)
{
    (void)state;
    struct fixture fixture;
    struct outcome outcomes[64] = {0};
    uint64_t tickets[64];
    int taken = 0;
    fixture_open(&fixture, 40000);
    while (publish(&fixture, 9000, done, &outcomes[taken], &tickets[taken]) == PUBLISH_ORDERED)
        taken++;
    assert_true(publisher_is_blocked(fixture.publisher));
    assert_true(taken >= 8 && taken < 16); /* what fits in 64 KiB and in a queue of 40000 bytes */
    assert_int_equal(counter_read(fixture.master, 1, COUNTER_EVENTS_REFUSED_BUSY), 1);
    uint64_t newest; /* the uplink has room for one so small, but those in the queue go first */
    assert_int_equal(publish(&fixture, 10, done, &outcomes[63], &newest), PUBLISH_ORDERED);
    for (int i = 0; i < taken; i++) {
        assert_int_equal(take(&fixture, 9000), tickets[i]);
        publisher_flush(fixture.publisher);
    }
    assert_int_equal(take(&fixture, 10), newest);
    assert_false(publisher_is_blocked(fixture.publisher));
    assert_int_equal(publish(&fixture, 9000, NULL, NULL, NULL), PUBLISH_ORDERED);
    assert_int_equal(take(&fixture, 9000), 0);
    fixture_close(&fixture);
}

static void test_too_large(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, 1 << 20);
    struct slice topics[2] = {SLICE_LITERAL("a"), SLICE_LITERAL("b")};
    size_t room = 20000 - (size_t)notify_envelope_max(topics, 2);
    assert_int_equal(publish(&fixture, room, NULL, NULL, NULL), PUBLISH_ORDERED);
    assert_int_equal(publish(&fixture, room + 1, NULL, NULL, NULL), PUBLISH_TOO_LARGE);
    event_limit_write(fixture.master, 1 << 30);
    assert_int_equal(
        publish(&fixture, 60000, NULL, NULL, NULL), PUBLISH_TOO_LARGE); /* the uplink can't carry it */
    assert_int_equal(counter_read(fixture.master, 1, COUNTER_EVENTS_REFUSED_SIZE), 2);
    fixture_close(&fixture);
}

/* What the backbone would get of one event is bounded, however small its data: a message for each topic. */
static void test_too_wide(void **state)
{
    struct fixture fixture;
    size_t refused_before;
    (void)state;
    fixture_open(&fixture, 1 << 20);
    size_t two_messages = 2 * (1000 + 1 + 80);
    refused_before = counter_read(fixture.master, 1, COUNTER_EVENTS_REFUSED_SIZE);
    messages_limit_write(fixture.master, two_messages);
    assert_int_equal(publish(&fixture, 1000, NULL, NULL, NULL), PUBLISH_ORDERED); /* topics a and b */
    messages_limit_write(fixture.master, two_messages - 1);
    assert_int_equal(publish(&fixture, 1000, NULL, NULL, NULL), PUBLISH_TOO_WIDE);
    assert_int_equal(counter_read(fixture.master, 1, COUNTER_EVENTS_REFUSED_SIZE), refused_before + 1);
    struct slice one = SLICE_LITERAL("a");
    static const char data[5000] = "1";
    struct publish_request request = {.topics = &one, .topic_count = 1, .data = {data, sizeof data}};
    assert_int_equal(publisher_publish(fixture.publisher, &request, NULL), PUBLISH_ORDERED);
    messages_limit_write(fixture.master, 0); /* no backbone */
    assert_int_equal(publish(&fixture, 1000, NULL, NULL, NULL), PUBLISH_ORDERED);
    fixture_close(&fixture);
}

/* Publishes one event that asks for the acknowledgement; the flags it has in the uplink. */
static uint32_t publish_asking(
    struct fixture *fixture, bool server_side, struct outcome *outcome, uint64_t *ticket)
{
    struct slice topics[1] = {SLICE_LITERAL("a")};
    struct publish_request request = {.topics = topics,
        .topic_count = 1,
        .data = SLICE_LITERAL("null"),
        .done = outcome ? done : NULL,
        .context = outcome,
        .wants_acknowledgement = true,
        .server_side = server_side};
    struct uplink_record record;
    struct ring_event event;
    bool corrupt = false;
    assert_int_equal(publisher_publish(fixture->publisher, &request, ticket), PUBLISH_ORDERED);
    assert_true(uplink_next(fixture->uplink, &record, &corrupt));
    assert_true(ring_event_decode(record.body, record.length, &event));
    uint32_t flags = event.flags;
    uplink_release(fixture->uplink);
    return flags;
}

static void test_flags(void **state)
{
    struct fixture fixture;
    struct outcome outcome = {0};
    uint64_t ticket;
    (void)state;
    fixture_open(&fixture, 1 << 20);
    backbone_state_write(fixture.master, BACKBONE_NONE);
    assert_int_equal(publish_asking(&fixture, true, &outcome, &ticket), RING_EVENT_SERVER_SIDE);
    publisher_complete(fixture.publisher, ticket, PUBLISH_ORDERED); /* there is nothing to wait for */
    assert_int_equal(outcome.calls, 1);
    assert_int_equal(outcome.last, PUBLISH_ORDERED);
    const enum backbone_state states[] = {BACKBONE_CONNECTING, BACKBONE_UP, BACKBONE_GAP};
    for (int i = 0; i < 3; i++) {
        backbone_state_write(fixture.master, states[i]);
        assert_int_equal(publish_asking(&fixture, true, &outcome, &ticket),
            RING_EVENT_SERVER_SIDE | RING_EVENT_WANTS_ACKNOWLEDGEMENT);
        assert_int_equal(
            publish_asking(&fixture, false, &outcome, &ticket), RING_EVENT_WANTS_ACKNOWLEDGEMENT);
        assert_int_equal(publish_asking(&fixture, false, NULL, NULL), 0); /* nobody to tell */
    }
    fixture_close(&fixture); /* with waiters left */
}

static void test_acknowledgements(void **state)
{
    struct fixture fixture;
    struct outcome outcomes[8] = {0}, plain = {0};
    uint64_t tickets[8], other;
    (void)state;
    fixture_open(&fixture, 1 << 20);
    backbone_state_write(fixture.master, BACKBONE_UP);
    for (int i = 0; i < 8; i++)
        publish_asking(&fixture, true, &outcomes[i], &tickets[i]);
    assert_int_equal(publish(&fixture, 10, done, &plain, &other), PUBLISH_ORDERED);
    publisher_cancel(fixture.publisher, tickets[7]); /* before it is ordered */
    for (int i = 0; i < 6; i++)
        publisher_complete(fixture.publisher, tickets[i], PUBLISH_ORDERED);
    publisher_complete(fixture.publisher, tickets[6], PUBLISH_FROZEN);
    publisher_complete(fixture.publisher, tickets[7], PUBLISH_ORDERED);
    publisher_complete(fixture.publisher, other, PUBLISH_ORDERED); /* is not held up by those before it */
    assert_int_equal(plain.calls, 1);
    assert_int_equal(outcomes[6].last, PUBLISH_FROZEN);
    publisher_cancel(fixture.publisher, tickets[2]);
    publisher_cancel(fixture.publisher, tickets[2]);
    publisher_complete(fixture.publisher, tickets[1], PUBLISH_ACKNOWLEDGED); /* in any order */
    publisher_complete(fixture.publisher, tickets[0], PUBLISH_UNACKNOWLEDGED);
    publisher_complete(fixture.publisher, tickets[2], PUBLISH_ACKNOWLEDGED);
    publisher_complete(fixture.publisher, tickets[5], PUBLISH_ACKNOWLEDGED);
    publisher_complete(fixture.publisher, tickets[5], PUBLISH_UNACKNOWLEDGED); /* once only */
    publisher_complete(fixture.publisher, tickets[7], PUBLISH_ACKNOWLEDGED);
    publisher_complete(fixture.publisher, other, PUBLISH_ACKNOWLEDGED); /* never asked for */
    publisher_complete(fixture.publisher, 12345, PUBLISH_ACKNOWLEDGED);
    const int calls[8] = {1, 1, 0, 0, 0, 1, 1, 0};
    for (int i = 0; i < 8; i++)
        assert_int_equal(outcomes[i].calls, calls[i]);
    assert_int_equal(outcomes[0].last, PUBLISH_UNACKNOWLEDGED);
    assert_int_equal(outcomes[1].last, PUBLISH_ACKNOWLEDGED);
    assert_int_equal(outcomes[5].last, PUBLISH_ACKNOWLEDGED);
    assert_int_equal(plain.calls, 1);
    fixture_close(&fixture);
}

static void test_envelope(void **state)
{
    (void)state;
    struct identity id = {{1, 2, 3}}, call = {{0xab}};
    char head[512] = {0}, tail[NOTIFY_TAIL_LENGTH + 1] = {0};
    struct slice topic = SLICE_LITERAL("\"t\\u00e9\"");
    size_t length = notify_head_length(topic.length);
    notify_head_write(head, &id, "cccccccccccccccccccccccccccccccc", topic);
    notify_tail_write(tail, &call);
    assert_int_equal(strlen(head), length);
    assert_string_equal(head,
        "{\"request\": {\"method\": \"notify\", \"arguments\": {\"subscription\": {\"id\": "
        "\"01020300000000000000000000000000\", \"subscriber_id\": \"cccccccccccccccccccccccccccccccc\", "
        "\"topic\": "
        "\"t\\u00e9\", \"notifier_id\": null}, \"data\": ");
    assert_string_equal(tail, "}, \"call_id\": \"ab000000000000000000000000000000\"}, \"response\": null}");
    struct slice topics[2] = {SLICE_LITERAL("x"), SLICE_LITERAL("t\xc3\xa9")};
    assert_int_equal(notify_envelope_max(topics, 2), length + NOTIFY_TAIL_LENGTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cancel_and_gaps),
        cmocka_unit_test(test_full_uplink),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_too_wide),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_acknowledgements),
        cmocka_unit_test(test_envelope),
    };
    return cmocka_run_group_tests_name("publisher", tests, NULL, NULL);
}
