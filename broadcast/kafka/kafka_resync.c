#include "broadcast/kafka/kafka_resync.h"

#include <stdlib.h>

#include "shm/common/clock.h"
#include "shm/common/memory.h"

#define KAFKA_RESYNC_MAGIC     0x6b727379u
#define KAFKA_RESYNC_LEAST_NS  (10 * CLOCK_SECOND)
#define KAFKA_RESYNC_SHOWN_MAX 200 /* of another server's words, in the log */

struct kafka_resync {
    uint32_t magic;
    const struct broadcast_callbacks *callbacks;
    void *context;
    struct event *timer;
    /* 0: never */
    uint64_t last_ns;
    /* of the first that waits */
    struct text why;
};

static void kafka_resync_obey(struct kafka_resync *resync)
{
    resync->last_ns = clock_monotonic_ns();
    resync->callbacks->gap(resync->context, 0, resync->why.data);
}

static void kafka_resync_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    kafka_resync_obey(object_cast(struct kafka_resync, KAFKA_RESYNC_MAGIC, context));
}

static struct slice kafka_resync_shown(struct slice words)
{
    if (words.length > KAFKA_RESYNC_SHOWN_MAX)
        words.length = KAFKA_RESYNC_SHOWN_MAX;
    return words;
}

static bool kafka_resync_waits(const struct kafka_resync *resync)
{
    return event_pending(resync->timer, EV_TIMEOUT, NULL);
}

/* `why` is written. */
static void kafka_resync_schedule(struct kafka_resync *resync)
{
    uint64_t since = clock_monotonic_ns() - resync->last_ns;
    if (!resync->last_ns || since >= KAFKA_RESYNC_LEAST_NS) {
        kafka_resync_obey(resync);
        return;
    }
    uint64_t rest_us = (KAFKA_RESYNC_LEAST_NS - since) / 1000 + 1;
    struct timeval rest = {(time_t)(rest_us / 1000000), (suseconds_t)(rest_us % 1000000)};
    event_add(resync->timer, &rest);
}

void kafka_resync_want(struct kafka_resync *resync, struct slice why)
{
    if (kafka_resync_waits(resync))
        return;
    text_clear(&resync->why);
    text_append_slice(&resync->why, why);
    kafka_resync_schedule(resync);
}

void kafka_resync_ask(struct kafka_resync *resync, const struct notification *notification)
{
    if (kafka_resync_waits(resync))
        return;
    text_clear(&resync->why);
    text_append_string(&resync->why, "server ");
    text_append_slice(&resync->why, kafka_resync_shown(notification->notifier_id));
    text_append_string(&resync->why, ": ");
    text_append_slice(&resync->why, kafka_resync_shown(notification->resync));
    kafka_resync_schedule(resync);
}

struct kafka_resync *kafka_resync_open(
    struct event_base *base, const struct broadcast_callbacks *callbacks, void *context)
{
    struct kafka_resync *resync = memory_allocate(sizeof *resync);
    resync->magic = KAFKA_RESYNC_MAGIC;
    resync->callbacks = callbacks;
    resync->context = context;
    resync->timer = event_new(base, -1, 0, kafka_resync_on_timer, resync);
    if (!resync->timer) {
        free(resync);
        return NULL;
    }
    return resync;
}

void kafka_resync_close(struct kafka_resync *resync)
{
    if (!resync)
        return;
    event_free(resync->timer);
    text_free(&resync->why);
    resync->magic = 0;
    free(resync);
}
