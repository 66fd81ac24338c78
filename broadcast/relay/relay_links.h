/*
 * The relay's two connections as a state machine: which one to open when, how long to wait after a failure,
 * when to give up. Pure: no clock, no I/O; the relay does what a decision says.
 *
 *     IDLE --open--> OPENING --live--> LIVE
 *       ^               |  lost         | lost
 *       |               v               |
 *       +--- parked --WAITING <---------+       WAITING --retry--> OPENING
 *
 * The listener comes first: a sender that publishes before would not hear its own heartbeat. While the
 * listener is away the sender is not reconnected (IDLE): both failing next to each other would only log
 * everything twice.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_LINKS_H
#define OPALD_BROADCAST_RELAY_RELAY_LINKS_H

#include <stdbool.h>
#include <stdint.h>
#include "broadcast/backend/backend.h"
#include "shm/common/backoff.h"
#include "broadcast/relay/relay.h"

enum relay_link_state { RELAY_LINK_IDLE, RELAY_LINK_WAITING, RELAY_LINK_OPENING, RELAY_LINK_LIVE };

struct relay_link {
    enum relay_link_state state;
    struct backoff backoff;
};

/* Plain data, owned by the caller; only the functions below change it. */
struct relay_links {
    struct relay_link sides[RELAY_SIDES];
    /* a lost backbone stays lost */
    bool no_reconnect;
    /* failures in a row after which to give up; 0: never */
    int64_t max_retries;
    double settle_seconds;
    /* the listener, ever */
    bool listener_was_live;
    /* both sides are live, and an own heartbeat has come back over them */
    bool open;
    /* one has come back since the sender is live: what it sends can be heard */
    bool sender_proven;
    /* that was so, ever */
    bool was_up;
    bool given_up;
};

enum relay_lost_action {
    /* the side was neither open nor opening: ignore */
    RELAY_LOST_NOTHING,
    /* call relay_links_retry for it after delay_ns */
    RELAY_LOST_WAIT,
    /* the listener's return opens it */
    RELAY_LOST_PARK,
    /* reconnecting is off */
    RELAY_LOST_STAYS,
    /* all attempts are used up */
    RELAY_LOST_EXHAUSTED,
    /* given up before */
    RELAY_LOST_FINAL,
};

struct relay_lost {
    enum relay_lost_action action;
    bool was_live;
    /* the listener only: the sender waited for a retry of its own and is parked now */
    bool parks_sender;
    /* failures in a row, this one too */
    unsigned attempt;
    uint64_t delay_ns;
};

/* Only the reconnect settings are read. */
void relay_links_init(struct relay_links *links, const struct broadcast_settings *settings);
bool relay_links_is_live(const struct relay_links *links, enum relay_side side);
/* The side is being opened: at the start, after relay_links_listener_live said so, after a retry. */
void relay_links_opening(struct relay_links *links, enum relay_side side);
/* The timer of `side` fired. True: open it. */
MUST_CHECK bool relay_links_retry(struct relay_links *links, enum relay_side side);
/* True: open the sender now. */
MUST_CHECK bool relay_links_listener_live(struct relay_links *links);
void relay_links_sender_live(struct relay_links *links);
/* `random`: any 64 random bits. */
MUST_CHECK struct relay_lost relay_links_lost(
    struct relay_links *links, enum relay_side side, uint64_t random);
/* Something came through on this side: the row of failures ends. To be connected alone proves nothing. */
void relay_links_proven(struct relay_links *links, enum relay_side side);
/* An own heartbeat came back: only now the backbone is up. Two connections alone prove nothing: behind a
 * pooler, or on two servers that don't know each other, all seems well and nothing arrives. */
void relay_links_came_back(struct relay_links *links);
bool relay_links_is_open(const struct relay_links *links);
/* Events may be sent: the sender is live and proven. */
bool relay_links_may_send(const struct relay_links *links);
/* What the server is told. */
enum backbone_state relay_links_state(const struct relay_links *links);

#endif
