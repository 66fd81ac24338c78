/* The relay's two connections: opened, lost, watched, and what follows for what is sent and for the clients.
 * The decisions are those of relay_links, relay_recovery and relay_heartbeat; this acts on them. */
#include "broadcast/relay/relay_internal.h"

#include <stdio.h>
#include <sys/random.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"

bool relay_is_live(const struct relay *relay, enum relay_side side)
{
    return relay_links_is_live(&relay->links, side);
}

static bool relay_both_live(const struct relay *relay)
{
    return relay_is_live(relay, RELAY_LISTENER) && relay_is_live(relay, RELAY_SENDER);
}

static void relay_tell_state(struct relay *relay)
{
    enum backbone_state state = relay_links_state(&relay->links);
    if (relay->state_told && state == relay->state)
        return;
    relay->state = state;
    relay->state_told = true;
    relay->callbacks.state(relay->context, state);
}

/* ---- recovery ---- */

void relay_apply(struct relay *relay, struct relay_recovery_decision decision)
{
    relay->held = decision.hold;
    if (decision.timer_ns) {
        uint64_t now = clock_monotonic_ns();
        struct timeval after =
            clock_timeval_ns(decision.timer_ns > now ? decision.timer_ns - now + CLOCK_MILLISECOND : 0);
        event_add(relay->recover, &after);
    } else {
        event_del(relay->recover);
    }
    if (decision.replay)
        relay_outbound_replay(relay->outbound);
    if (decision.gap)
        relay->callbacks.gap(relay->context, decision.gap_ns, decision.gap_why);
}

void relay_on_recover(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = relay_from(context);
    (void)descriptor;
    (void)what;
    relay_apply(relay, relay_recovery_tick(&relay->recovery, clock_monotonic_ns()));
}

/* ---- heartbeat ---- */

static struct relay_heartbeat_facts relay_facts(const struct relay *relay)
{
    return (struct relay_heartbeat_facts){.listener_live = relay_is_live(relay, RELAY_LISTENER),
        .sender_live = relay_is_live(relay, RELAY_SENDER),
        .in_flight = relay_outbound_in_flight(relay->outbound),
        .reading = relay_inbound_reading(relay->inbound),
        .proven = relay_links_is_open(&relay->links)};
}

static void relay_beat(struct relay *relay)
{
    relay_outbound_control(
        relay->outbound, RELAY_CONTROL_KEY_HEARTBEAT, relay_heartbeat_next(&relay->heartbeat));
}

static void relay_arm_tick(struct relay *relay)
{
    uint64_t delay_ns = relay_heartbeat_delay(&relay->heartbeat, relay_facts(relay), clock_monotonic_ns());
    struct timeval after = clock_timeval_ns(delay_ns);
    event_add(relay->tick, &after);
}

static void relay_lost_silent(
    struct relay *relay, enum relay_side side, const char *silence, uint64_t silent_ns, const char *hint)
{
    char why[RELAY_WHY_MAX];
    snprintf(why, sizeof why, "%s for %.1f s%s%s", silence, (double)silent_ns / (double)CLOCK_SECOND,
        hint ? "; " : "", hint ? hint : "");
    relay_lost(relay, side, why);
}

void relay_on_tick(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = relay_from(context);
    (void)descriptor;
    (void)what;
    struct relay_heartbeat_decision decision =
        relay_heartbeat_tick(&relay->heartbeat, relay_facts(relay), clock_monotonic_ns());
    if (decision.sender_lost)
        relay_lost_silent(relay, RELAY_SENDER, decision.sender_lost, decision.sender_silent_ns, NULL);
    if (decision.listener_lost)
        relay_lost_silent(relay, RELAY_LISTENER, decision.listener_lost, decision.listener_silent_ns,
            decision.deaf ? relay->driver->deaf_hint : NULL);
    if (decision.probe)
        relay->driver->probe(relay->self);
    if (decision.beat)
        relay_beat(relay);
    relay_arm_tick(relay);
}

/* ---- connecting ---- */

static void relay_open_side(struct relay *relay, enum relay_side side)
{
    relay_links_opening(&relay->links, side);
    relay->driver->open(relay->self, side);
}

void relay_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = relay_from(context);
    (void)descriptor;
    (void)what;
    /* One timer a side; both may be due. */
    for (int side = 0; side < RELAY_SIDES; side++)
        if (!event_pending(relay->timers[side].retry, EV_TIMEOUT, NULL) &&
            relay_links_retry(&relay->links, (enum relay_side)side))
            relay_open_side(relay, (enum relay_side)side);
}

