/*
 * The backbone that links servers, behind one interface. The master opens one; it knows nothing of workers or websockets.
 * Everything is non-blocking and driven by the event base given; callbacks come from that loop, in the master's main thread.
 */
#ifndef OPALD_BROADCAST_BROADCAST_H
#define OPALD_BROADCAST_BROADCAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <event2/event.h>
#include "broadcast/notification.h"
#include "shm/common/error.h"

enum broadcast_state {
    BROADCAST_CONNECTING,
    BROADCAST_UP,
    BROADCAST_GAP,  /* was up, is not */
    BROADCAST_LOST, /* given up (reconnecting is off, or the attempts are used up); final */
};

enum broadcast_count {
    BROADCAST_COUNT_SENT,        /* acknowledged by the backbone */
    BROADCAST_COUNT_SEND_FAILED, /* given up; each is logged */
    BROADCAST_COUNT_OWN,         /* own messages that came back */
    BROADCAST_COUNT_REJECTED,    /* not a notification; skipped */
    BROADCAST_COUNT_RECONNECT,
    BROADCAST_COUNT_TOO_LARGE,
};

struct broadcast_callbacks {
    /* An event of another server. Views are valid during the call. Returns false when it can't be taken now (the ring is
     * full): the backend keeps it, stops reading, and offers the same event again after broadcast_resume. */
    bool (*event)(void *context, const struct notification *notification);
    void (*state)(void *context, enum broadcast_state state);
    /* Events may have been lost: the clients of this host must refetch. */
    void (*gap)(void *context, uint64_t gap_ns, const char *why);
    void (*count)(void *context, enum broadcast_count what, uint64_t amount);
    void (*batch_end)(void *context); /* after a batch of event callbacks: wake whoever has to read them */
    /* What became of a message that was published with a token: `ok` when the backbone has acknowledged it, else it was given up (refused,
     * pushed out of a full queue). Once a message, in any order, also from within broadcast_publish and broadcast_close; what is unsent
     * at the close gets none. NULL: nobody asks. It must not call broadcast_publish. */
    void (*acknowledged)(void *context, uint64_t token, bool ok);
};

struct broadcast_settings {
    const char *uri;         /* kafka://h1:9092,h2:9092 | kafka+mock:// */
    const char *channel;     /* Kafka topic */
    const char *notifier_id; /* this server's, 32 hex digits */
    size_t event_max_bytes;
    unsigned json_max_depth;
    size_t queue_max_bytes; /* producer's bound */
    size_t queue_max_messages;
    double reconnect_backoff_min; /* seconds */
    double reconnect_backoff_max;
    int64_t reconnect_max_retries; /* failed attempts in a row after which to give up; 0: never */
    bool debug;                    /* librdkafka's own debug lines go to the log */

    /* Redis and Postgres, which keep nothing for a server that is away (broadcast/relay/relay.h). In each of these 0 stands for the
     * default, a negative number for "off" where that makes sense. */
    bool no_reconnect;          /* OPAL_BROADCAST_RECONNECT_ENABLED=false: a lost backbone stays lost */
    int64_t replay_buffer_size; /* messages kept while away (10000; negative: none) */
    double settle_seconds; /* from the return to the replay, and again to the resync (2; negative: none) */
    double heartbeat_deadline;   /* the longest a deaf connection may go unnoticed, seconds (60) */
    const char *postgres_schema; /* where large events are kept ("opald") */

    /* Kafka. The operator's settings of librdkafka, "key=value" a line, applied after ours; NULL: none. */
    const char *kafka_config;
    bool kafka_create_topic; /* make a missing topic */
};

/* Every backend's last line in the log; the number of attempts. The reference's words but for what is restarted. */
#define BROADCAST_GIVING_UP \
    "Broadcaster reconnect exhausted after %u attempts; giving up so the server can restart"

struct broadcast;

/* Checks scheme and URI without connecting; -1 with a text that lists the schemes. */
int broadcast_check_uri(const char *uri, struct error *err);
/* The same, and whether these settings can work at all; connects to nothing. -1 with the reason. */
int broadcast_check_settings(const struct broadcast_settings *settings, struct error *err);
/* Starts connecting; NULL with `err` set when the settings can't work. `settings` and its strings are copied. */
struct broadcast *broadcast_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err);
/* Hands one event, one message per topic, to the backbone: queued in memory (bounded), sent in order, retried until acknowledged.
 * -1 with errno ENOBUFS when the queue is full, EMSGSIZE when it can't be carried; the backend has logged and counted it.
 * `token`: 0, or the caller's name for the message, told to callbacks.acknowledged (several may share one); not after a -1. */
int broadcast_publish(struct broadcast *broadcast, struct slice topic, struct slice data, uint64_t token);
/* After an event callback returned false. */
void broadcast_resume(struct broadcast *broadcast);
/* The largest event that the backbone takes, in bytes (UINT64_MAX when unknown). To be held against the size of an event with its
 * websocket envelope, which is longer than any backbone's. When it changes, callbacks.state is called with the state as it is. */
uint64_t broadcast_message_max(const struct broadcast *broadcast);
/* Sends what is queued, at most `grace_ms`, then closes and frees. Returns the number of messages that could not be sent. */
size_t broadcast_close(struct broadcast *broadcast, int grace_ms);

/* ---- for the backends: one operations table each, registered in broadcast.c ---- */
struct broadcast_backend {
    const char *const *schemes; /* NULL-terminated */
    int (*check_uri)(const char *uri, struct error *err);
    void *(*open)(struct event_base *base, const struct broadcast_settings *settings,
        const struct broadcast_callbacks *callbacks, void *context, struct error *err);
    int (*publish)(void *self, struct slice topic, struct slice data, uint64_t token);
    void (*resume)(void *self);
    uint64_t (*message_max)(const void *self);
    size_t (*close)(void *self, int grace_ms);
    /* NULL: nothing to check beyond the URI. */
    int (*check_settings)(const struct broadcast_settings *settings, struct error *err);
};
extern const struct broadcast_backend broadcast_kafka;
extern const struct broadcast_backend broadcast_redis;
extern const struct broadcast_backend broadcast_postgres;

#endif
