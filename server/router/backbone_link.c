#include "server/router/backbone_link.h"

#include <inttypes.h>
#include <stdlib.h>

#include "server/router/freeze.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/worker_table.h"

#define BACKBONE_LINK_MAGIC 0x6c696e6bu
/* After a gap in which publishes were frozen, how long the backend has to report a loss by itself, beyond
 * its settle time. */
#define LINK_FROZEN_SECONDS 1.0
/* Events that are too large for the ring: the clients refetch once for all that come within this time. */
#define LINK_TOO_LARGE_SECONDS 5

struct backbone_link {
    uint32_t magic;
    /* something was dropped since the clients last had to refetch */
    bool frozen;
    bool was_up;
    bool serving;
    struct backbone_link_settings settings;
    struct backbone_link_hooks hooks;
    struct broadcast_settings backbone;
    struct broadcast *broadcast;
    struct freeze freeze;
    uint64_t serving_since_ns;
    /* the start of the last gap */
    uint64_t gap_since_ns;
    struct event *frozen_timer;
    struct event *too_large_timer;
    struct log_limiter limit_too_large;
};

static struct backbone_link *link_cast(void *context)
{
    return object_cast(struct backbone_link, BACKBONE_LINK_MAGIC, context);
}

/* ---- what this host's clients miss ---- */

static void link_missed(struct backbone_link *link, uint64_t gap_ns, const char *why)
{
    const struct config *config = link->settings.config;
    const struct ring_resync resync = {
        .gap_ns = gap_ns, .closes_per_second = config->broadcast.resync_closes_per_second};
    double seconds = (double)gap_ns / (double)CLOCK_SECOND;
    link->frozen = false;
    event_del(link->frozen_timer);
    link->hooks.missed(link->hooks.context);
    if (!config->broadcast.resync_on_reconnect) {
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "events of other servers may have been lost (%s; away for %.1f s); clients stay as they are, "
            "because OPAL_BROADCAST_RESYNC_ON_RECONNECT is false",
            why, seconds);
        return;
    }
    log_write(LOG_WARNING, LOGGER_BROADCAST,
        "events of other servers may have been lost (%s; away for %.1f s): asking this host's clients to "
        "refetch, %u a second",
        why, seconds, resync.closes_per_second);
    link->hooks.resync(link->hooks.context, &resync);
}

static void link_on_gap(void *context, uint64_t gap_ns, const char *why)
{
    link_missed(link_cast(context), gap_ns, why);
}

/* ---- events of other servers ---- */

static void link_on_too_large_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    link_missed(link_cast(context), 0, "one was too large for the ring");
}

/* Only a much larger limit on another server lets this happen. */
static void link_drop_too_large(struct backbone_link *link, size_t bytes)
{
    const struct timeval later = {.tv_sec = LINK_TOO_LARGE_SECONDS};
    counter_add(link->settings.segment, COUNTER_MASTER, COUNTER_BACKBONE_TOO_LARGE, 1);
    log_write_limited(&link->limit_too_large, LOG_ERROR, LOGGER_BROADCAST,
        "an event of %zu bytes from the backbone is larger than the ring's limit of %u bytes: not delivered; "
        "raise OPAL_RING_BYTES",
        bytes, link->settings.record_max);
    if (!event_pending(link->too_large_timer, EV_TIMEOUT, NULL))
        event_add(link->too_large_timer, &later);
}

static bool link_on_event(void *context, const struct notification *notification)
{
    struct backbone_link *link = link_cast(context);
    struct segment *segment = link->settings.segment;
    uint32_t length =
        ring_event_encoded_size(notification->topics, notification->topic_count, notification->data);
    if (length > link->settings.record_max) {
        link_drop_too_large(link, notification->data.length);
        return true;
    }
    if (!link->hooks.event(link->hooks.context, notification))
        return false;
    counter_add(segment, COUNTER_MASTER, COUNTER_EVENTS_FROM_BACKBONE, 1);
    counter_add(segment, COUNTER_MASTER, COUNTER_EVENT_BYTES_FROM_BACKBONE, notification->data.length);
    return true;
}

static void link_on_batch_end(void *context)
{
    struct backbone_link *link = link_cast(context);
    link->hooks.batch_end(link->hooks.context);
}

static void link_on_acknowledged(void *context, uint64_t token, bool ok)
{
    struct backbone_link *link = link_cast(context);
    link->hooks.acknowledged(link->hooks.context, token, ok);
}

/* ---- gaps ---- */

/* The backbone is back and has lost nothing (Kafka goes on where it stopped), but this host's clients miss
 * what was frozen. */
static void link_on_frozen_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct backbone_link *link = link_cast(context);
    (void)descriptor;
    (void)what;
    link_on_gap(
        link, clock_monotonic_ns() - link->gap_since_ns, "publishes were frozen while the backbone was away");
}

static void link_set_gap(struct backbone_link *link, bool gap)
{
    const struct config *config = link->settings.config;
    const struct timeval later = clock_timeval(config->broadcast.settle_seconds + LINK_FROZEN_SECONDS);
    if (gap && !link->freeze.gap)
        link->gap_since_ns = clock_monotonic_ns();
    freeze_set_gap(&link->freeze, gap);
    if (gap)
        event_del(link->frozen_timer);
    else if (link->frozen)
        event_add(link->frozen_timer, &later);
}

/* What the backbone can't carry is refused at the door (413), so that no event is heard by a part of the
 * servers only. The limit counts the websocket's envelope, which is longer than the backbone's. */
