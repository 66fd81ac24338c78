/* Histories of the relay's two connections, and what is done at each step. Backoff 1 to 30 s, without its
 * random part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broadcast/relay/relay_links.h"
#include "shm/common/clock.h"

#define STEPS_MAX 24

enum input { END, OPENING, LIVE, LOST, RETRY, PROVEN, CAME_BACK };

struct step {
    enum input input;
    enum relay_side side;
    /* LIVE: the sender has to be opened. RETRY: this side has to be opened. */
    bool open;
    /* LOST */
    enum relay_lost_action action;
    unsigned attempt;
    unsigned delay_ms;
    bool parks_sender;
    enum backbone_state state;
};

struct history {
    const char *name;
    struct broadcast_settings settings;
    struct step steps[STEPS_MAX];
};

#define L RELAY_LISTENER
#define S RELAY_SENDER
#define OPEN(which, now) \
    { \
        .input = OPENING, .side = which, .state = BACKBONE_##now \
    }
#define ALIVE(which, opens, now) \
    { \
        .input = LIVE, .side = which, .open = opens, .state = BACKBONE_##now \
    }
#define FAIL(which, does, number, ms, now) \
    { \
        .input = LOST, .side = which, .action = RELAY_LOST_##does, .attempt = number, .delay_ms = ms, \
        .state = BACKBONE_##now \
    }
#define PARKS(does, number, ms, now) \
    { \
        .input = LOST, .action = RELAY_LOST_##does, .attempt = number, .delay_ms = ms, .parks_sender = true, \
        .state = BACKBONE_##now \
    }
#define AGAIN(which, opens, now) \
    { \
        .input = RETRY, .side = which, .open = opens, .state = BACKBONE_##now \
    }
#define PROOF(which, now) \
    { \
        .input = PROVEN, .side = which, .state = BACKBONE_##now \
    }
#define BACK(now) \
    { \
        .input = CAME_BACK, .state = BACKBONE_##now \
    }
#define CONNECTED \
    OPEN(L, CONNECTING), ALIVE(L, true, CONNECTING), OPEN(S, CONNECTING), ALIVE(S, false, CONNECTING), \
        BACK(UP)
#define BACKOFF_ONLY .reconnect_backoff_min = 1, .reconnect_backoff_max = 30
#define BACKOFF      BACKOFF_ONLY, .reconnect_enabled = true

static const struct history histories[] = {
    {"the listener first, then the sender", {BACKOFF, .settle_seconds = 2}, {CONNECTED}},
    {"the waits double until something came through", {BACKOFF},
        {OPEN(L, CONNECTING), FAIL(L, WAIT, 1, 500, CONNECTING), AGAIN(L, true, CONNECTING),
            FAIL(L, WAIT, 2, 1000, CONNECTING), AGAIN(L, true, CONNECTING), ALIVE(L, true, CONNECTING),
            FAIL(L, WAIT, 3, 2000, CONNECTING), AGAIN(L, true, CONNECTING), ALIVE(L, true, CONNECTING),
            PROOF(L, CONNECTING), FAIL(L, WAIT, 1, 500, CONNECTING)}},
    {"the sender's failures end with an acknowledgement, not with a connection", {BACKOFF},
        {CONNECTED, FAIL(S, WAIT, 1, 500, GAP), AGAIN(S, true, GAP), ALIVE(S, false, GAP), BACK(UP),
            FAIL(S, WAIT, 2, 1000, GAP), AGAIN(S, true, GAP), ALIVE(S, false, GAP), BACK(UP), PROOF(L, UP),
            FAIL(S, WAIT, 3, 2000, GAP), AGAIN(S, true, GAP), ALIVE(S, false, GAP), BACK(UP), PROOF(S, UP),
            FAIL(S, WAIT, 1, 500, GAP)}},
    {"once connected, no wait is longer than the settle time", {BACKOFF, .settle_seconds = 2},
        {CONNECTED, FAIL(L, WAIT, 1, 500, GAP), AGAIN(L, true, GAP), FAIL(L, WAIT, 2, 1000, GAP),
            AGAIN(L, true, GAP), FAIL(L, WAIT, 3, 1000, GAP), AGAIN(L, true, GAP),
            FAIL(L, WAIT, 4, 1000, GAP)}},
    {"both lost: the sender waits for the listener", {BACKOFF},
        {CONNECTED, FAIL(S, WAIT, 1, 500, GAP), PARKS(WAIT, 1, 500, GAP), AGAIN(S, false, GAP),
            AGAIN(L, true, GAP), ALIVE(L, true, GAP), OPEN(S, GAP), ALIVE(S, false, GAP), BACK(UP)}},
    {"connected, but nothing comes back: it is not up", {BACKOFF},
        {OPEN(L, CONNECTING), ALIVE(L, true, CONNECTING), OPEN(S, CONNECTING), ALIVE(S, false, CONNECTING),
            PROOF(S, CONNECTING), PROOF(L, CONNECTING), FAIL(L, WAIT, 1, 500, CONNECTING), BACK(CONNECTING)}},
    {"the sender is lost after the listener", {BACKOFF},
        {CONNECTED, FAIL(L, WAIT, 1, 500, GAP), FAIL(S, PARK, 1, 500, GAP), AGAIN(L, true, GAP),
            ALIVE(L, true, GAP)}},
    {"a loss that is told twice counts once", {BACKOFF},
        {CONNECTED, FAIL(S, WAIT, 1, 500, GAP), FAIL(S, NOTHING, 0, 0, GAP)}},
    {"all attempts are used up", {BACKOFF, .reconnect_max_retries = 2},
        {OPEN(L, CONNECTING), FAIL(L, WAIT, 1, 500, CONNECTING), AGAIN(L, true, CONNECTING),
            FAIL(L, EXHAUSTED, 2, 1000, LOST), AGAIN(L, false, LOST)}},
    {"the sender's attempts are used up: final for both", {BACKOFF, .reconnect_max_retries = 1},
        {CONNECTED, FAIL(S, EXHAUSTED, 1, 500, LOST), FAIL(L, FINAL, 1, 500, LOST)}},
    {"reconnecting is off: the first connect is tried for ever, a lost backbone stays lost",
        {BACKOFF_ONLY, .reconnect_enabled = false},
        {OPEN(L, CONNECTING), FAIL(L, WAIT, 1, 500, CONNECTING), AGAIN(L, true, CONNECTING),
            ALIVE(L, true, CONNECTING), OPEN(S, CONNECTING), ALIVE(S, false, CONNECTING), BACK(UP),
            FAIL(S, STAYS, 1, 500, LOST)}},
};

