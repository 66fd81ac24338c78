/* Histories of a relay's connections, and what the recovery decides at each step. Times are milliseconds; the
 * settle time is 2 s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "broadcast/relay/relay_recovery.h"
#include "shm/common/clock.h"

#define SETTLE_MS 2000u
#define STEPS_MAX 20

enum input {
    END,
    LISTENER_LIVE,
    LISTENER_LOST,
    ATTEMPT_FAILED,
    SENDER_LIVE,
    SENDER_LOST,
    REPLAYED,
    RESYNC,
    TICK
};

/* What a step decides, besides the timer. */
enum {
    HOLD = 1u << 0,
    REPLAY = 1u << 1,
    GAP = 1u << 2,
};

struct step {
    unsigned at_ms;
    enum input input;
    unsigned decision;
    /* 0: none */
    unsigned timer_ms;
    /* with GAP */
    unsigned gap_ms;
};

struct history {
    const char *name;
    struct step steps[STEPS_MAX];
};

/* Connected at the first attempt. */
#define UP \
    {.at_ms = 10, .input = LISTENER_LIVE}, {.at_ms = 20, .input = SENDER_LIVE, .decision = REPLAY}, \
    { \
        .at_ms = 20, .input = REPLAYED \
    }

static const struct history histories[] = {
    {"the first connect succeeds: nothing was missed", {UP, {30, TICK, 0, 0, 0}}},
    {"the backbone restarts: hold, replay, and the clients only after the own replay is out",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {6010, SENDER_LIVE, HOLD, 8000, 0}, {7000, TICK, HOLD, 8000, 0}, {8000, TICK, REPLAY, 36000, 0},
            /* the second settle time is over, the replay is not acknowledged */
            {10500, TICK, 0, 36000, 0}, {11000, REPLAYED, 0, 10000, 0}, {11000, TICK, GAP, 0, 1000}}},
    {"the replay is out early: the others' replays are awaited for one more settle time",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {6010, SENDER_LIVE, HOLD, 8000, 0}, {8000, TICK, REPLAY, 36000, 0}, {8100, REPLAYED, 0, 10000, 0},
            {9999, TICK, 0, 10000, 0}, {10000, TICK, GAP, 0, 1000}}},
    {"the sender comes after the settle time: it replays at once",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {8000, TICK, 0, 36000, 0}, {20000, SENDER_LIVE, REPLAY, 36000, 0}, {20100, REPLAYED, 0, 22000, 0},
            {22000, TICK, GAP, 0, 1000}}},
    {"the sender never comes: the clients are told all the same",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {8000, TICK, 0, 36000, 0}, {35999, TICK, 0, 36000, 0}, {36000, TICK, GAP, 0, 1000}}},
    {"the sender is lost in its replay: the next one replays again",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {6010, SENDER_LIVE, HOLD, 8000, 0}, {8000, TICK, REPLAY, 36000, 0},
            {8500, SENDER_LOST, 0, 36000, 0}, {9000, SENDER_LIVE, REPLAY, 36000, 0},
            {9100, REPLAYED, 0, 11000, 0}, {11000, TICK, GAP, 0, 1000}}},
    {"the sender alone was away: no gap, no hold",
        {UP, {5000, SENDER_LOST, 0, 0, 0}, {6000, SENDER_LIVE, REPLAY, 0, 0}, {6100, REPLAYED, 0, 0, 0},
            {9000, TICK, 0, 0, 0}}},
    {"the listener alone was away: the sender goes on, one settle time",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0}, {8000, TICK, GAP, 0, 1000}}},
    {"the listener is lost again while settling: the settle time starts anew, the hold stays",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {6010, SENDER_LIVE, HOLD, 8000, 0}, {7000, LISTENER_LOST, HOLD, 0, 0}, {8000, TICK, HOLD, 0, 0},
            {9000, LISTENER_LIVE, HOLD, 11000, 0}, {11000, TICK, REPLAY, 36000, 0},
            {11100, REPLAYED, 0, 13000, 0}, {13000, TICK, GAP, 0, 4000}}},
    {"a flapping listener: cut short half a minute after its first return",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {7000, LISTENER_LOST, 0, 0, 0}, {36000, LISTENER_LIVE, 0, 36000, 0},
            {36010, SENDER_LIVE, REPLAY, 36000, 0}, {36010, TICK, GAP, 0, 31000}}},
    {"a return just in time takes its whole course",
        {UP, {5000, LISTENER_LOST, 0, 0, 0}, {5000, SENDER_LOST, 0, 0, 0}, {6000, LISTENER_LIVE, 0, 8000, 0},
            {7000, LISTENER_LOST, 0, 0, 0}, {35999, LISTENER_LIVE, 0, 37999, 0},
            {36010, SENDER_LIVE, HOLD, 37999, 0}, {37999, TICK, REPLAY, 44999, 0},
            {38000, REPLAYED, 0, 39999, 0}, {39999, TICK, GAP, 0, 30999}}},
    {"the first connect takes several attempts: settled in order, but no gap",
        {{50, ATTEMPT_FAILED, 0, 0, 0}, {100, ATTEMPT_FAILED, 0, 0, 0}, {200, LISTENER_LIVE, 0, 2200, 0},
            {210, SENDER_LIVE, HOLD, 2200, 0}, {2200, TICK, REPLAY, 30200, 0}, {2300, REPLAYED, 0, 4200, 0},
            {4200, TICK, 0, 0, 0}}},
    {"a resync is wanted meanwhile: that one is reported",
        {{50, ATTEMPT_FAILED, 0, 0, 0}, {200, LISTENER_LIVE, 0, 2200, 0}, {210, SENDER_LIVE, HOLD, 2200, 0},
            {300, RESYNC, HOLD, 2200, 0}, {2200, TICK, REPLAY, 30200, 0}, {2300, REPLAYED, 0, 4200, 0},
            {4200, TICK, GAP, 0, 200}}},
    {"the connection is lost before the first course is over: now clients may have missed something",
        {{50, ATTEMPT_FAILED, 0, 0, 0}, {200, LISTENER_LIVE, 0, 2200, 0}, {300, LISTENER_LOST, 0, 0, 0},
            {400, LISTENER_LIVE, 0, 2400, 0}, {410, SENDER_LIVE, HOLD, 2400, 0},
            {2400, TICK, REPLAY, 30200, 0}, {2500, REPLAYED, 0, 4400, 0}, {4400, TICK, GAP, 0, 400}}},
    {"a resync is wanted: after a settle time, and the next one not before half a minute",
        {UP, {5000, RESYNC, 0, 7000, 0}, {5001, RESYNC, 0, 7000, 0}, {7000, TICK, GAP, 0, 0},
            {8000, RESYNC, 0, 37000, 0}, {20000, TICK, 0, 37000, 0}, {37000, TICK, GAP, 0, 0}}},
    {"a resync is wanted and the sender reconnects: it is not held, and the resync is not early",
        {UP, {5000, RESYNC, 0, 7000, 0}, {7000, TICK, GAP, 0, 0}, {8000, RESYNC, 0, 37000, 0},
            {9000, SENDER_LOST, 0, 38000, 0}, {9500, SENDER_LIVE, REPLAY, 38000, 0},
            {9600, REPLAYED, 0, 37000, 0}, {12000, TICK, 0, 37000, 0}, {37000, TICK, GAP, 0, 0}}},
    {"a resync is wanted and the listener is lost: one report for both",
        {UP, {5000, RESYNC, 0, 7000, 0}, {6000, LISTENER_LOST, 0, 0, 0}, {6500, LISTENER_LIVE, 0, 8500, 0},
            {8500, TICK, GAP, 0, 1500}, {9000, TICK, 0, 0, 0}}},
};

