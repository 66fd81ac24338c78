/* The backbone's side of the router: what comes from it goes to the ring; gaps, freezing and resyncs. */
#include "server/router/router_internal.h"

#include <inttypes.h>

#include "shm/common/clock.h"
#include "shm/common/loggers.h"
#include "server/statistics/statistics_service.h"
#include "shm/worker_table.h"

/* Its subscribers miss it and don't know: they have to refetch. */
static void router_miss_event(struct router *router, size_t bytes)
{
    const struct timeval later = {ROUTER_MISSED_RESYNC_SECONDS, 0};
    counter_add(router->segment, COUNTER_MASTER, COUNTER_BACKBONE_TOO_LARGE, 1);
    log_write_limited(&router->limit_missed, LOG_ERROR, LOGGER_BROADCAST,
        "an event of %zu bytes from the backbone is larger than the ring's limit of %u bytes: not delivered; "
        "raise OPAL_RING_BYTES",
        bytes, ring_writer_body_max(router->ring));
    if (!event_pending(router->missed_resync, EV_TIMEOUT, NULL))
        event_add(router->missed_resync, &later);
}

static bool router_on_backbone_event(void *context, const struct notification *notification)
{
    struct router *router = context;
    struct event event = {
        .entered_ns = clock_monotonic_ns(),
        .origin = EVENT_ORIGIN_BACKBONE,
        .topic_count = notification->topic_count,
        .data = notification->data,
    };
    uint32_t length = event_encoded_size(
        notification->topics, notification->topic_count, event.notifier, notification->data);
    if (length > ring_writer_body_max(router->ring)) {
        /* Only a much larger limit on another server lets this happen; the ring can't carry it. */
        router_miss_event(router, notification->data.length);
        return true;
    }
    void *body = router_reserve(router, RING_EVENT, length);
    if (!body) {
        router->backbone_waits = true;
        return false;
    }
    event_encode(body, &event, notification->topics);
    ring_writer_commit(router->ring);
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENTS_FROM_BACKBONE, 1);
    counter_add(
        router->segment, COUNTER_MASTER, COUNTER_EVENT_BYTES_FROM_BACKBONE, notification->data.length);
    for (uint32_t i = 0; i < notification->topic_count; i++)
        router_notice_webhook(router, &notification->topics[i]);
    for (uint32_t i = 0; router->hooks.statistics && i < notification->topic_count; i++)
        statistics_service_event(router->hooks.statistics, notification->topics[i], notification->data, -1, 0,
            notification->notifier_id);
    return true;
}

static void router_on_backbone_batch_end(void *context)
{
    struct router *router = context;
    ring_writer_wake(router->ring);
}

static void router_on_backbone_gap(void *context, uint64_t gap_ns, const char *why)
{
    struct router *router = context;
    router->frozen = false;
    event_del(router->frozen_resync);
    if (router->hooks.statistics)
        statistics_service_gap(router->hooks.statistics);
    if (!router->config->broadcast_resync_on_reconnect) {
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "events of other servers may have been lost (%s; away for %.1f s); clients stay as they are, "
            "because "
            "OPAL_BROADCAST_RESYNC_ON_RECONNECT is false",
            why, (double)gap_ns / (double)CLOCK_SECOND);
        return;
    }
    router->resync = (struct event_resync){
        .gap_ns = gap_ns, .closes_per_second = (uint32_t)router->config->resync_closes_per_second};
    log_write(LOG_WARNING, LOGGER_BROADCAST,
        "events of other servers may have been lost (%s; away for %.1f s): asking this host's clients to "
        "refetch, %u a second",
        why, (double)gap_ns / (double)CLOCK_SECOND, router->resync.closes_per_second);
    router_put_resync(router);
}

void router_on_missed_resync(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    router_on_backbone_gap(context, 0, "one was too large for the ring");
}

