/*
 * Gaps and deafness.
 *
 * A gap is a time in which events of others may have been missed. It begins when the listener is lost (or with the first failed attempt of all), and
 * is settled in this order:
 *
 *     listener lost     listener back        settle time over        own replay done, settle time over again
 *     gap_since_ns      gap_end_ns           hold released           callbacks.gap
 *
 * The second settle time is for the others' replays: whoever returned last among them starts that much later. Clients that were closed before would
 * miss what it has to say.
 *
 * Deafness has three faces, each with its own proof of life:
 *   the listener's connection is dead    -> driver->probe makes the other end answer; nothing heard for long: lost
 *   it lives but nothing is delivered    -> a heartbeat that the backbone acknowledged to the sender does not arrive: lost
 *   the sender's connection is dead      -> something in flight and no acknowledgement for long: lost
 * "Long" is three quarters of the deadline, looked at four times per deadline: so the deadline holds.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "broadcast/relay/relay_internal.h"
#include "shm/common/clock.h"

#define RELAY_OVERDUE_NS ((uint64_t)RELAY_OVERDUE_SECONDS * CLOCK_SECOND)
/* What the replay itself may take beside the two settle times. */
#define RELAY_REPLAY_NS (5 * CLOCK_SECOND)
/* A resync that another server asked for comes at most this often. */
#define RELAY_RESYNC_LEAST_NS RELAY_OVERDUE_NS

static void recovery_arm(struct relay *relay, uint64_t at_ns)
{
    uint64_t now = clock_monotonic_ns();
    struct timeval after = clock_timeval_ns(at_ns > now ? at_ns - now + CLOCK_MILLISECOND : 0);
    event_add(relay->recover, &after);
}

static void recovery_begin_gap(struct relay *relay, uint64_t since_ns, const char *why)
{
    if (relay->gap_since_ns)
        return;
    relay->gap_since_ns = since_ns;
    relay->recovering_since_ns = 0;
    snprintf(relay->gap_why, sizeof relay->gap_why, "%s", why);
}

static bool recovery_is_overdue(const struct relay *relay, uint64_t now)
{
    return relay->recovering_since_ns && now - relay->recovering_since_ns >= RELAY_OVERDUE_NS;
}

void relay_recovery_listener_lost(struct relay *relay, bool was_live, const char *why)
{
    uint64_t now = clock_monotonic_ns();
    relay->heartbeat_since_ns = 0;
    if (was_live)
        recovery_begin_gap(relay, now, why);
    else if (!relay->was_live)
        recovery_begin_gap(relay, relay->opened_ns, why);
    relay->gap_initial = !relay->was_live;
}

void relay_recovery_listener_live(struct relay *relay)
{
    uint64_t now = clock_monotonic_ns();
    if (!relay->gap_since_ns)
        return;
    relay->gap_end_ns = now;
    if (!relay->recovering_since_ns)
        relay->recovering_since_ns = now;
    bool overdue = recovery_is_overdue(relay, now);
    relay->recover_at_ns = overdue ? now : now + relay->settle_ns;
    relay->resync_at_ns = relay->recover_at_ns;
    /* A return in time may take its course, or clients would be closed in the midst of the replays. */
    uint64_t course_ns = now + 2 * relay->settle_ns + RELAY_REPLAY_NS;
    relay->give_up_ns = relay->recovering_since_ns + RELAY_OVERDUE_NS;
    if (!overdue && relay->give_up_ns < course_ns)
        relay->give_up_ns = course_ns;
    recovery_arm(relay, relay->recover_at_ns);
}

static void recovery_release(struct relay *relay)
{
    size_t count = replay_buffer_count(relay->outbox);
    relay->held = false;
    relay->replay_left = count;
    relay->resync_at_ns = clock_monotonic_ns() + relay->settle_ns;
    if (count)
        log_write(
            LOG_INFO, relay->driver->logger, "Replaying %zu buffered broadcast(s) after recovery", count);
    relay_schedule_pump(relay);
}

void relay_recovery_sender_live(struct relay *relay)
{
    /* Only after a gap: others have to come back as well before they can hear the replay. When the sender alone was away they never left. */
    if (relay->gap_since_ns &&
        (!relay_is_live(relay, RELAY_LISTENER) || clock_monotonic_ns() < relay->recover_at_ns)) {
        relay->held = true;
        return;
    }
    recovery_release(relay);
    if (relay->gap_since_ns)
        recovery_arm(relay, 0);
}