static void link_update_limit(const struct backbone_link *link)
{
    struct segment *segment = link->settings.segment;
    uint64_t limit = link->settings.config->limits.event_max_bytes;
    if (link->broadcast && broadcast_message_max(link->broadcast) < limit)
        limit = broadcast_message_max(link->broadcast);
    if (limit != event_limit_read(segment))
        log_write(LOG_INFO, LOGGER_BROADCAST, "events of up to %" PRIu64 " bytes are taken", limit);
    event_limit_write(segment, limit);
}

/* No event may fill the queue to the backbone alone. */
static void link_limit_messages(const struct backbone_link *link)
{
    uint64_t limit = link->settings.config->limits.backbone_max_bytes;
    if (limit > link->settings.config->broadcast.queue_max_bytes)
        limit = link->settings.config->broadcast.queue_max_bytes;
    messages_limit_write(link->settings.segment, limit);
}

static void link_on_state(void *context, enum backbone_state state)
{
    struct backbone_link *link = link_cast(context);
    backbone_state_write(link->settings.segment, state);
    link_set_gap(link, state == BACKBONE_GAP || state == BACKBONE_LOST);
    if (state == BACKBONE_LOST && link->settings.config->broadcast.reconnect_enabled)
        link->hooks.given_up(link->hooks.context);
    if (state == BACKBONE_UP && !link->was_up) {
        link->was_up = true;
        if (link->serving)
            link_missed(link, clock_monotonic_ns() - link->serving_since_ns,
                "the backbone was not there when clients began to come");
    }
    link_update_limit(link);
}

static void link_on_health(void *context, const struct backbone_health *health)
{
    backbone_health_write(link_cast(context)->settings.segment, health);
}

static void link_on_count(void *context, enum broadcast_count what, uint64_t amount)
{
    static const enum counter counters[] = {
        [BROADCAST_COUNT_SENT] = COUNTER_BACKBONE_ACKNOWLEDGED,
        [BROADCAST_COUNT_SEND_FAILED] = COUNTER_BACKBONE_SEND_FAILED,
        [BROADCAST_COUNT_OWN] = COUNTER_BACKBONE_OWN_SKIPPED,
        [BROADCAST_COUNT_REJECTED] = COUNTER_BACKBONE_REJECTED,
        [BROADCAST_COUNT_RECONNECT] = COUNTER_BACKBONE_RECONNECTS,
        [BROADCAST_COUNT_TOO_LARGE] = COUNTER_BACKBONE_TOO_LARGE,
    };
    const struct backbone_link *link = link_cast(context);
    counter_add(link->settings.segment, COUNTER_MASTER, counters[what], amount);
}

/* ---- for the router ---- */

struct backbone_link *backbone_link_open(
    const struct backbone_link_settings *settings, const struct backbone_link_hooks *hooks, struct error *err)
{
    static const struct broadcast_callbacks callbacks = {
        .event = link_on_event,
        .state = link_on_state,
        .gap = link_on_gap,
        .count = link_on_count,
        .health = link_on_health,
        .batch_end = link_on_batch_end,
        .acknowledged = link_on_acknowledged,
    };
    struct backbone_link *link = memory_allocate(sizeof *link);
    link->magic = BACKBONE_LINK_MAGIC;
    link->settings = *settings;
    link->hooks = *hooks;
    link->backbone = settings->config->broadcast;
    link->backbone.limits = &settings->config->limits;
    link->backbone.notifier_id = settings->notifier_id;
    link->frozen_timer = event_new(settings->base, -1, 0, link_on_frozen_timer, link);
    link->too_large_timer = event_new(settings->base, -1, 0, link_on_too_large_timer, link);
    freeze_init(&link->freeze, settings->config);
    backbone_state_write(settings->segment, BACKBONE_CONNECTING);
    link_limit_messages(link);
    link->broadcast = broadcast_open(settings->base, &link->backbone, &callbacks, link, err);
    if (link->broadcast)
        return link;
    backbone_link_close(link, 0);
    return NULL;
}

size_t backbone_link_close(struct backbone_link *link, int grace_ms)
{
    size_t unsent = link->broadcast ? broadcast_close(link->broadcast, grace_ms) : 0;
    event_free(link->frozen_timer);
    event_free(link->too_large_timer);
    link->magic = 0;
    free(link);
    return unsent;
}

void backbone_link_resume(struct backbone_link *link)
{
    broadcast_resume(link->broadcast);
}

bool backbone_link_send(struct backbone_link *link, struct slice topic, struct slice data, uint64_t token)
{
    if (broadcast_publish(link->broadcast, topic, data, token) != 0)
        return false;
    counter_add(link->settings.segment, COUNTER_MASTER, COUNTER_EVENTS_TO_BACKBONE, 1);
    counter_add(link->settings.segment, COUNTER_MASTER, COUNTER_EVENT_BYTES_TO_BACKBONE, data.length);
    return true;
}

void backbone_link_serving(struct backbone_link *link)
{
    link->serving = true;
    link->serving_since_ns = clock_monotonic_ns();
}

bool backbone_link_freezes(struct backbone_link *link, const struct ring_event *event)
{
    if (!freeze_drops(&link->freeze, event))
        return false;
    link->frozen = true;
    counter_add(link->settings.segment, COUNTER_MASTER, COUNTER_EVENTS_FROZEN, 1);
    return true;
}
