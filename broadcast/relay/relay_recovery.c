#include "broadcast/relay/relay_recovery.h"

#include <stdio.h>

#include "shm/common/clock.h"

#define RELAY_OVERDUE_NS ((uint64_t)RELAY_OVERDUE_SECONDS * CLOCK_SECOND)
/* What the replay itself may take besides the two settle times. */
#define RELAY_REPLAY_NS (5 * CLOCK_SECOND)

void relay_recovery_init(struct relay_recovery *recovery, uint64_t settle_ns, uint64_t now_ns)
{
    *recovery = (struct relay_recovery){.settle_ns = settle_ns, .opened_ns = now_ns};
}

/* When the present state ends by itself. 0: only an input ends it. */
static uint64_t recovery_timer(const struct relay_recovery *recovery)
{
    if (recovery->state == RELAY_RECOVERY_SETTLING)
        return recovery->settled_ns;
    if (recovery->state != RELAY_RECOVERY_RETURNING)
        return 0;
    bool replayed = recovery->sender_live && !recovery->replaying;
    return replayed && recovery->resync_ns < recovery->give_up_ns ? recovery->resync_ns
                                                                  : recovery->give_up_ns;
}

static struct relay_recovery_decision recovery_decide(const struct relay_recovery *recovery)
{
    return (struct relay_recovery_decision){.hold = recovery->held, .timer_ns = recovery_timer(recovery)};
}

static struct relay_recovery_decision recovery_replay(struct relay_recovery *recovery, uint64_t now_ns)
{
    recovery->held = false;
    recovery->replaying = true;
    if (recovery->resync_ns < now_ns + recovery->settle_ns)
        recovery->resync_ns = now_ns + recovery->settle_ns;
    struct relay_recovery_decision decision = recovery_decide(recovery);
    decision.replay = true;
    return decision;
}

static void recovery_begin_gap(struct relay_recovery *recovery, uint64_t since_ns, const char *why)
{
    if (recovery->state != RELAY_RECOVERY_NONE)
        return;
    recovery->state = RELAY_RECOVERY_AWAY;
    recovery->since_ns = since_ns;
    recovery->recovering_since_ns = 0;
    snprintf(recovery->why, sizeof recovery->why, "%s", why);
}

struct relay_recovery_decision relay_recovery_listener_lost(
    struct relay_recovery *recovery, bool was_live, const char *why, uint64_t now_ns)
{
    recovery->listener_live = false;
    if (was_live)
        recovery_begin_gap(recovery, now_ns, why);
    else if (!recovery->listener_was_live)
        recovery_begin_gap(recovery, recovery->opened_ns, why);
    if (recovery->state != RELAY_RECOVERY_NONE)
        recovery->state = RELAY_RECOVERY_AWAY;
    recovery->initial = !recovery->listener_was_live;
    return recovery_decide(recovery);
}

struct relay_recovery_decision relay_recovery_listener_live(struct relay_recovery *recovery, uint64_t now_ns)
{
    recovery->listener_live = true;
    recovery->listener_was_live = true;
    if (recovery->state == RELAY_RECOVERY_NONE)
        return recovery_decide(recovery);
    recovery->state = RELAY_RECOVERY_SETTLING;
    recovery->end_ns = now_ns;
    if (!recovery->recovering_since_ns)
        recovery->recovering_since_ns = now_ns;
    bool overdue = now_ns - recovery->recovering_since_ns >= RELAY_OVERDUE_NS;
    recovery->settled_ns = overdue ? now_ns : now_ns + recovery->settle_ns;
    recovery->resync_ns = recovery->settled_ns;
    /* A return in time may take its course, or clients would be closed in the midst of the replays. */
    uint64_t course_ns = now_ns + 2 * recovery->settle_ns + RELAY_REPLAY_NS;
    recovery->give_up_ns = recovery->recovering_since_ns + RELAY_OVERDUE_NS;
    if (!overdue && recovery->give_up_ns < course_ns)
        recovery->give_up_ns = course_ns;
    return recovery_decide(recovery);
}

struct relay_recovery_decision relay_recovery_sender_live(struct relay_recovery *recovery, uint64_t now_ns)
{
    recovery->sender_live = true;
    /* Only after a gap: others have to come back as well before they can hear the replay. When the sender
     * alone was away they never left. */
    recovery->held = recovery->state == RELAY_RECOVERY_AWAY ||
                     (recovery->state == RELAY_RECOVERY_SETTLING && now_ns < recovery->settled_ns);
    return recovery->held ? recovery_decide(recovery) : recovery_replay(recovery, now_ns);
}

struct relay_recovery_decision relay_recovery_sender_lost(struct relay_recovery *recovery, uint64_t now_ns)
{
    (void)now_ns;
    recovery->sender_live = false;
    recovery->held = false;
    recovery->replaying = false;
    return recovery_decide(recovery);
}

struct relay_recovery_decision relay_recovery_replayed(struct relay_recovery *recovery, uint64_t now_ns)
{
    (void)now_ns;
    recovery->replaying = false;
    return recovery_decide(recovery);
}

struct relay_recovery_decision relay_recovery_resync_wanted(
    struct relay_recovery *recovery, const char *why, uint64_t now_ns)
{
    if (recovery->state != RELAY_RECOVERY_NONE) {
        recovery->initial = false; /* the gap that is due will be reported */
        return recovery_decide(recovery);
    }
    recovery_begin_gap(recovery, now_ns, why);
    recovery->state = RELAY_RECOVERY_RETURNING;
    recovery->recovering_since_ns = now_ns;
    recovery->end_ns = now_ns;
    recovery->resync_ns = now_ns + recovery->settle_ns;
    if (recovery->reported_ns && recovery->resync_ns < recovery->reported_ns + RELAY_OVERDUE_NS)
        recovery->resync_ns = recovery->reported_ns + RELAY_OVERDUE_NS;
    recovery->give_up_ns = now_ns + RELAY_OVERDUE_NS;
    if (recovery->give_up_ns < recovery->resync_ns)
        recovery->give_up_ns = recovery->resync_ns;
    return recovery_decide(recovery);
}

static struct relay_recovery_decision recovery_report(struct relay_recovery *recovery, uint64_t now_ns)
{
    bool initial = recovery->initial;
    recovery->state = RELAY_RECOVERY_NONE;
    recovery->initial = false;
    recovery->reported_ns = now_ns;
    struct relay_recovery_decision decision = recovery_decide(recovery);
    decision.gap = !initial;
    decision.gap_ns = recovery->end_ns - recovery->since_ns;
    decision.gap_why = recovery->why;
    return decision;
}

struct relay_recovery_decision relay_recovery_tick(struct relay_recovery *recovery, uint64_t now_ns)
{
    if (recovery->state == RELAY_RECOVERY_SETTLING && now_ns >= recovery->settled_ns) {
        recovery->state = RELAY_RECOVERY_RETURNING;
        if (recovery->held)
            return recovery_replay(recovery, now_ns);
    }
    bool replayed = recovery->sender_live && !recovery->replaying;
    if (recovery->state == RELAY_RECOVERY_RETURNING &&
        (now_ns >= recovery->give_up_ns || (replayed && now_ns >= recovery->resync_ns)))
        return recovery_report(recovery, now_ns);
    return recovery_decide(recovery);
}