/* Tries to finish; otherwise leaves it to whatever comes next (an acknowledgement, the timer, the next connect). */
static void recovery_advance(struct relay *relay)
{
    uint64_t now = clock_monotonic_ns();
    if (!relay_is_live(relay, RELAY_LISTENER))
        return;
    if (now < relay->recover_at_ns) {
        if (relay->held || relay->gap_since_ns)
            recovery_arm(relay, relay->recover_at_ns);
        return;
    }
    if (relay->held && relay_is_live(relay, RELAY_SENDER))
        recovery_release(relay);
    if (!relay->gap_since_ns)
        return;
    bool replayed = relay_is_live(relay, RELAY_SENDER) && !relay->held && !relay->replay_left;
    /* A sender that can't be had must not keep this host's clients stale. */
    if (now < relay->give_up_ns && (!replayed || now < relay->resync_at_ns)) {
        bool soon = replayed && relay->resync_at_ns < relay->give_up_ns;
        recovery_arm(relay, soon ? relay->resync_at_ns : relay->give_up_ns);
        return;
    }
    uint64_t gap_ns = relay->gap_end_ns > relay->gap_since_ns ? relay->gap_end_ns - relay->gap_since_ns : 0;
    relay->gap_since_ns = 0;
    relay->recovering_since_ns = 0;
    relay->resynced_ns = now;
    event_del(relay->recover);
    if (relay->gap_initial) {
        relay->gap_initial = false;
        return;
    }
    relay->callbacks.gap(relay->context, gap_ns, relay->gap_why);
}

void relay_recovery_done(struct relay *relay)
{
    if (relay->replay_left && --relay->replay_left == 0 && relay->gap_since_ns && !relay->closing)
        recovery_arm(relay, 0);
}

void relay_recovery_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    recovery_advance(context);
}

void relay_recovery_want_resync(struct relay *relay, const char *why)
{
    uint64_t now = clock_monotonic_ns();
    if (relay->gap_since_ns) {
        relay->gap_initial = false; /* the one that is due will be told */
        return;
    }
    recovery_begin_gap(relay, now, why);
    relay->recovering_since_ns = now;
    relay->gap_end_ns = now;
    relay->give_up_ns = now + RELAY_OVERDUE_NS;
    relay->recover_at_ns = now + relay->settle_ns;
    if (relay->resynced_ns && relay->recover_at_ns < relay->resynced_ns + RELAY_RESYNC_LEAST_NS)
        relay->recover_at_ns = relay->resynced_ns + RELAY_RESYNC_LEAST_NS;
    recovery_arm(relay, relay->recover_at_ns);
}

/* ---- heartbeat ---- */

void relay_heartbeat_send(struct relay *relay)
{
    size_t dropped;
    text_clear(&relay->scratch);
    relay_append_control(relay, &relay->scratch, RELAY_CONTROL_KEY_HEARTBEAT, ++relay->heartbeat);
    if (replay_buffer_append(relay->outbox, text_slice(&relay->scratch), true, &dropped))
        relay_schedule_pump(relay);
}

static void heartbeat_fail(
    struct relay *relay, enum relay_side side, const char *format, uint64_t since_ns, uint64_t now)
{
    char why[RELAY_WHY_MAX];
    char seconds[32];
    snprintf(seconds, sizeof seconds, "%.1f", (double)(now - since_ns) / (double)CLOCK_SECOND);
    snprintf(why, sizeof why, "%s for %s s", format, seconds);
    relay_lost(relay, side, why);
}

void relay_heartbeat_on_tick(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = context;
    uint64_t now = clock_monotonic_ns();
    uint64_t limit = relay->tick_ns * 3;
    /* This process itself stood still (stopped, or the machine slept): silence proves nothing about the backbone. The answers that wait in the
     * sockets get their turn first. */
    bool stood_still = now - relay->ticked_ns > 2 * relay->tick_ns;
    assert(relay->magic == RELAY_MAGIC);
    (void)descriptor;
    (void)what;
    relay->ticked_ns = now;
    if (stood_still || !relay->reading || relay->stalled) {
        relay->heard_ns = now;
        if (relay->heartbeat_since_ns)
            relay->heartbeat_since_ns = now;
    }
    if (stood_still)
        relay->progress_ns = now;
    if (relay_is_live(relay, RELAY_SENDER) && replay_buffer_in_flight(relay->outbox) &&
        now - relay->progress_ns >= limit)
        heartbeat_fail(relay, RELAY_SENDER, "no acknowledgement", relay->progress_ns, now);
    if (relay_is_live(relay, RELAY_LISTENER)) {
        if (now - relay->heard_ns >= limit)
            heartbeat_fail(relay, RELAY_LISTENER, "no sign of life", relay->heard_ns, now);
        else if (relay->heartbeat_since_ns && now - relay->heartbeat_since_ns >= limit)
            heartbeat_fail(relay, RELAY_LISTENER,
                "deaf: the backbone took our heartbeat but did not deliver it", relay->heartbeat_since_ns,
                now);
        else
            relay->driver->probe(relay->self);
    }
    if (relay_is_live(relay, RELAY_LISTENER) && relay_is_live(relay, RELAY_SENDER))
        relay_heartbeat_send(relay);
}