static void relay_listener_live(struct relay *relay, uint64_t now)
{
    bool returns = relay->links.listener_was_live;
    bool open_sender = relay_links_listener_live(&relay->links);
    log_write(
        LOG_INFO, relay->driver->logger, "Broadcaster listener connected to channel '%s'", relay->channel);
    if (returns)
        relay->callbacks.count(relay->context, BROADCAST_COUNT_RECONNECT, 1);
    relay->driver->read(relay->self, relay_inbound_reading(relay->inbound));
    relay_apply(relay, relay_recovery_listener_live(&relay->recovery, now));
    if (open_sender && !relay->closing)
        relay_open_side(relay, RELAY_SENDER);
}

static void relay_sender_live(struct relay *relay, uint64_t now)
{
    relay_links_sender_live(&relay->links);
    log_write(LOG_DEBUG, relay->driver->logger, "sender connected");
    relay_outbound_live(relay->outbound);
    relay_apply(relay, relay_recovery_sender_live(&relay->recovery, now));
    if (relay->driver->fetch_rows)
        relay->driver->fetch_rows(relay->self);
}

void relay_live(struct relay *relay, enum relay_side side)
{
    uint64_t now = clock_monotonic_ns();
    relay_heartbeat_live(&relay->heartbeat, side, now);
    if (side == RELAY_LISTENER)
        relay_listener_live(relay, now);
    else
        relay_sender_live(relay, now);
    relay_tell_state(relay);
    if (!relay_both_live(relay))
        return;
    relay_beat(relay); /* proves the way at once and ends the row of failures */
    relay_arm_tick(relay);
}

void relay_way_is_open(struct relay *relay)
{
    relay_links_came_back(&relay->links);
    relay_tell_state(relay);
    event_active(relay->pump, EV_TIMEOUT, 0);
}

static uint64_t relay_random(void)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = clock_monotonic_ns() * UINT64_C(0x9e3779b97f4a7c15);
    return random;
}

static void relay_after_loss(struct relay *relay, enum relay_side side, const struct relay_lost *lost)
{
    if (lost->parks_sender)
        event_del(relay->timers[RELAY_SENDER].retry);
    if (lost->action == RELAY_LOST_STAYS)
        log_write(LOG_ERROR, relay->driver->logger,
            "the backbone stays lost until a restart: reconnecting is switched off "
            "(OPAL_BROADCAST_RECONNECT_ENABLED)");
    else if (lost->action == RELAY_LOST_EXHAUSTED)
        log_write(LOG_ERROR, relay->driver->logger, BROADCAST_GIVING_UP, lost->attempt);
    relay_tell_state(relay);
    if (lost->action == RELAY_LOST_WAIT) {
        struct timeval after = clock_timeval_ns(lost->delay_ns);
        event_add(relay->timers[side].retry, &after);
    }
}

void relay_lost(struct relay *relay, enum relay_side side, const char *why)
{
    static const char *const side_names[RELAY_SIDES] = {
        [RELAY_LISTENER] = "listener", [RELAY_SENDER] = "sender"};
    uint64_t now = clock_monotonic_ns();
    struct relay_lost lost = relay_links_lost(&relay->links, side, relay_random());
    if (lost.action == RELAY_LOST_NOTHING)
        return;
    snprintf(relay->timers[side].why, sizeof relay->timers[side].why, "%s", why);
    relay->driver->close(relay->self, side);
    relay_heartbeat_lost(&relay->heartbeat);
    if (side == RELAY_SENDER) {
        relay_outbound_lost(relay->outbound, relay->closing);
        relay_inbound_ask_again(relay->inbound);
        relay_apply(relay, relay_recovery_sender_lost(&relay->recovery, now));
    }
    if (relay->closing)
        return;
    log_write(LOG_ERROR, relay->driver->logger, "Broadcaster %s error (attempt %u): %s", side_names[side],
        lost.attempt, relay->timers[side].why);
    if (side == RELAY_LISTENER)
        relay_apply(relay,
            relay_recovery_listener_lost(&relay->recovery, lost.was_live, relay->timers[side].why, now));
    relay_after_loss(relay, side, &lost);
}

void relay_connect(struct relay *relay)
{
    relay_tell_state(relay);
    relay_arm_tick(relay);
    relay_open_side(relay, RELAY_LISTENER);
}
