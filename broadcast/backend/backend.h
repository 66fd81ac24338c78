/*
 * What each backbone is made of (kafka, redis, postgres): the settings that it gets, what it reports, and the
 * operations table by which broadcast/broadcast.c reaches it. Nothing here knows a particular backbone.
 * Everything is non-blocking and driven by the event base given; callbacks come from that loop, in the
 * master's main thread.
 */
#ifndef OPALD_BROADCAST_BACKEND_BACKEND_H
#define OPALD_BROADCAST_BACKEND_BACKEND_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "broadcast/backend/notification.h"
#include "shm/common/backbone_state.h"
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

enum broadcast_count {
    /* acknowledged by the backbone */
    BROADCAST_COUNT_SENT,
    /* given up; each is logged */
    BROADCAST_COUNT_SEND_FAILED,
    /* own messages that came back */
    BROADCAST_COUNT_OWN,
    /* not a notification; skipped */
    BROADCAST_COUNT_REJECTED,
    BROADCAST_COUNT_RECONNECT,
    BROADCAST_COUNT_TOO_LARGE,
};

struct broadcast_callbacks {
    /* An event of another server. Views are valid during the call. Returns false when it can't be taken now
     * (the ring is full): the backend keeps it, stops reading, and offers the same event again after
     * broadcast_resume. */
    bool (*event)(void *context, const struct notification *notification);
    void (*state)(void *context, enum backbone_state state);
    /* Events may have been lost: the clients of this host must refetch. */
    void (*gap)(void *context, uint64_t gap_ns, const char *why);
    void (*count)(void *context, enum broadcast_count what, uint64_t amount);
    /* How it is, now and then: for metrics and /readyz. A backend that does not know never calls it. NULL:
     * not wanted. */
    void (*health)(void *context, const struct backbone_health *health);
    /* after a batch of event callbacks: wake the workers */
    void (*batch_end)(void *context);
    /* What became of a message that was published with a token: `ok` when the backbone has acknowledged it,
     * else it was given up (refused, pushed out of a full queue). Once per message, in any order, also from
     * within broadcast_publish and broadcast_close; what is unsent at the close gets none. NULL: not wanted.
     * It must not call broadcast_publish. */
    void (*acknowledged)(void *context, uint64_t token, bool ok);
};

/* The last line of each backend in the log; the number of attempts. The reference's words but for what is
 * restarted. */
#define BROADCAST_GIVING_UP \
    "Broadcaster reconnect exhausted after %u attempts; giving up so the server can restart"

/* One backbone; `self` is what its open returned. What each function does is said at broadcast_* in
 * broadcast/broadcast.h. */
struct broadcast_backend {
    /* NULL-terminated, in lower case */
    const char *const *schemes;
    int (*check_uri)(const char *uri, struct error *err);
    /* NULL: nothing to check beyond the URI */
    int (*check_settings)(const struct broadcast_settings *settings, struct error *err);
    void *(*open)(struct event_base *base, const struct broadcast_settings *settings,
        const struct broadcast_callbacks *callbacks, void *context, struct error *err);
    int (*publish)(void *self, struct slice topic, struct slice data, uint64_t token);
    void (*resume)(void *self);
    uint64_t (*message_max)(void *self);
    size_t (*close)(void *self, int grace_ms);
};

#endif
