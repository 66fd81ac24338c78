/* The inside of broadcast/relay/relay.h; only relay.c, relay_recovery.c and relay_inbound.c include it. */
#ifndef OPALD_BROADCAST_RELAY_RELAY_INTERNAL_H
#define OPALD_BROADCAST_RELAY_RELAY_INTERNAL_H

#include "shm/common/backoff.h"
#include "broadcast/relay/inbox.h"
#include "broadcast/relay/relay.h"
#include "broadcast/relay/replay_buffer.h"
#include "shm/common/json.h"
#include "shm/common/log.h"

#define RELAY_MAGIC                 0x72656c79u
#define RELAY_WHY_MAX               300
#define RELAY_CONTROL_KEY_HEARTBEAT "opald_heartbeat"
#define RELAY_CONTROL_KEY_ROW       "opald_row"

enum relay_link_state {
    RELAY_LINK_IDLE,    /* the sender before the listener is there; either side when reconnecting is off */
    RELAY_LINK_WAITING, /* until the backoff timer fires */
    RELAY_LINK_OPENING,
    RELAY_LINK_LIVE,
};

struct relay_link {
    enum relay_link_state state;
    struct backoff backoff;
    struct event *retry;
    char why[RELAY_WHY_MAX]; /* of the last failure */
};

struct relay {
    uint32_t magic;
    struct event_base *base;
    struct broadcast_callbacks callbacks;
    void *context;
    const struct relay_driver *driver;
    void *self;

    /* settings */
    char *channel;
    char *notifier_id;
    unsigned json_max_depth;
    size_t queue_max_bytes;
    size_t queue_max_messages; /* while the backbone is there */
    size_t replay_max;         /* while it is away */
    uint64_t settle_ns;
    bool no_reconnect;
    int64_t max_retries; /* 0: for ever */
    uint64_t message_max;

    struct relay_link links[RELAY_SIDES];
    enum broadcast_state state;
    bool state_told;
    bool was_up; /* both sides, ever */
    bool given_up;
    bool closing;

    /* outbound */
    struct replay_buffer *outbox;
    struct event
        *pump; /* sends in the next turn of the loop: one write for all that is published in this one */
    bool held; /* the sender waits for the settle time */
    uint64_t lost_messages; /* not yet told to the other servers */
    uint64_t progress_ns;   /* last acknowledgement, or when the first went into flight */
    struct text scratch;
    struct log_limiter limit_buffered;
    struct log_limiter limit_overflow;
    struct log_limiter limit_too_large;
    struct log_limiter limit_refused;

    /* inbound */
    struct inbox *inbox;
    struct notification_decoder *decoder;
    struct json_document control;
    bool stalled;      /* the event callback said no; waits for relay_resume */
    bool reading;      /* what driver->read was told last */
    bool batch_open;   /* events were passed on since the last batch_end */
    uint64_t heard_ns; /* last sign of life from the listener */
    struct log_limiter limit_rejected;

    /* gap and recovery */
    bool was_live; /* the listener, ever */
    uint64_t opened_ns;
    uint64_t gap_since_ns;        /* 0: nothing may have been missed */
    uint64_t gap_end_ns;          /* when the listener last came back */
    uint64_t recovering_since_ns; /* when it first came back in this gap; 0: not yet */
    uint64_t recover_at_ns;       /* end of the settle time */
    uint64_t resync_at_ns;        /* callbacks.gap not before this: the others replay until then */
    uint64_t give_up_ns;          /* callbacks.gap now, replayed or not */
    uint64_t resynced_ns;         /* the last callbacks.gap */
    size_t
        replay_left;  /* messages to be acknowledged before callbacks.gap; counted from the end of the hold */
    bool gap_initial; /* the first connect took more than one attempt */
    char gap_why[RELAY_WHY_MAX];
    struct event *recover;

    /* heartbeat */
    struct event *tick;
    uint64_t tick_ns;
    uint64_t ticked_ns;
    uint64_t heartbeat; /* number of the last one sent */
    uint64_t
        heartbeat_since_ns; /* the backbone has acknowledged one that we have not heard since then; 0: none */
};

/* relay.c */
void relay_pump(struct relay *relay);
void relay_schedule_pump(struct relay *relay);
void relay_count(struct relay *relay, enum broadcast_count what, uint64_t amount);
void relay_append_control(const struct relay *relay, struct text *out, const char *key, uint64_t value);

/* relay_recovery.c */
void relay_recovery_listener_live(struct relay *relay);
void relay_recovery_listener_lost(struct relay *relay, bool was_live, const char *why);
void relay_recovery_sender_live(struct relay *relay);
/* An own message is done, one way or the other. */
void relay_recovery_done(struct relay *relay);
/* Something was missed although the connection held: refetch soon. */
void relay_recovery_want_resync(struct relay *relay, const char *why);
void relay_recovery_on_timer(evutil_socket_t descriptor, short what, void *context);
void relay_heartbeat_send(struct relay *relay);
void relay_heartbeat_on_tick(evutil_socket_t descriptor, short what, void *context);

/* relay_inbound.c */
void relay_inbound_drain(struct relay *relay);
void relay_inbound_sender_lost(struct relay *relay);

#endif
