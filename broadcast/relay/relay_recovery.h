/*
 * What has to happen after a gap, as a state machine. A gap is a time in which events of others may have been
 * missed. It begins when the listener is lost (or with the first failed attempt of all) and is settled in
 * this order:
 *
 *     listener lost   listener back       settle time over   own replay acknowledged, settle time over again
 *     AWAY            SETTLING            RETURNING          GAP is reported
 *                     sender is on HOLD   REPLAY
 *
 * The first settle time lets the other servers come back before the replay, the second one is for their
 * replays: a server that returned last starts that much later. Clients that were closed before would miss
 * what it has to say. A listener that is lost again starts this anew; RELAY_OVERDUE_SECONDS after its first
 * return it is cut short, so that clients on a flapping network are not kept stale for ever. A sender that
 * can't be had does not delay the report for longer either.
 *
 * A resync that is wanted although the connection held (another server lost events, an event was above our
 * limits) waits one settle time, holds nothing, and is reported at most once per RELAY_OVERDUE_SECONDS.
 *
 * Pure: no clock, no I/O. Each input returns a decision; only relay_recovery_tick reports a gap, so that no
 * input of the caller is interrupted by what the report leads to.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_RECOVERY_H
#define OPALD_BROADCAST_RELAY_RELAY_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>
#include "broadcast/relay/relay.h"
#include "shm/common/object.h"

#define RELAY_WHY_MAX 300

enum relay_recovery_state {
    /* nothing may have been missed */
    RELAY_RECOVERY_NONE,
    /* the listener is lost */
    RELAY_RECOVERY_AWAY,
    /* it is back; until the first settle time is over */
    RELAY_RECOVERY_SETTLING,
    /* own messages are being replayed, others' are awaited */
    RELAY_RECOVERY_RETURNING,
};

/* Plain data, owned by the caller; only the functions below change it. Times are monotonic nanoseconds. */
struct relay_recovery {
    enum relay_recovery_state state;
    uint64_t settle_ns;
    uint64_t opened_ns;
    bool listener_live;
    bool listener_was_live;
    bool sender_live;
    /* the sender is live and must not send yet */
    bool held;
    /* a replay began and is not acknowledged */
    bool replaying;
    /* the gap before the first connect: reported only if a resync is wanted besides */
    bool initial;
    /* the gap: from, to; and why */
    uint64_t since_ns;
    uint64_t end_ns;
    char why[RELAY_WHY_MAX];
    /* when the listener first came back in this gap; 0: not yet */
    uint64_t recovering_since_ns;
    /* end of the first and of the second settle time */
    uint64_t settled_ns;
    uint64_t resync_ns;
    /* report now, replayed or not */
    uint64_t give_up_ns;
    /* the last report */
    uint64_t reported_ns;
};

struct relay_recovery_decision {
    /* the sender must not send what it has (the state, not a change of it) */
    bool hold;
    /* send now; call relay_recovery_replayed when everything that waits at this moment is acknowledged or
     * given up */
    bool replay;
    /* events may have been lost: clients have to refetch. `gap_why` is valid until the next call. */
    bool gap;
    uint64_t gap_ns;
    const char *gap_why;
    /* call relay_recovery_tick at this time; 0: not needed */
    uint64_t timer_ns;
};

void relay_recovery_init(struct relay_recovery *recovery, uint64_t settle_ns, uint64_t now_ns);
MUST_CHECK struct relay_recovery_decision relay_recovery_listener_live(
    struct relay_recovery *recovery, uint64_t now_ns);
/* `was_live`: the connection was lost, not an attempt. */
MUST_CHECK struct relay_recovery_decision relay_recovery_listener_lost(
    struct relay_recovery *recovery, bool was_live, const char *why, uint64_t now_ns);
MUST_CHECK struct relay_recovery_decision relay_recovery_sender_live(
    struct relay_recovery *recovery, uint64_t now_ns);
MUST_CHECK struct relay_recovery_decision relay_recovery_sender_lost(
    struct relay_recovery *recovery, uint64_t now_ns);
/* Everything that a decision asked to replay is acknowledged or given up. */
MUST_CHECK struct relay_recovery_decision relay_recovery_replayed(
    struct relay_recovery *recovery, uint64_t now_ns);
/* Something was missed although the connection held: refetch soon. */
MUST_CHECK struct relay_recovery_decision relay_recovery_resync_wanted(
    struct relay_recovery *recovery, const char *why, uint64_t now_ns);
MUST_CHECK struct relay_recovery_decision relay_recovery_tick(
    struct relay_recovery *recovery, uint64_t now_ns);

#endif
