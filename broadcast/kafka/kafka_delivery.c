#include "broadcast/kafka/kafka_delivery.h"

#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/kafka/kafka_resync.h"
#include "broadcast/backend/notification.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define KAFKA_DELIVERY_MAGIC 0x6b64656cu

struct kafka_delivery {
    uint32_t magic;
    const struct broadcast_settings *settings;
    const struct broadcast_callbacks *callbacks;
    void *context;
    struct notification_decoder *decoder;
    struct kafka_resync *resync;
    bool busy;
    /* Of this batch. */
    uint64_t own;
    uint64_t rejected;
    uint64_t delivered;
    struct log_limiter limit_rejected;
};

static void delivery_reject(
    struct kafka_delivery *delivery, const struct kafka_record *record, const char *reason)
{
    delivery->rejected++;
    log_write_limited(&delivery->limit_rejected, LOG_ERROR, LOGGER_BROADCAST,
        "Failed handling incoming broadcast: %s (topic '%s', partition %" PRId32 ", offset %" PRId64
        ", %zu bytes): skipped",
        reason, delivery->settings->channel, record->partition, record->offset, record->value.length);
}

void kafka_delivery_missed(struct kafka_delivery *delivery, const char *why)
{
    kafka_resync_want(delivery->resync, slice_from_string(why));
}

/* Other servers delivered this event and this one did not: its clients learn of the change by a refetch. */
static void delivery_reject_event(
    struct kafka_delivery *delivery, const struct kafka_record *record, const char *reason)
{
    delivery_reject(delivery, record, reason);
    kafka_delivery_missed(delivery, "an event was above this server's limits");
}

static void delivery_reject_large(struct kafka_delivery *delivery, const struct kafka_record *record)
{
    delivery->callbacks->count(delivery->context, BROADCAST_COUNT_TOO_LARGE, 1);
    delivery_reject_event(delivery, record, "larger than this server's limit for an event");
}

bool kafka_delivery_offer(struct kafka_delivery *delivery, const struct kafka_record *record)
{
    struct notification notification;
    const char *reason;
    if (!record->value.data) {
        delivery_reject(delivery, record, "no value (a tombstone)");
        return true;
    }
    if (record->value.length > delivery->settings->limits->event_max_bytes + KAFKA_MESSAGE_SLACK) {
        delivery_reject_large(delivery, record);
        return true;
    }
    if (notification_decode(delivery->decoder, record->value, &notification, &reason) < 0) {
        if (notification.above_limits)
            delivery_reject_event(delivery, record, reason);
        else
            delivery_reject(delivery, record, reason);
        return true;
    }
    if (slice_equals_string(notification.notifier_id, delivery->settings->notifier_id)) {
        delivery->own++;
        return true;
    }
    if (!notification.topic_count) {
        /* For nobody, unless another server says that it could not send everything. */
        if (notification.resync.length)
            kafka_resync_ask(delivery->resync, &notification);
        return true;
    }
    if (notification.data.length > delivery->settings->limits->event_max_bytes) {
        delivery_reject_large(delivery, record);
        return true;
    }
    delivery->busy = true;
    bool taken = delivery->callbacks->event(delivery->context, &notification);
    delivery->busy = false;
    delivery->delivered += taken;
    return taken;
}

bool kafka_delivery_is_busy(const struct kafka_delivery *delivery)
{
    return delivery->busy;
}

void kafka_delivery_end_batch(struct kafka_delivery *delivery)
{
    if (delivery->own)
        delivery->callbacks->count(delivery->context, BROADCAST_COUNT_OWN, delivery->own);
    if (delivery->rejected)
        delivery->callbacks->count(delivery->context, BROADCAST_COUNT_REJECTED, delivery->rejected);
    if (delivery->delivered)
        delivery->callbacks->batch_end(delivery->context);
    delivery->own = delivery->rejected = delivery->delivered = 0;
}

struct kafka_delivery *kafka_delivery_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context)
{
    struct kafka_delivery *delivery = memory_allocate(sizeof *delivery);
    delivery->magic = KAFKA_DELIVERY_MAGIC;
    delivery->settings = settings;
    delivery->callbacks = callbacks;
    delivery->context = context;
    delivery->decoder = notification_decoder_make(settings->limits->json_max_depth);
    delivery->resync = kafka_resync_open(base, callbacks, context);
    if (!delivery->resync) {
        kafka_delivery_close(delivery);
        return NULL;
    }
    return delivery;
}

void kafka_delivery_close(struct kafka_delivery *delivery)
{
    if (!delivery)
        return;
    kafka_resync_close(delivery->resync);
    notification_decoder_free(delivery->decoder);
    delivery->magic = 0;
    free(delivery);
}
