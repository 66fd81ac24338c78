/*
 * What the backbones that keep nothing (Redis PUBLISH, Postgres NOTIFY) have in common: two connections, each
 * with its own reconnects; own messages kept until they are acknowledged; noticing deafness; and what has to
 * happen after a gap.
 *
 *     broadcast_publish -> replay buffer -> SENDER -> backbone -> LISTENER -> decode -> inbox -> event
 *                          ^ acknowledged <-'                                 own: dropped, heartbeats noted
 *
 * The parts: relay_outbound (up to the sender), relay_inbound (from the listener on), and three state
 * machines without I/O: relay_links (when to connect), relay_recovery (what follows a gap, and the order of
 * it), relay_heartbeat (who is deaf).
 *
 * Guarantees
 *  - Own events reach the backbone at least once and in order, as long as the replay buffer's bounds hold. A
 *    message is sent twice only if the sender's connection died after the backbone had taken it and before
 *    its acknowledgement was read: then that message and those in flight behind it are sent again, in order.
 *    While connections hold, exactly once.
 *  - What is pushed out of a full buffer, or refused by the backbone for good, is counted and logged, and
 *    once the buffer has drained the other opald servers are asked (a control message) to have their clients
 *    refetch.
 *  - Others' events arrive at most once and in order on one listener connection. Whatever may have been
 *    missed because the listener was away ends in callbacks.gap. A listener that lives but hears nothing is
 *    noticed within `heartbeat_deadline`.
 *
 * After a gap: wait `settle_seconds` (other servers have to come back first, or they miss the replay; for the
 * same reason a server that was connected once waits no longer than that between attempts), replay in order,
 * wait as long again for the others' replays, then callbacks.gap. After a first connect that took more than
 * one attempt the replay waits in the same way, but there is no callbacks.gap: whether clients were served
 * before it is the caller's knowledge.
 *
 * Control messages are notifications with no topics: every other kind of server accepts them without an
 * effect.
 *   to ourselves: is the way through the backbone open?
 *     {"notifier_id": "..", "topics": [], "data": {"opald_heartbeat": 7}}
 *   some of my events are lost (notification.h)
 *     {"notifier_id": "..", "topics": [], "data": null, "opald_resync": "why"}
 *   the real message is in that row (Postgres)
 *     {"notifier_id": "..", "topics": [], "data": {"opald_row": 42}}
 *
 * Master's main thread only. The driver (redis.c, postgres.c) does the I/O; neither side frees the other
 * inside a call.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_H
#define OPALD_BROADCAST_RELAY_RELAY_H

#include <event2/event.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

enum relay_side { RELAY_LISTENER, RELAY_SENDER };
#define RELAY_SIDES 2

#define RELAY_OVERDUE_SECONDS 30

struct relay_driver {
    /* "opald.broadcast.redis" */
    const char *logger;
    /* NULL, or what may be the reason when heartbeats are acknowledged but not delivered, and the way out */
    const char *deaf_hint;
    /* Starts to connect; ends in relay_live or relay_lost, never inside this call, and in limited time. */
    void (*open)(void *self, enum relay_side side);
    /* Drops the connection, or the attempt, at once and silently. Nothing happens when there is none. */
    void (*close)(void *self, enum relay_side side);
    /* Takes the message for sending. False: not now (enough is in flight); the relay asks again after the
     * next acknowledgement. May call nothing of the relay. */
    bool (*send)(void *self, struct slice message);
    /* after one or more sends */
    void (*flush)(void *self);
    /* off: deliver no further message from the listener until on */
    void (*read)(void *self, bool on);
    /* make the other end of the listener's connection say something */
    void (*probe)(void *self);
    /* NULL: the backend has no rows. There are rows to be asked for on the sender's connection
     * (relay_next_row). */
    void (*fetch_rows)(void *self);
    /* Only while closing, when the loop does not run any more: waits for the sender's descriptor at most
     * `timeout_ms` and does its I/O. */
    void (*wait)(void *self, int timeout_ms);
};

struct relay;

/* Copies what it needs of `settings`. */
struct relay *relay_make(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, const struct relay_driver *driver,
    void *self);
void relay_start(struct relay *relay);
/* Sends what is queued (when the sender is there) for at most `grace_ms`, closes both sides, frees; returns
 * how many own events were not acknowledged. */
size_t relay_close(struct relay *relay, int grace_ms);

/* ---- the outside: what struct broadcast_backend wants */
MUST_CHECK int relay_publish(struct relay *relay, struct slice topic, struct slice data, uint64_t token);
void relay_resume(struct relay *relay);
/* The largest message, in bytes; UINT64_MAX until the driver knows. */
void relay_set_message_max(struct relay *relay, uint64_t message_max);
uint64_t relay_message_max(const struct relay *relay);

/* ---- the driver reports */
void relay_live(struct relay *relay, enum relay_side side);
/* The attempt failed or the connection died: `why` is for people, without secrets. Calls driver->close for
 * the side. */
void relay_lost(struct relay *relay, enum relay_side side, const char *why);
/* Bytes came in on the listener: it is not dead. */
void relay_heard(struct relay *relay);
/* One message of the channel. True: go on; false: stop reading until driver->read(on). The message itself is
 * taken in either case. */
MUST_CHECK bool relay_received(struct relay *relay, struct slice message);
/* After the messages of one read. */
void relay_batch_end(struct relay *relay);
/* The oldest message in flight is done. False: there was none; the driver must drop the connection. */
MUST_CHECK bool relay_acknowledged(struct relay *relay);
/* The backbone will never take the oldest in flight (not a matter of the connection): dropped, counted,
 * logged. False as above. */
MUST_CHECK bool relay_refused(struct relay *relay, const char *why, bool too_large);
/* Everything in flight is to be sent again on the same connection: the backbone has taken none of it. */
void relay_send_again(struct relay *relay);

/* Rows (Postgres): the next one to ask for; its content (an absent slice: there is none). */
MUST_CHECK bool relay_next_row(struct relay *relay, uint64_t *row);
void relay_row(struct relay *relay, uint64_t row, struct slice message);
/* Appends the control message that points to a row: prefix, then the digits, then suffix. */
void relay_row_template(const struct relay *relay, struct text *prefix, struct text *suffix);

/* How long deafness may go unnoticed, as the settings have it. */
uint64_t relay_deadline_ns(const struct broadcast_settings *settings);
bool relay_is_live(const struct relay *relay, enum relay_side side);

#endif
