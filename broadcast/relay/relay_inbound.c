#include "broadcast/relay/relay_inbound.h"

#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/relay/inbox.h"
#include "shm/common/json.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"

/* A control message has one member with a small number. */
#define CONTROL_DEPTH_MAX  4
#define CONTROL_TOKENS_MAX 16
#define CONTROL_LENGTH_MAX 200
/* Of another server's text, in the log. */
#define INBOUND_REASON_MAX 300
/* What waits for the ring or for a row before reading stops. */
#define INBOX_MESSAGES (size_t)4096
#define INBOX_BYTES    (size_t)(16 << 20)

struct relay_inbound {
    const char *logger;
    struct broadcast_callbacks callbacks;
    void *callbacks_context;
    struct relay_inbound_hooks hooks;
    void *context;
    char *notifier_id;
    struct inbox *inbox;
    struct notification_decoder *decoder;
    struct json_document control;
    /* the event callback said no; waits for relay_inbound_resume */
    bool stalled;
    /* what hooks.read was told last */
    bool reading;
    /* events were passed on since the last batch_end */
    bool batch_open;
    struct log_limiter limit_rejected;
};

struct relay_inbound *relay_inbound_make(const struct broadcast_settings *settings, const char *logger,
    const struct broadcast_callbacks *callbacks, void *callbacks_context,
    const struct relay_inbound_hooks *hooks, void *context)
{
    struct relay_inbound *inbound = memory_allocate(sizeof *inbound);
    inbound->logger = logger;
    inbound->callbacks = *callbacks;
    inbound->callbacks_context = callbacks_context;
    inbound->hooks = *hooks;
    inbound->context = context;
    inbound->notifier_id = memory_copy_string(settings->notifier_id);
    inbound->inbox = inbox_make(INBOX_MESSAGES, INBOX_BYTES);
    inbound->decoder = notification_decoder_make(settings->limits->json_max_depth);
    inbound->reading = true;
    return inbound;
}

void relay_inbound_free(struct relay_inbound *inbound)
{
    inbox_free(inbound->inbox);
    notification_decoder_free(inbound->decoder);
    json_free(&inbound->control);
    free(inbound->notifier_id);
    free(inbound);
}

/* ---- one message ---- */

/* The value of {"key": N}. */
static bool control_read(struct relay_inbound *inbound, struct slice data, const char *key, uint64_t *value)
{
    struct json_document *document = &inbound->control;
    if (data.length > CONTROL_LENGTH_MAX ||
        json_parse(document, data.data, data.length, CONTROL_DEPTH_MAX, CONTROL_TOKENS_MAX) != JSON_OK ||
        !document->count || document->tokens[0].type != JSON_OBJECT)
        return false;
    uint32_t token = json_member(document, 0, key);
    if (token == JSON_ABSENT || document->tokens[token].type != JSON_NUMBER || !document->tokens[token].size)
        return false;
    return slice_read_number(json_raw(document, token), INT64_MAX, value);
}

static void inbound_own(struct relay_inbound *inbound, const struct notification *notification)
{
    uint64_t number;
    bool heartbeat = notification->topic_count == 0 &&
                     control_read(inbound, notification->data, RELAY_CONTROL_KEY_HEARTBEAT, &number);
    inbound->hooks.came_through(inbound->context, heartbeat);
    if (!heartbeat)
        inbound->callbacks.count(inbound->callbacks_context, BROADCAST_COUNT_OWN, 1);
}

/* From another server of our kind. Others never send one without topics; if they did it would mean
 * nothing. */
static void inbound_control(struct relay_inbound *inbound, const struct notification *notification)
{
    uint64_t number;
    if (inbound->hooks.rows_wanted &&
        control_read(inbound, notification->data, RELAY_CONTROL_KEY_ROW, &number)) {
        inbox_append_row(inbound->inbox, number);
        inbound->hooks.rows_wanted(inbound->context);
    } else if (notification->resync.data) {
        size_t length = notification->resync.length;
        log_write(LOG_WARNING, inbound->logger, "another server asks for a resync: %.*s",
            (int)(length < INBOUND_REASON_MAX ? length : INBOUND_REASON_MAX), notification->resync.data);
        inbound->hooks.resync_wanted(inbound->context, "another server lost events on the way out");
    }
}

