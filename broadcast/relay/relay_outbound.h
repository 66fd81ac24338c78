/*
 * This server's own messages on their way to the backbone: the replay buffer, its limits, what is logged and
 * counted of what it can't keep, and the confession to the other servers (a resync message) once it has
 * drained. The caller says when to send (relay_outbound_pump) and moves the bytes. Master's main thread only.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_OUTBOUND_H
#define OPALD_BROADCAST_RELAY_RELAY_OUTBOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "broadcast/backend/backend.h"

struct relay_outbound;

struct relay_outbound_hooks {
    /* Takes the message for sending; false: not now. Must not call back. */
    bool (*send)(void *context, struct slice message);
    /* A message went into flight with nothing else in flight. */
    void (*first_in_flight)(void *context);
    /* Everything that waited when relay_outbound_replay was called is acknowledged or given up. Also from
     * within that call. */
    void (*replayed)(void *context);
    /* A message became ready to be sent, or room for one: pump from the loop. */
    void (*ready)(void *context);
    void (*count)(void *context, enum broadcast_count what, uint64_t amount);
    /* The fate of a message with a token. */
    void (*acknowledged)(void *context, uint64_t token, bool ok);
};

enum relay_outbound_done { RELAY_OUTBOUND_NOTHING, RELAY_OUTBOUND_EVENT, RELAY_OUTBOUND_CONTROL };

/* Copies what it needs of `settings` and `hooks`; `logger` must outlive it. */
struct relay_outbound *relay_outbound_make(const struct broadcast_settings *settings, const char *logger,
    const struct relay_outbound_hooks *hooks, void *context);
void relay_outbound_free(struct relay_outbound *outbound);

/* The largest message, in bytes; UINT64_MAX until it is known. */
void relay_outbound_set_message_max(struct relay_outbound *outbound, uint64_t message_max);
uint64_t relay_outbound_message_max(const struct relay_outbound *outbound);

/* As broadcast_publish. `obstacle`: why nothing can be sent now, for the log; NULL when it can, or when it is
 * only held. */
MUST_CHECK int relay_outbound_publish(struct relay_outbound *outbound, struct slice topic, struct slice data,
    uint64_t token, const char *obstacle);
/* {"notifier_id": .., "topics": [], "data": {"<key>": <value>}}: dropped, not replayed, when the connection
 * dies first. */
void relay_outbound_control(struct relay_outbound *outbound, const char *key, uint64_t value);
/* Appends what surrounds the number in such a control message. */
void relay_outbound_control_template(
    const struct relay_outbound *outbound, const char *key, struct text *prefix, struct text *suffix);

/* The sender is live: longer queues are allowed than while it is away. */
void relay_outbound_live(struct relay_outbound *outbound);
/* It is lost: what was in flight waits again, in order, or is dropped when the replay buffer is off.
 * `closing`: keep and log nothing. */
void relay_outbound_lost(struct relay_outbound *outbound, bool closing);
/* Counts what waits now, for hooks.replayed. */
void relay_outbound_replay(struct relay_outbound *outbound);
/* Sends as much as hooks.send takes; `held`: control messages only. True: something was sent. */
bool relay_outbound_pump(struct relay_outbound *outbound, bool held);
/* The oldest message in flight is done; what kind it was. */
MUST_CHECK enum relay_outbound_done relay_outbound_acknowledged(struct relay_outbound *outbound);
/* As above, but the backbone will never take it: dropped, counted, logged. */
MUST_CHECK enum relay_outbound_done relay_outbound_refused(
    struct relay_outbound *outbound, const char *why, bool too_large);
/* Everything in flight is to be sent again on this connection: the backbone has taken none of it. */
void relay_outbound_send_again(struct relay_outbound *outbound);

bool relay_outbound_in_flight(const struct relay_outbound *outbound);
/* Own events that are not acknowledged. */
size_t relay_outbound_count(const struct relay_outbound *outbound);

#endif
