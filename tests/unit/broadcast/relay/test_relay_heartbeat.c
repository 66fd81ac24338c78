/* Histories of signs of life, and what is decided at each tick. The deadline is 4 s: a tick each second,
 * silence of 3 s is too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "broadcast/relay/relay_heartbeat.h"
#include "shm/common/clock.h"

#define STEPS_MAX 20

enum input { END, LISTENER_LIVE, SENDER_LIVE, LOST, HEARD, PROGRESS, ACKNOWLEDGED, ARRIVED, READING, TICK };

/* The facts of a tick, and what it decides. */
enum {
    LISTENER = 1u << 0,
    SENDER = 1u << 1,
    FLIGHT = 1u << 2,
    STOPPED = 1u << 3,
    PROBE = 1u << 4,
    BEAT = 1u << 5,
    /* no heartbeat has come back yet */
    FRESH = 1u << 6,
};
#define BOTH (LISTENER | SENDER)

struct step {
    double at;
    enum input input;
    unsigned facts;
    unsigned decision;
    const char *listener_lost;
    const char *sender_lost;
};

struct history {
    const char *name;
    struct step steps[STEPS_MAX];
};

#define UP \
    {0, LISTENER_LIVE, 0, 0, NULL, NULL}, \
    { \
        0, SENDER_LIVE, 0, 0, NULL, NULL \
    }