static bool inbound_decode(
    struct relay_inbound *inbound, struct slice message, struct notification *notification)
{
    const char *reason = NULL;
    if (notification_decode(inbound->decoder, message, notification, &reason) == 0)
        return true;
    inbound->callbacks.count(inbound->callbacks_context, BROADCAST_COUNT_REJECTED, 1);
    log_write_limited(&inbound->limit_rejected, LOG_ERROR, inbound->logger,
        "Failed handling incoming broadcast: %s (%zu bytes); skipped", reason ? reason : "unknown reason",
        message.length);
    if (notification->above_limits) /* others heard it */
        inbound->hooks.resync_wanted(inbound->context, "an event was above this server's limits");
    return false;
}

/* Offers one event; false when it must be kept. */
static bool inbound_offer(struct relay_inbound *inbound, const struct notification *notification)
{
    if (!inbound->callbacks.event(inbound->callbacks_context, notification)) {
        inbound->stalled = true;
        return false;
    }
    inbound->batch_open = true;
    return true;
}

static bool inbound_is_own(const struct relay_inbound *inbound, const struct notification *notification)
{
    return slice_equals_string(notification->notifier_id, inbound->notifier_id);
}

static void inbound_set_reading(struct relay_inbound *inbound)
{
    bool on = !inbound->stalled && !inbox_is_full(inbound->inbox);
    if (on == inbound->reading)
        return;
    inbound->reading = on;
    inbound->hooks.read(inbound->context, on);
}

bool relay_inbound_received(struct relay_inbound *inbound, struct slice message)
{
    struct notification notification;
    if (!inbound_decode(inbound, message, &notification))
        return inbound->reading;
    if (inbound_is_own(inbound, &notification)) {
        inbound_own(inbound, &notification);
        return inbound->reading;
    }
    inbound->hooks.came_through(inbound->context, false);
    if (notification.topic_count == 0) {
        inbound_control(inbound, &notification);
    } else if (inbox_count(inbound->inbox) || !inbound_offer(inbound, &notification)) {
        inbox_append(inbound->inbox, message);
    }
    if (inbound->stalled || inbox_is_full(inbound->inbox))
        inbound_set_reading(inbound);
    return inbound->reading;
}

/* ---- what waits ---- */

/* The oldest in the inbox. False when it has to wait. */
static bool inbound_take(struct relay_inbound *inbound)
{
    struct slice message;
    struct notification notification;
    uint64_t row;
    switch (inbox_front(inbound->inbox, &message, &row)) {
    case INBOX_EMPTY:
    case INBOX_AWAITS_ROW:
        return false;
    case INBOX_ROW_MISSING:
        inbound->callbacks.count(inbound->callbacks_context, BROADCAST_COUNT_REJECTED, 1);
        log_write(LOG_ERROR, inbound->logger,
            "the row %" PRIu64 " of a large event is not there (any more): the event is lost here", row);
        inbound->hooks.resync_wanted(inbound->context, "the row of a large event was not there");
        break;
    case INBOX_READY:
        if (inbound_decode(inbound, message, &notification) && notification.topic_count &&
            !inbound_is_own(inbound, &notification) && !inbound_offer(inbound, &notification))
            return false;
        break;
    }
    inbox_pop(inbound->inbox);
    return true;
}

static void inbound_drain(struct relay_inbound *inbound)
{
    while (!inbound->stalled && inbound_take(inbound))
        ;
    inbound_set_reading(inbound);
}

void relay_inbound_resume(struct relay_inbound *inbound)
{
    if (!inbound->stalled)
        return;
    inbound->stalled = false;
    inbound_drain(inbound);
    relay_inbound_batch_end(inbound);
}

void relay_inbound_batch_end(struct relay_inbound *inbound)
{
    if (!inbound->batch_open)
        return;
    inbound->batch_open = false;
    inbound->callbacks.batch_end(inbound->callbacks_context);
}

bool relay_inbound_reading(const struct relay_inbound *inbound)
{
    return inbound->reading && !inbound->stalled;
}

bool relay_inbound_next_row(struct relay_inbound *inbound, uint64_t *row)
{
    return inbox_next_row(inbound->inbox, row);
}

void relay_inbound_row(struct relay_inbound *inbound, uint64_t row, struct slice message)
{
    if (!inbox_fill_row(inbound->inbox, row, message))
        return;
    inbound_drain(inbound);
    relay_inbound_batch_end(inbound);
}

void relay_inbound_ask_again(struct relay_inbound *inbound)
{
    inbox_ask_again(inbound->inbox);
}
