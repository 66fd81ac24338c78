#include "broadcast/relay/relay_outbound.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broadcast/relay/replay_buffer.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"

#define RELAY_OUTBOUND_MAGIC 0x726f7574u

struct relay_outbound {
    uint32_t magic;
    const char *logger;
    struct relay_outbound_hooks hooks;
    void *context;
    char *notifier_id;
    size_t queue_max_bytes;
    /* while the backbone is there, and while it is away */
    size_t queue_max_messages;
    size_t replay_max;
    uint64_t message_max;
    bool live;
    struct replay_buffer *buffer;
    /* events to be acknowledged or given up before hooks.replayed */
    size_t replay_left;
    /* not yet confessed to the other servers */
    uint64_t lost_messages;
    struct text scratch;
    struct log_limiter limit_buffered;
    struct log_limiter limit_overflow;
    struct log_limiter limit_too_large;
    struct log_limiter limit_refused;
};

static void outbound_count(struct relay_outbound *outbound, enum broadcast_count what, uint64_t amount)
{
    if (amount)
        outbound->hooks.count(outbound->context, what, amount);
}

/* The fate of a message whose publisher waits. */
static void outbound_tell(struct relay_outbound *outbound, uint64_t token, bool ok)
{
    if (token)
        outbound->hooks.acknowledged(outbound->context, token, ok);
}

static void outbound_on_dropped(void *context, uint64_t token)
{
    outbound_tell(object_cast(struct relay_outbound, RELAY_OUTBOUND_MAGIC, context), token, false);
}

/* While the backbone is there the queue may be as long as queue_max_messages; while it is away, as long as
 * the replay buffer, but what was accepted before is not thrown away for that. */
static void outbound_set_bounds(struct relay_outbound *outbound)
{
    size_t messages = outbound->replay_max;
    size_t least = outbound->live ? outbound->queue_max_messages : replay_buffer_count(outbound->buffer);
    if (messages < least)
        messages = least;
    replay_buffer_limit(outbound->buffer, messages, outbound->queue_max_bytes);
}

/* One event is done or given up. */
static void outbound_event_done(struct relay_outbound *outbound)
{
    if (outbound->replay_left && --outbound->replay_left == 0)
        outbound->hooks.replayed(outbound->context);
}

struct relay_outbound *relay_outbound_make(const struct broadcast_settings *settings, const char *logger,
    const struct relay_outbound_hooks *hooks, void *context)
{
    struct relay_outbound *outbound = memory_allocate(sizeof *outbound);
    outbound->magic = RELAY_OUTBOUND_MAGIC;
    outbound->logger = logger;
    outbound->hooks = *hooks;
    outbound->context = context;
    outbound->notifier_id = memory_copy_string(settings->notifier_id);
    outbound->queue_max_bytes = settings->queue_max_bytes;
    outbound->queue_max_messages = settings->queue_max_messages;
    outbound->replay_max = settings->replay_buffer_size;
    outbound->message_max = UINT64_MAX;
    outbound->buffer = replay_buffer_make(0, 0);
    replay_buffer_on_dropped(outbound->buffer, outbound_on_dropped, outbound);
    outbound_set_bounds(outbound);
    return outbound;
}

void relay_outbound_free(struct relay_outbound *outbound)
{
    replay_buffer_free(outbound->buffer);
    text_free(&outbound->scratch);
    free(outbound->notifier_id);
    outbound->magic = 0;
    free(outbound);
}

void relay_outbound_set_message_max(struct relay_outbound *outbound, uint64_t message_max)
{
    outbound->message_max = message_max;
}

uint64_t relay_outbound_message_max(const struct relay_outbound *outbound)
{
    return outbound->message_max;
}

/* ---- what is appended ---- */