static bool run(struct relay_links *links, const struct step *step, struct relay_lost *lost)
{
    switch (step->input) {
    case OPENING:
        relay_links_opening(links, step->side);
        break;
    case LIVE:
        if (step->side == RELAY_LISTENER)
            return relay_links_listener_live(links);
        relay_links_sender_live(links);
        break;
    case LOST:
        *lost = relay_links_lost(links, step->side, 0);
        break;
    case RETRY:
        return relay_links_retry(links, step->side);
    case PROVEN:
        relay_links_proven(links, step->side);
        break;
    case CAME_BACK:
        relay_links_came_back(links);
        break;
    case END:
        break;
    }
    return false;
}

/* Events wait until a heartbeat has come back since the sender is live; the listener alone being away
 * holds up nothing. */
static void test_when_events_may_be_sent(void **state)
{
    struct relay_links links;
    struct relay_lost lost;
    (void)state;
    relay_links_init(&links, &(struct broadcast_settings){BACKOFF});
    assert_true(relay_links_listener_live(&links));
    relay_links_sender_live(&links);
    assert_false(relay_links_may_send(&links));
    relay_links_came_back(&links);
    assert_true(relay_links_may_send(&links));
    lost = relay_links_lost(&links, RELAY_LISTENER, 0);
    assert_true(lost.was_live && relay_links_may_send(&links));
    assert_false(relay_links_listener_live(&links));
    assert_true(relay_links_may_send(&links));
    lost = relay_links_lost(&links, RELAY_SENDER, 0);
    assert_true(lost.was_live && !relay_links_may_send(&links));
    relay_links_sender_live(&links);
    assert_false(relay_links_may_send(&links));
    relay_links_came_back(&links);
    assert_true(relay_links_may_send(&links));
}

static void test_histories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        struct relay_links links;
        relay_links_init(&links, &histories[i].settings);
        for (const struct step *step = histories[i].steps; step->input != END; step++) {
            struct relay_lost lost = {.action = RELAY_LOST_NOTHING};
            bool open = run(&links, step, &lost);
            unsigned delay_ms = (unsigned)(lost.delay_ns / CLOCK_MILLISECOND);
            enum backbone_state now = relay_links_state(&links);
            if (open != step->open || lost.action != step->action || lost.attempt != step->attempt ||
                delay_ms != step->delay_ms || lost.parks_sender != step->parks_sender || now != step->state)
                fail_msg("%s, step %zu: open %d, action %d, attempt %u, delay %u ms, parks %d, state %d",
                    histories[i].name, (size_t)(step - histories[i].steps), open, lost.action, lost.attempt,
                    delay_ms, lost.parks_sender, now);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histories),
        cmocka_unit_test(test_when_events_may_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