static struct relay_recovery_decision run(struct relay_recovery *recovery, const struct step *step)
{
    uint64_t now = (uint64_t)(step->at_ms + 1) * CLOCK_MILLISECOND;
    switch (step->input) {
    case LISTENER_LIVE:
        return relay_recovery_listener_live(recovery, now);
    case LISTENER_LOST:
        return relay_recovery_listener_lost(recovery, true, "gone", now);
    case ATTEMPT_FAILED:
        return relay_recovery_listener_lost(recovery, false, "refused", now);
    case SENDER_LIVE:
        return relay_recovery_sender_live(recovery, now);
    case SENDER_LOST:
        return relay_recovery_sender_lost(recovery, now);
    case REPLAYED:
        return relay_recovery_replayed(recovery, now);
    case RESYNC:
        return relay_recovery_resync_wanted(recovery, "wanted", now);
    case TICK:
    case END:
        break;
    }
    return relay_recovery_tick(recovery, now);
}

static void test_histories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        struct relay_recovery recovery;
        relay_recovery_init(&recovery, SETTLE_MS * CLOCK_MILLISECOND, 1 * CLOCK_MILLISECOND);
        for (const struct step *step = histories[i].steps; step->input != END; step++) {
            struct relay_recovery_decision got = run(&recovery, step);
            unsigned decision = (got.hold ? HOLD : 0) | (got.replay ? REPLAY : 0) | (got.gap ? GAP : 0);
            unsigned timer_ms = got.timer_ns ? (unsigned)(got.timer_ns / CLOCK_MILLISECOND) - 1 : 0;
            unsigned gap_ms = got.gap ? (unsigned)(got.gap_ns / CLOCK_MILLISECOND) : 0;
            if (decision != step->decision || timer_ms != step->timer_ms || gap_ms != step->gap_ms)
                fail_msg("%s, step %zu at %u ms: decision %u, timer %u, gap %u", histories[i].name,
                    (size_t)(step - histories[i].steps), step->at_ms, decision, timer_ms, gap_ms);
        }
    }
}

static void ignore(struct relay_recovery_decision decision)
{
    (void)decision;
}

static void test_reports_the_first_reason(void **state)
{
    struct relay_recovery recovery;
    (void)state;
    relay_recovery_init(&recovery, 0, 1);
    ignore(relay_recovery_listener_live(&recovery, 2));
    ignore(relay_recovery_sender_live(&recovery, 3));
    ignore(relay_recovery_replayed(&recovery, 3));
    ignore(relay_recovery_listener_lost(&recovery, true, "first", 10));
    ignore(relay_recovery_listener_lost(&recovery, false, "second", 20));
    ignore(relay_recovery_listener_live(&recovery, 30));
    struct relay_recovery_decision got = relay_recovery_tick(&recovery, 30);
    assert_true(got.gap);
    assert_string_equal(got.gap_why, "first");
    assert_int_equal(got.gap_ns, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histories),
        cmocka_unit_test(test_reports_the_first_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