/* `dropped` older messages had to go, or this one did not fit at all. */
static void outbound_note_overflow(
    struct relay_outbound *outbound, size_t dropped, const char *obstacle, const char *what)
{
    outbound->lost_messages += dropped;
    outbound_count(outbound, BROADCAST_COUNT_SEND_FAILED, dropped);
    log_write_limited(&outbound->limit_overflow, LOG_ERROR, outbound->logger,
        "Broadcast to backbone failed (%s); OVERFLOW of the replay buffer: %s (%zu messages, %zu bytes are "
        "waiting)",
        obstacle ? obstacle : "it takes events more slowly than they come", what,
        replay_buffer_count(outbound->buffer), replay_buffer_bytes(outbound->buffer));
    for (size_t i = 0; i < dropped; i++)
        outbound_event_done(outbound);
}

int relay_outbound_publish(struct relay_outbound *outbound, struct slice topic, struct slice data,
    uint64_t token, const char *obstacle)
{
    size_t dropped = 0;
    text_clear(&outbound->scratch);
    notification_encode(&outbound->scratch, slice_from_string(outbound->notifier_id), topic, data);
    struct slice message = text_slice(&outbound->scratch);
    if (message.length > outbound->message_max) {
        outbound_count(outbound, BROADCAST_COUNT_TOO_LARGE, 1);
        log_write_limited(&outbound->limit_too_large, LOG_ERROR, outbound->logger,
            "an event of %zu bytes can't be carried by the backbone (limit %" PRIu64
            " bytes): it does not reach other servers",
            message.length, outbound->message_max);
        errno = EMSGSIZE;
        return -1;
    }
    if (!replay_buffer_append(outbound->buffer, message, false, &dropped)) {
        outbound_note_overflow(outbound, 1, obstacle, "this event is dropped");
        errno = ENOBUFS;
        return -1;
    }
    replay_buffer_set_token(outbound->buffer, token);
    if (dropped)
        outbound_note_overflow(outbound, dropped, obstacle, "the oldest is dropped");
    if (obstacle)
        log_write_limited(&outbound->limit_buffered, LOG_WARNING, outbound->logger,
            "Broadcast to backbone failed (%s); buffered for replay (%zu/%zu)", obstacle,
            replay_buffer_count(outbound->buffer), outbound->replay_max);
    else
        outbound->hooks.ready(outbound->context);
    return 0;
}

void relay_outbound_control(struct relay_outbound *outbound, const char *key, uint64_t value)
{
    struct text suffix = {0};
    size_t dropped;
    text_clear(&outbound->scratch);
    relay_outbound_control_template(outbound, key, &outbound->scratch, &suffix);
    text_append_format(&outbound->scratch, "%" PRIu64 "%s", value, suffix.data);
    text_free(&suffix);
    if (replay_buffer_append(outbound->buffer, text_slice(&outbound->scratch), true, &dropped))
        outbound->hooks.ready(outbound->context);
}

void relay_outbound_control_template(
    const struct relay_outbound *outbound, const char *key, struct text *prefix, struct text *suffix)
{
    text_append_format(
        prefix, "{\"notifier_id\": \"%s\", \"topics\": [], \"data\": {\"%s\": ", outbound->notifier_id, key);
    text_append_string(suffix, "}}");
}

/* ---- the connection ---- */

void relay_outbound_live(struct relay_outbound *outbound)
{
    outbound->live = true;
    outbound_set_bounds(outbound);
}

void relay_outbound_lost(struct relay_outbound *outbound, bool closing)
{
    outbound->live = false;
    outbound->replay_left = 0;
    replay_buffer_rewind(outbound->buffer);
    outbound_set_bounds(outbound);
    if (outbound->replay_max || closing)
        return;
    size_t dropped = replay_buffer_clear(outbound->buffer);
    if (!dropped)
        return;
    outbound->lost_messages += dropped;
    outbound_count(outbound, BROADCAST_COUNT_SEND_FAILED, dropped);
    log_write(LOG_ERROR, outbound->logger,
        "%zu events were not acknowledged when the connection was lost; dropped, because the replay buffer "
        "is off",
        dropped);
}

