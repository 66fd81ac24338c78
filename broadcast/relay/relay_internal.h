/* The inside of broadcast/relay/relay.h; only relay.c and relay_connections.c include it. */
#ifndef OPALD_BROADCAST_RELAY_RELAY_INTERNAL_H
#define OPALD_BROADCAST_RELAY_RELAY_INTERNAL_H

#include "broadcast/relay/relay.h"
#include "broadcast/relay/relay_heartbeat.h"
#include "broadcast/relay/relay_inbound.h"
#include "broadcast/relay/relay_links.h"
#include "broadcast/relay/relay_outbound.h"
#include "broadcast/relay/relay_recovery.h"

#define RELAY_MAGIC 0x72656c79u

struct relay_side_timer {
    struct event *retry;
    /* of the last failure */
    char why[RELAY_WHY_MAX];
};

struct relay {
    uint32_t magic;
    struct broadcast_callbacks callbacks;
    void *context;
    const struct relay_driver *driver;
    void *self;
    char *channel;

    struct relay_links links;
    struct relay_side_timer timers[RELAY_SIDES];
    enum backbone_state state;
    bool state_told;
    bool closing;

    struct relay_recovery recovery;
    struct event *recover;
    /* the sender waits for the settle time */
    bool held;

    struct relay_heartbeat heartbeat;
    struct event *tick;

    struct relay_inbound *inbound;
    struct relay_outbound *outbound;
    /* sends in the next turn of the loop: one write for all that is published in this one */
    struct event *pump;
};

static inline struct relay *relay_from(void *context)
{
    return object_cast(struct relay, RELAY_MAGIC, context);
}

/* ---- relay_connections.c ---- */

/* Does what the recovery decided: holds or releases the sender, arms the timer, reports the gap. */
void relay_apply(struct relay *relay, struct relay_recovery_decision decision);
/* The timers' callbacks, with the relay as their context. */
void relay_on_recover(evutil_socket_t descriptor, short what, void *context);
void relay_on_tick(evutil_socket_t descriptor, short what, void *context);
void relay_on_retry(evutil_socket_t descriptor, short what, void *context);
/* Opens the listener; the sender follows it. */
void relay_connect(struct relay *relay);
/* An own heartbeat came back. */
void relay_way_is_open(struct relay *relay);

#endif
