/*
 * Time limits of connections. Every class of deadline has one constant duration, so a new one always goes to
 * the end of its class's list and the list stays sorted by itself: setting, restarting and clearing cost a
 * few pointer stores, and one timer serves all connections of the worker. Worker's loop only.
 */
#ifndef OPALD_WORKER_NET_DEADLINE_H
#define OPALD_WORKER_NET_DEADLINE_H

#include <stdint.h>
#include <event2/event.h>

/* Clients that connect together, as all do after a restart, would be pinged together for ever. The first ping
 * of each is due at another of this many places in the second half of the interval; a later one is due an
 * interval after the answer to the one before. */
#define DEADLINE_FIRST_PINGS 32

enum deadline_class {
    DEADLINE_NONE,
    /* PROXY header and TLS handshake */
    DEADLINE_PREAMBLE,
    /* first byte to end of the request head */
    DEADLINE_HTTP_HEAD,
    DEADLINE_HTTP_BODY,
    /* between requests */
    DEADLINE_HTTP_IDLE,
    /* a publisher that waits for the backbone's acknowledgement */
    DEADLINE_BACKBONE,
    /* a refused handshake that is told later (refusal_pace.h) */
    DEADLINE_REFUSAL,
    /* the next ping is due */
    DEADLINE_PING,
    /* the answer to it */
    DEADLINE_PONG,
    /* the peer's close frame, after ours */
    DEADLINE_CLOSE,
    /* the end of the connection, after everything was sent */
    DEADLINE_LINGER,
    /* draining: for the head of a request that may be on its way */
    DEADLINE_FRESH,
    /* a queue of which nothing drained */
    DEADLINE_STALL,
    /* and those after it, see there */
    DEADLINE_FIRST_PING,
    DEADLINE_CLASSES = DEADLINE_FIRST_PING + DEADLINE_FIRST_PINGS,
};

/* Embedded in its owner; zero-initialise. */
struct deadline {
    struct deadline *next;
    struct deadline *previous;
    /* CLOCK_MONOTONIC */
    uint64_t due_ns;
    /* enum deadline_class; DEADLINE_NONE: in no list */
    uint8_t which;
};

struct deadlines;

/* `expired` is called from the loop with the deadline already cleared; it may set or clear any deadline and
 * free its owner. */
typedef void deadline_expired(void *context, enum deadline_class which, struct deadline *deadline);

struct deadlines *deadlines_open(struct event_base *base, deadline_expired *expired, void *context);
void deadlines_close(struct deadlines *deadlines);
/* Once per class, before its first use. At most a year; zero or less means the shortest time there is. */
void deadlines_set_duration(struct deadlines *deadlines, enum deadline_class which, double seconds);

/* Starts or restarts; a deadline is in one class at a time. DEADLINE_NONE clears. */
void deadline_set(struct deadlines *deadlines, struct deadline *deadline, enum deadline_class which);
void deadline_clear(struct deadlines *deadlines, struct deadline *deadline);

#endif
