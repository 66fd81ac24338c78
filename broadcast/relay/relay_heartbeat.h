/*
 * Noticing deafness. It has three forms, each with its own proof of life:
 *
 *   the listener's connection is dead    probes make the other end answer; nothing was heard for long: lost
 *   it lives, but delivers nothing       the backbone acknowledged a heartbeat, which does not arrive: lost
 *   the sender's connection is dead      something is in flight, not acknowledged for long: lost
 *
 * "Long" is three quarters of the deadline, checked four times per deadline, so the deadline holds. Silence
 * while this process did not read (the ring was full) or did not run (stopped, the machine slept) proves
 * nothing about the backbone. Until the first heartbeat has come back over two fresh connections, ticks come
 * each second, and five seconds are long: a way that carries nothing is found at once.
 *
 * Pure: no clock, no I/O.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_HEARTBEAT_H
#define OPALD_BROADCAST_RELAY_RELAY_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>
#include "broadcast/relay/relay.h"
#include "shm/common/object.h"

/* Plain data, owned by the caller; only the functions below change it. Times are monotonic nanoseconds. */
struct relay_heartbeat {
    /* between two ticks */
    uint64_t tick_ns;
    /* when the next tick is due */
    uint64_t due_ns;
    /* the last sign of life from the listener */
    uint64_t heard_ns;
    /* the last acknowledgement, or when the first message after a pause was sent */
    uint64_t progress_ns;
    /* since when a heartbeat that the backbone has acknowledged is missing; 0: none is */
    uint64_t missing_since_ns;
    /* of the last heartbeat sent */
    uint64_t number;
};

/* What the relay knows at a tick. */
struct relay_heartbeat_facts {
    bool listener_live;
    bool sender_live;
    /* the sender has sent something that is not acknowledged */
    bool in_flight;
    /* the listener's messages are being read */
    bool reading;
    /* an own heartbeat has come back over these two connections */
    bool proven;
};

struct relay_heartbeat_decision {
    /* NULL, or why the connection has to be given up, without the time */
    const char *sender_lost;
    const char *listener_lost;
    /* the listener is lost because it lives and hears nothing */
    bool deaf;
    uint64_t sender_silent_ns;
    uint64_t listener_silent_ns;
    /* make the other end of the listener's connection say something */
    bool probe;
    /* send a heartbeat */
    bool beat;
};

void relay_heartbeat_init(struct relay_heartbeat *heartbeat, uint64_t deadline_ns, uint64_t now_ns);
/* A connection begins. */
void relay_heartbeat_live(struct relay_heartbeat *heartbeat, enum relay_side side, uint64_t now_ns);
/* Either connection ended: a heartbeat that is missing is not expected any more. */
void relay_heartbeat_lost(struct relay_heartbeat *heartbeat);
/* Bytes came in on the listener. */
void relay_heartbeat_heard(struct relay_heartbeat *heartbeat, uint64_t now_ns);
/* The sender got an acknowledgement, or sent something with nothing else in flight. */
void relay_heartbeat_progress(struct relay_heartbeat *heartbeat, uint64_t now_ns);
/* The backbone has acknowledged a heartbeat while the listener was live: it has to arrive. */
void relay_heartbeat_acknowledged(struct relay_heartbeat *heartbeat, uint64_t now_ns);
/* It arrived. */
void relay_heartbeat_arrived(struct relay_heartbeat *heartbeat);
/* Reading from the listener was switched on or off. */
void relay_heartbeat_reading_changed(struct relay_heartbeat *heartbeat, uint64_t now_ns);
/* The number of the next heartbeat. */
uint64_t relay_heartbeat_next(struct relay_heartbeat *heartbeat);
/* The timer of relay_heartbeat_delay fired. */
MUST_CHECK struct relay_heartbeat_decision relay_heartbeat_tick(
    struct relay_heartbeat *heartbeat, struct relay_heartbeat_facts facts, uint64_t now_ns);
/* How long from now to the next tick: to be asked after each tick and when both connections are live. */
MUST_CHECK uint64_t relay_heartbeat_delay(
    struct relay_heartbeat *heartbeat, struct relay_heartbeat_facts facts, uint64_t now_ns);

#endif