void relay_outbound_replay(struct relay_outbound *outbound)
{
    outbound->replay_left = replay_buffer_count(outbound->buffer);
    if (outbound->replay_left)
        log_write(LOG_INFO, outbound->logger, "Replaying %zu buffered broadcast(s) after recovery",
            outbound->replay_left);
    else
        outbound->hooks.replayed(outbound->context);
    outbound->hooks.ready(outbound->context);
}

/* What was dropped here is missing on every other server. They are asked to refetch once everything that
 * could be sent is out. */
static void outbound_confess(struct relay_outbound *outbound)
{
    size_t dropped;
    char why[80];
    if (!outbound->lost_messages || replay_buffer_count(outbound->buffer))
        return;
    text_clear(&outbound->scratch);
    snprintf(why, sizeof why, "%" PRIu64 " events of this server could not be sent", outbound->lost_messages);
    notification_encode_resync(
        &outbound->scratch, slice_from_string(outbound->notifier_id), slice_from_string(why));
    if (!replay_buffer_append(outbound->buffer, text_slice(&outbound->scratch), false, &dropped))
        return; /* everything is in flight: after the next acknowledgement */
    log_write(LOG_WARNING, outbound->logger,
        "asking the other servers to have their clients refetch: %" PRIu64 " events never reached them",
        outbound->lost_messages);
    outbound->lost_messages = 0;
}

bool relay_outbound_pump(struct relay_outbound *outbound, bool held)
{
    struct slice message;
    bool sent = false;
    if (!held)
        outbound_confess(outbound);
    while (replay_buffer_next(outbound->buffer, held, &message) &&
           outbound->hooks.send(outbound->context, message)) {
        if (!replay_buffer_in_flight(outbound->buffer))
            outbound->hooks.first_in_flight(outbound->context);
        replay_buffer_sent(outbound->buffer);
        sent = true;
    }
    return sent;
}

enum relay_outbound_done relay_outbound_acknowledged(struct relay_outbound *outbound)
{
    bool control;
    uint64_t token = replay_buffer_token_in_flight(outbound->buffer);
    if (!replay_buffer_done(outbound->buffer, &control))
        return RELAY_OUTBOUND_NOTHING;
    if (!control) {
        outbound_count(outbound, BROADCAST_COUNT_SENT, 1);
        outbound_event_done(outbound);
        outbound_tell(outbound, token, true);
    }
    outbound->hooks.ready(outbound->context);
    return control ? RELAY_OUTBOUND_CONTROL : RELAY_OUTBOUND_EVENT;
}

enum relay_outbound_done relay_outbound_refused(
    struct relay_outbound *outbound, const char *why, bool too_large)
{
    bool control;
    uint64_t token = replay_buffer_token_in_flight(outbound->buffer);
    if (!replay_buffer_done(outbound->buffer, &control))
        return RELAY_OUTBOUND_NOTHING;
    log_write_limited(&outbound->limit_refused, LOG_ERROR, outbound->logger,
        "the backbone refused %s for good: %s; dropped", control ? "a heartbeat" : "an event", why);
    if (!control) {
        outbound_count(outbound, too_large ? BROADCAST_COUNT_TOO_LARGE : BROADCAST_COUNT_SEND_FAILED, 1);
        outbound->lost_messages++;
        outbound_event_done(outbound);
        outbound_tell(outbound, token, false);
    }
    outbound->hooks.ready(outbound->context);
    return control ? RELAY_OUTBOUND_CONTROL : RELAY_OUTBOUND_EVENT;
}

void relay_outbound_send_again(struct relay_outbound *outbound)
{
    replay_buffer_rewind(outbound->buffer);
    outbound->hooks.ready(outbound->context);
}

bool relay_outbound_in_flight(const struct relay_outbound *outbound)
{
    return replay_buffer_in_flight(outbound->buffer) != 0;
}

size_t relay_outbound_count(const struct relay_outbound *outbound)
{
    return replay_buffer_count(outbound->buffer);
}
