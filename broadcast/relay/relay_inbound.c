#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/relay/relay_internal.h"
#include "shm/common/clock.h"

/* A control message has one member with a small number. */
#define CONTROL_DEPTH_MAX  4
#define CONTROL_TOKENS_MAX 16
#define CONTROL_LENGTH_MAX 200

/* The value of {"key": N}. */
static bool control_read(struct relay *relay, struct slice data, const char *key, uint64_t *value)
{
    struct json_document *document = &relay->control;
    if (data.length > CONTROL_LENGTH_MAX ||
        json_parse(document, data.data, data.length, CONTROL_DEPTH_MAX, CONTROL_TOKENS_MAX) != JSON_OK ||
        !document->count || document->tokens[0].type != JSON_OBJECT)
        return false;
    uint32_t token = json_member(document, 0, key);
    if (token == JSON_ABSENT || document->tokens[token].type != JSON_NUMBER || !document->tokens[token].size)
        return false;
    return slice_read_number(json_raw(document, token), INT64_MAX, value);
}

static void inbound_own(struct relay *relay, const struct notification *notification)
{
    uint64_t number;
    backoff_reset(&relay->links[RELAY_LISTENER].backoff);
    if (notification->topic_count == 0 &&
        control_read(relay, notification->data, RELAY_CONTROL_KEY_HEARTBEAT, &number)) {
        relay->heartbeat_since_ns = 0;
        return;
    }
    relay_count(relay, BROADCAST_COUNT_OWN, 1);
}

/* From another server of our kind. Others never send one without topics; if they did it would mean nothing. */
static void inbound_control(struct relay *relay, const struct notification *notification)
{
    uint64_t number;
    if (relay->driver->fetch_rows &&
        control_read(relay, notification->data, RELAY_CONTROL_KEY_ROW, &number)) {
        inbox_append_row(relay->inbox, number);
        if (relay_is_live(relay, RELAY_SENDER))
            relay->driver->fetch_rows(relay->self);
    } else if (notification->resync.data) {
        log_write(LOG_WARNING, relay->driver->logger, "another server asks for a resync: %.*s",
            (int)(notification->resync.length < RELAY_WHY_MAX ? notification->resync.length : RELAY_WHY_MAX),
            notification->resync.data);
        relay_recovery_want_resync(relay, "another server lost events on the way out");
    }
}

static bool inbound_decode(struct relay *relay, struct slice message, struct notification *notification)
{
    const char *reason = NULL;
    if (notification_decode(relay->decoder, message, notification, &reason) == 0)
        return true;
    relay_count(relay, BROADCAST_COUNT_REJECTED, 1);
    log_write_limited(&relay->limit_rejected, LOG_ERROR, relay->driver->logger,
        "Failed handling incoming broadcast: %s (%zu bytes); skipped", reason ? reason : "unknown reason",
        message.length);
    if (notification->above_limits) /* others heard it */
        relay_recovery_want_resync(relay, "an event was above this server's limits");
    return false;
}

/* Offers one event; false when it must be kept. */
static bool inbound_offer(struct relay *relay, const struct notification *notification)
{
    if (!relay->callbacks.event(relay->context, notification)) {
        relay->stalled = true;
        return false;
    }
    relay->batch_open = true;
    return true;
}

static void inbound_set_reading(struct relay *relay)
{
    bool on = !relay->stalled && !inbox_is_full(relay->inbox);
    if (on == relay->reading)
        return;
    relay->reading = on;
    relay->heard_ns = clock_monotonic_ns();
    if (relay->heartbeat_since_ns)
        relay->heartbeat_since_ns = relay->heard_ns;
    relay->driver->read(relay->self, on);
}

bool relay_received(struct relay *relay, struct slice message)
{
    struct notification notification;
    relay_heard(relay);
    if (!inbound_decode(relay, message, &notification))
        return relay->reading;
    if (slice_equals_string(notification.notifier_id, relay->notifier_id)) {
        inbound_own(relay, &notification);
        return relay->reading;
    }
    backoff_reset(&relay->links[RELAY_LISTENER].backoff);
    if (notification.topic_count == 0) {
        inbound_control(relay, &notification);
    } else if (inbox_count(relay->inbox) || !inbound_offer(relay, &notification)) {
        inbox_append(relay->inbox, message);
    }
    if (relay->stalled || inbox_is_full(relay->inbox))
        inbound_set_reading(relay);
    return relay->reading;
}

void relay_inbound_drain(struct relay *relay)
{
    struct slice message;
    struct notification notification;
    uint64_t row;
    enum inbox_front front;
    while (!relay->stalled && (front = inbox_front(relay->inbox, &message, &row)) != INBOX_EMPTY) {
        if (front == INBOX_AWAITS_ROW)
            break;
        if (front == INBOX_ROW_MISSING) {
            relay_count(relay, BROADCAST_COUNT_REJECTED, 1);
            log_write(LOG_ERROR, relay->driver->logger,
                "the row %" PRIu64 " of a large event is not there (any more): the event is lost here", row);
            relay_recovery_want_resync(relay, "the row of a large event was not there");
        } else if (inbound_decode(relay, message, &notification) && notification.topic_count &&
                   !slice_equals_string(notification.notifier_id, relay->notifier_id) &&
                   !inbound_offer(relay, &notification)) {
            break;
        }
        inbox_pop(relay->inbox);
    }
    inbound_set_reading(relay);
}

void relay_resume(struct relay *relay)
{
    if (!relay->stalled)
        return;
    relay->stalled = false;
    relay_inbound_drain(relay);
    relay_batch_end(relay);
}

void relay_batch_end(struct relay *relay)
{
    if (!relay->batch_open)
        return;
    relay->batch_open = false;
    relay->callbacks.batch_end(relay->context);
}

void relay_heard(struct relay *relay)
{
    relay->heard_ns = clock_monotonic_ns();
}

bool relay_next_row(struct relay *relay, uint64_t *row)
{
    return inbox_next_row(relay->inbox, row);
}

void relay_row(struct relay *relay, uint64_t row, struct slice message)
{
    if (!inbox_fill_row(relay->inbox, row, message))
        return;
    relay_inbound_drain(relay);
    relay_batch_end(relay);
}

void relay_inbound_sender_lost(struct relay *relay)
{
    inbox_ask_again(relay->inbox);
}
