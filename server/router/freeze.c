#include "server/router/freeze.h"

#include <inttypes.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/python.h"
#include "shm/common/text.h"
#include "shm/common/loggers.h"

#define FREEZE_TOPICS_LOGGED 4096 /* bytes */

void freeze_init(struct freeze *freeze, const struct config *config)
{
    *freeze = (struct freeze){.enabled = config->broadcast.uri && config->broadcast.freeze_on_disconnect,
        .keepalive_topic = config->broadcast.keepalive_topic};
    if (!freeze->enabled)
        return;
    if (!config->broadcast.resync_on_reconnect)
        log_write(LOG_WARNING, LOGGER_ROUTER,
            "OPAL_BROADCAST_FREEZE_ON_DISCONNECT has no effect: what it drops is only made good by the "
            "resync, "
            "which OPAL_BROADCAST_RESYNC_ON_RECONNECT=false switches off");
    else if (!config->broadcast.reconnect_enabled)
        log_write(LOG_WARNING, LOGGER_ROUTER,
            "OPAL_BROADCAST_FREEZE_ON_DISCONNECT has no effect: OPAL_BROADCAST_RECONNECT_ENABLED is false, "
            "so a "
            "gap would never end");
    freeze->enabled = config->broadcast.resync_on_reconnect && config->broadcast.reconnect_enabled;
}

void freeze_set_gap(struct freeze *freeze, bool gap)
{
    if (gap && !freeze->gap)
        freeze->gap_number++;
    freeze->gap = gap;
}

/* The reference's: internal names, the webhook's trigger, the keepalive. */
static bool freeze_is_exempt(const struct freeze *freeze, struct slice topic)
{
    return (topic.length >= 2 && memcmp(topic.data, "__", 2) == 0) || slice_equals_string(topic, "webhook") ||
           (freeze->keepalive_topic && slice_equals_string(topic, freeze->keepalive_topic));
}

static bool freeze_all_exempt(const struct freeze *freeze, const struct ring_event *event)
{
    uint32_t offset = 0;
    struct slice topic;
    while (ring_event_topic_next(event, &offset, &topic))
        if (!freeze_is_exempt(freeze, topic))
            return false;
    return event->topic_count > 0;
}

static void freeze_tell_end(struct freeze *freeze)
{
    log_write(LOG_WARNING, LOGGER_ROUTER,
        "Backbone recovered; froze %" PRIu64
        " publish(es) during the gap — clients reconcile via the reconnect resync",
        freeze->frozen);
    freeze->frozen = 0;
}

static void freeze_tell_drop(const struct freeze *freeze, const struct ring_event *event)
{
    enum log_level level = freeze->frozen == 1 ? LOG_WARNING : LOG_DEBUG;
    struct text topics = {0};
    uint32_t offset = 0;
    struct slice topic;
    if (!log_enabled(level))
        return;
    while (topics.length < FREEZE_TOPICS_LOGGED && ring_event_topic_next(event, &offset, &topic)) {
        text_append_string(&topics, topics.length ? ", " : "");
        python_append_string(&topics, topic);
    }
    log_write(level, LOGGER_ROUTER,
        "Broadcaster backbone gap; freezing publish to preserve fleet consistency (not delivered to clients; "
        "reconciled via resync on reconnect). topics=[%s] (suppressed %" PRIu64 " so far this gap)",
        topics.data ? topics.data : "", freeze->frozen);
    text_free(&topics);
}

bool freeze_drops(struct freeze *freeze, const struct ring_event *event)
{
    if (!freeze->enabled)
        return false;
    if (freeze->gap && (event->flags & RING_EVENT_SERVER_SIDE) && !freeze_all_exempt(freeze, event)) {
        if (freeze->frozen && freeze->frozen_gap != freeze->gap_number)
            freeze_tell_end(freeze); /* of a gap before, after which nothing was published */
        freeze->frozen_gap = freeze->gap_number;
        freeze->frozen++;
        freeze_tell_drop(freeze, event);
        return true;
    }
    if (freeze->frozen && !freeze->gap && (event->flags & RING_EVENT_SERVER_SIDE))
        freeze_tell_end(freeze);
    return false;
}