static const struct history histories[] = {
    {"all is well: a probe and a heartbeat each tick",
        {UP, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {1.1, HEARD, 0, 0, NULL, NULL},
            {2, TICK, BOTH, PROBE | BEAT, NULL, NULL}}},
    {"nothing is connected: nothing to do", {{1, TICK, 0, 0, NULL, NULL}, {2, TICK, 0, 0, NULL, NULL}}},
    {"the listener alone: probes",
        {{0, LISTENER_LIVE, 0, 0, NULL, NULL}, {1, TICK, LISTENER, PROBE, NULL, NULL}}},
    {"the listener's connection is dead",
        {UP, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {2, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {3, TICK, BOTH, 0, "no sign of life", NULL}}},
    {"it is not dead if anything was heard",
        {UP, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {1.5, HEARD, 0, 0, NULL, NULL},
            {2, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {3, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {4, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {5, TICK, BOTH, 0, "no sign of life", NULL}}},
    {"it lives, but a heartbeat that was acknowledged does not arrive",
        {UP, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {1.1, ACKNOWLEDGED, 0, 0, NULL, NULL},
            {1.2, HEARD, 0, 0, NULL, NULL}, {2, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {2.1, ACKNOWLEDGED, 0, 0, NULL, NULL}, {2.2, HEARD, 0, 0, NULL, NULL},
            {3, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {3.2, HEARD, 0, 0, NULL, NULL},
            {4, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {4.2, HEARD, 0, 0, NULL, NULL},
            {5, TICK, BOTH, 0, "deaf", NULL}}},
    {"one that arrives is no longer missing",
        {UP, {1, ACKNOWLEDGED, 0, 0, NULL, NULL}, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {1.5, ARRIVED, 0, 0, NULL, NULL}, {1.5, HEARD, 0, 0, NULL, NULL},
            {2, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {3, HEARD, 0, 0, NULL, NULL},
            {3, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {4, TICK, BOTH, PROBE | BEAT, NULL, NULL}}},
    {"nor one from before a connection was lost",
        {UP, {1, ACKNOWLEDGED, 0, 0, NULL, NULL}, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {1.5, LOST, 0, 0, NULL, NULL}, {2, TICK, LISTENER, PROBE, NULL, NULL},
            {3, HEARD, 0, 0, NULL, NULL}, {3, TICK, LISTENER, PROBE, NULL, NULL},
            {4, TICK, LISTENER, PROBE, NULL, NULL}}},
    {"the sender's connection is dead",
        {UP, {1, HEARD, 0, 0, NULL, NULL}, {1, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {2, HEARD, 0, 0, NULL, NULL}, {2, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {3, TICK, BOTH | FLIGHT, PROBE, NULL, "no acknowledgement"}}},
    {"the sender has nothing in flight: it may be silent",
        {UP, {1, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {2, HEARD, 0, 0, NULL, NULL},
            {2, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {3, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {4, TICK, BOTH, PROBE | BEAT, NULL, NULL}}},
    {"acknowledgements come",
        {UP, {1, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL}, {2, PROGRESS, 0, 0, NULL, NULL},
            {2, HEARD, 0, 0, NULL, NULL}, {2, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {3, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {4, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL}, {5, HEARD, 0, 0, NULL, NULL},
            {5, TICK, BOTH | FLIGHT, PROBE, NULL, "no acknowledgement"}}},
    {"both are dead", {UP, {1, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
                          {2, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
                          {3, TICK, BOTH | FLIGHT, 0, "no sign of life", "no acknowledgement"}}},
    {"nothing is read while the ring is full: silence proves nothing",
        {UP, {1, ACKNOWLEDGED, 0, 0, NULL, NULL}, {1, TICK, BOTH | STOPPED, PROBE | BEAT, NULL, NULL},
            {2, TICK, BOTH | STOPPED, PROBE | BEAT, NULL, NULL},
            {3, TICK, BOTH | STOPPED, PROBE | BEAT, NULL, NULL},
            {4, TICK, BOTH | STOPPED, PROBE | BEAT, NULL, NULL}, {4.5, READING, 0, 0, NULL, NULL},
            {5, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {6, TICK, BOTH, PROBE | BEAT, NULL, NULL},
            {7, TICK, BOTH, PROBE | BEAT, NULL, NULL}, {8, TICK, BOTH, 0, "no sign of life", NULL}}},
    {"this process stood still: the answers in the sockets get their turn first",
        {UP, {1, ACKNOWLEDGED, 0, 0, NULL, NULL}, {1, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {60, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {61, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {62, TICK, BOTH | FLIGHT, PROBE | BEAT, NULL, NULL},
            {63, TICK, BOTH | FLIGHT, 0, "no sign of life", "no acknowledgement"}}},
};

static struct relay_heartbeat_decision run(struct relay_heartbeat *heartbeat, const struct step *step)
{
    const struct relay_heartbeat_facts facts = {.listener_live = step->facts & LISTENER,
        .sender_live = step->facts & SENDER,
        .in_flight = step->facts & FLIGHT,
        .reading = !(step->facts & STOPPED),
        .proven = !(step->facts & FRESH)};
    uint64_t now = (uint64_t)(step->at * (double)CLOCK_SECOND) + CLOCK_SECOND;
    struct relay_heartbeat_decision decision;
    switch (step->input) {
    case LISTENER_LIVE:
        relay_heartbeat_live(heartbeat, RELAY_LISTENER, now);
        break;
    case SENDER_LIVE:
        relay_heartbeat_live(heartbeat, RELAY_SENDER, now);
        break;
    case LOST:
        relay_heartbeat_lost(heartbeat);
        break;
    case HEARD:
        relay_heartbeat_heard(heartbeat, now);
        break;
    case PROGRESS:
        relay_heartbeat_progress(heartbeat, now);
        break;
    case ACKNOWLEDGED:
        relay_heartbeat_acknowledged(heartbeat, now);
        break;
    case ARRIVED:
        relay_heartbeat_arrived(heartbeat);
        break;
    case READING:
        relay_heartbeat_reading_changed(heartbeat, now);
        break;
    case TICK:
        decision = relay_heartbeat_tick(heartbeat, facts, now);
        (void)!relay_heartbeat_delay(heartbeat, facts, now);
        return decision;
    case END:
        break;
    }
    return (struct relay_heartbeat_decision){0};
}

static bool same(const char *got, const char *expected)
{
    return expected ? got && strncmp(got, expected, strlen(expected)) == 0 : !got;
}

static void test_histories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        struct relay_heartbeat heartbeat;
        relay_heartbeat_init(&heartbeat, 4 * CLOCK_SECOND, CLOCK_SECOND);
        for (const struct step *step = histories[i].steps; step->input != END; step++) {
            struct relay_heartbeat_decision got = run(&heartbeat, step);
            unsigned decision = (got.probe ? PROBE : 0) | (got.beat ? BEAT : 0);
            if (decision != step->decision || !same(got.listener_lost, step->listener_lost) ||
                !same(got.sender_lost, step->sender_lost))
                fail_msg("%s, step %zu at %.1f s: decision %#x, listener %s, sender %s", histories[i].name,
                    (size_t)(step - histories[i].steps), step->at, decision,
                    got.listener_lost ? got.listener_lost : "kept",
                    got.sender_lost ? got.sender_lost : "kept");
        }
    }
}

/* With the usual deadline: what never carried anything is found in seconds, what did so once by the
 * deadline. */
static void test_a_fresh_way(void **state)
{
    const struct relay_heartbeat_facts fresh = {.listener_live = true, .sender_live = true, .reading = true};
    struct relay_heartbeat_facts proven = fresh;
    struct relay_heartbeat heartbeat;
    uint64_t now = CLOCK_SECOND;
    (void)state;
    proven.proven = true;
    relay_heartbeat_init(&heartbeat, 60 * CLOCK_SECOND, now);
    relay_heartbeat_live(&heartbeat, RELAY_LISTENER, now);
    relay_heartbeat_live(&heartbeat, RELAY_SENDER, now);
    relay_heartbeat_acknowledged(&heartbeat, now);
    for (unsigned second = 1; second < 5; second++) {
        assert_int_equal(relay_heartbeat_delay(&heartbeat, fresh, now), CLOCK_SECOND);
        now += CLOCK_SECOND;
        struct relay_heartbeat_decision decision = relay_heartbeat_tick(&heartbeat, fresh, now);
        assert_true(decision.probe && decision.beat && !decision.deaf);
    }
    assert_int_equal(relay_heartbeat_delay(&heartbeat, proven, now), 15 * CLOCK_SECOND);
    assert_false(relay_heartbeat_tick(&heartbeat, proven, now + CLOCK_SECOND).deaf);
    assert_true(relay_heartbeat_tick(&heartbeat, fresh, now + CLOCK_SECOND).deaf);
}

static void test_numbers(void **state)
{
    struct relay_heartbeat heartbeat;
    (void)state;
    relay_heartbeat_init(&heartbeat, CLOCK_SECOND, 0);
    assert_int_equal(relay_heartbeat_next(&heartbeat), 1);
    assert_int_equal(relay_heartbeat_next(&heartbeat), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histories),
        cmocka_unit_test(test_a_fresh_way),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