/* The backbone is back and has lost nothing (Kafka goes on where it stopped), but this host's clients miss what was frozen. */
void router_on_frozen_resync(evutil_socket_t descriptor, short what, void *context)
{
    struct router *router = context;
    (void)descriptor;
    (void)what;
    router_on_backbone_gap(router, clock_monotonic_ns() - router->gap_since_ns,
        "publishes were frozen while the backbone was away");
}

static void router_set_gap(struct router *router, bool gap)
{
    double seconds = router->config->broadcast_resync_settle_seconds + ROUTER_FROZEN_RESYNC_SECONDS;
    struct timeval later = clock_timeval(seconds);
    if (gap && !router->freeze.gap)
        router->gap_since_ns = clock_monotonic_ns();
    freeze_set_gap(&router->freeze, gap);
    if (gap)
        event_del(router->frozen_resync);
    else if (router->frozen)
        event_add(router->frozen_resync, &later);
}

static void router_on_backbone_state(void *context, enum broadcast_state state)
{
    static const enum backbone_state states[] = {[BROADCAST_CONNECTING] = BACKBONE_CONNECTING,
        [BROADCAST_UP] = BACKBONE_UP,
        [BROADCAST_GAP] = BACKBONE_GAP,
        [BROADCAST_LOST] = BACKBONE_LOST};
    struct router *router = context;
    uint64_t limit = (uint64_t)router->config->event_max_bytes;
    backbone_state_write(router->segment, states[state]);
    router_set_gap(router, state == BROADCAST_GAP || state == BROADCAST_LOST);
    if (state == BROADCAST_LOST && router->config->broadcast_reconnect_enabled)
        router->hooks.backbone_given_up(router->hooks.context);
    if (state == BROADCAST_UP && !router->backbone_was_up) {
        router->backbone_was_up = true;
        if (router->serving)
            router_on_backbone_gap(router, clock_monotonic_ns() - router->serving_since_ns,
                "the backbone was not there when clients began to come");
    }
    /* What the backbone can't carry is refused at the door (413), not heard by half of the fleet. Its envelope is shorter than the
     * websocket's, which the limit counts. */
    if (router->backbone && broadcast_message_max(router->backbone) < limit)
        limit = broadcast_message_max(router->backbone);
    if (limit != event_limit_read(router->segment))
        log_write(LOG_INFO, LOGGER_BROADCAST, "events of up to %" PRIu64 " bytes are taken", limit);
    event_limit_write(router->segment, limit);
}

static void router_on_backbone_count(void *context, enum broadcast_count what, uint64_t amount)
{
    static const enum counter counters[] = {
        [BROADCAST_COUNT_SENT] = COUNTER_BACKBONE_ACKNOWLEDGED,
        [BROADCAST_COUNT_SEND_FAILED] = COUNTER_BACKBONE_SEND_FAILED,
        [BROADCAST_COUNT_OWN] = COUNTER_BACKBONE_OWN_SKIPPED,
        [BROADCAST_COUNT_REJECTED] = COUNTER_BACKBONE_REJECTED,
        [BROADCAST_COUNT_RECONNECT] = COUNTER_BACKBONE_RECONNECTS,
        [BROADCAST_COUNT_TOO_LARGE] = COUNTER_BACKBONE_TOO_LARGE,
    };
    struct router *router = context;
    counter_add(router->segment, COUNTER_MASTER, counters[what], amount);
}

int router_open_backbone(struct router *router, struct error *err)
{
    static const struct broadcast_callbacks callbacks = {
        .event = router_on_backbone_event,
        .state = router_on_backbone_state,
        .gap = router_on_backbone_gap,
        .count = router_on_backbone_count,
        .batch_end = router_on_backbone_batch_end,
        .acknowledged = router_on_backbone_acknowledged,
    };
    const struct config *config = router->config;
    const struct broadcast_settings settings = router_backbone_settings(config, router->notifier_id);
    backbone_state_write(router->segment, BACKBONE_CONNECTING);
    router->backbone = broadcast_open(router->base, &settings, &callbacks, router, err);
    return router->backbone ? 0 : -1;
}
