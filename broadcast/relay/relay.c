#include "broadcast/relay/relay_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "shm/common/clock.h"
#include "shm/common/memory.h"

/* What waits for the ring or for a row before reading stops. */
#define RELAY_INBOX_MESSAGES (size_t)4096
#define RELAY_INBOX_BYTES    (size_t)(16 << 20)

/* Sign of a failure in the log and in the reference's words. */
static const char *const side_names[RELAY_SIDES] = {[RELAY_LISTENER] = "listener", [RELAY_SENDER] = "sender"};

void relay_count(struct relay *relay, enum broadcast_count what, uint64_t amount)
{
    if (amount)
        relay->callbacks.count(relay->context, what, amount);
}

void relay_append_control(const struct relay *relay, struct text *out, const char *key, uint64_t value)
{
    text_append_format(out, "{\"notifier_id\": \"%s\", \"topics\": [], \"data\": {\"%s\": %" PRIu64 "}}",
        relay->notifier_id, key, value);
}

void relay_row_template(const struct relay *relay, struct text *prefix, struct text *suffix)
{
    text_append_format(prefix,
        "{\"notifier_id\": \"%s\", \"topics\": [], \"data\": {\"%s\": ", relay->notifier_id,
        RELAY_CONTROL_KEY_ROW);
    text_append_string(suffix, "}}");
}

/* ---- state ---- */

static void relay_tell_state(struct relay *relay)
{
    enum broadcast_state state = BROADCAST_CONNECTING;
    if (relay->given_up)
        state = BROADCAST_LOST;
    else if (relay->links[RELAY_LISTENER].state == RELAY_LINK_LIVE &&
             relay->links[RELAY_SENDER].state == RELAY_LINK_LIVE)
        state = BROADCAST_UP;
    else if (relay->was_up)
        state = BROADCAST_GAP;
    if (state == BROADCAST_UP)
        relay->was_up = true;
    if (relay->state_told && state == relay->state)
        return;
    relay->state = state;
    relay->state_told = true;
    relay->callbacks.state(relay->context, state);
}

static bool relay_sending(const struct relay *relay)
{
    return relay->links[RELAY_SENDER].state == RELAY_LINK_LIVE && !relay->held;
}

bool relay_is_live(const struct relay *relay, enum relay_side side)
{
    return relay->links[side].state == RELAY_LINK_LIVE;
}

/* While the backbone is there the queue may be as long as the producer's bound; once it is away, as long as the replay buffer's, but what was
 * accepted before is not thrown away for that. */
static void relay_set_bounds(struct relay *relay)
{
    size_t messages = relay->replay_max;
    size_t least =
        relay_is_live(relay, RELAY_SENDER) ? relay->queue_max_messages : replay_buffer_count(relay->outbox);
    if (messages < least)
        messages = least;
    replay_buffer_limit(relay->outbox, messages, relay->queue_max_bytes);
}

/* ---- connecting ---- */

static void relay_open_side(struct relay *relay, enum relay_side side)
{
    relay->links[side].state = RELAY_LINK_OPENING;
    relay->driver->open(relay->self, side);
}

static void relay_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = context;
    assert(relay->magic == RELAY_MAGIC);
    (void)descriptor;
    (void)what;
    /* One timer a side; which one fired is told by its state, and both may be due. */
    for (int side = 0; side < RELAY_SIDES; side++)
        if (relay->links[side].state == RELAY_LINK_WAITING &&
            !event_pending(relay->links[side].retry, EV_TIMEOUT, NULL))
            relay_open_side(relay, (enum relay_side)side);
}

/* From the first connect on: whoever comes back later than the settle time after the others has missed their replay, so nobody waits longer
 * than that between attempts. */
static void relay_limit_backoff(struct relay *relay)
{
    double settle = (double)relay->settle_ns / (double)CLOCK_SECOND;
    for (int side = 0; side < RELAY_SIDES; side++) {
        struct backoff *backoff = &relay->links[side].backoff;
        if (settle > 0 && backoff->maximum > settle)
            backoff->maximum = settle > backoff->minimum ? settle : backoff->minimum;
    }
}

void relay_live(struct relay *relay, enum relay_side side)
{
    struct relay_link *link = &relay->links[side];
    uint64_t now = clock_monotonic_ns();
    link->state = RELAY_LINK_LIVE;
    if (side == RELAY_LISTENER) {
        relay_limit_backoff(relay);
        log_write(LOG_INFO, relay->driver->logger, "Broadcaster listener connected to channel '%s'",
            relay->channel);
        if (relay->was_live)
            relay_count(relay, BROADCAST_COUNT_RECONNECT, 1);
        relay->was_live = true;
        relay->heard_ns = now;
        relay->driver->read(relay->self, relay->reading);
        relay_recovery_listener_live(relay);
        /* The sender comes second: whoever publishes first would not hear its own heartbeat. */
        if (relay->links[RELAY_SENDER].state == RELAY_LINK_IDLE && !relay->closing)
            relay_open_side(relay, RELAY_SENDER);
    } else {
        relay->progress_ns = now;
        log_write(LOG_DEBUG, relay->driver->logger, "sender connected");
        relay_set_bounds(relay);
        relay_recovery_sender_live(relay);
        if (relay->driver->fetch_rows)
            relay->driver->fetch_rows(relay->self);
    }
    relay_tell_state(relay);
    if (relay_is_live(relay, RELAY_LISTENER) && relay_is_live(relay, RELAY_SENDER))
        relay_heartbeat_send(relay); /* proves the way at once and ends the row of failures */
}

static void relay_sender_lost(struct relay *relay)
{
    replay_buffer_rewind(relay->outbox);
    relay->heartbeat_since_ns = 0;
    relay->held = false;
    relay_set_bounds(relay);
    relay_inbound_sender_lost(relay);
    if (relay->replay_max || relay->closing)
        return;
    size_t dropped = replay_buffer_clear(relay->outbox);
    if (!dropped)
        return;
    relay->lost_messages += dropped;
    relay_count(relay, BROADCAST_COUNT_SEND_FAILED, dropped);
    log_write(LOG_ERROR, relay->driver->logger,
        "%zu events were not acknowledged when the connection was lost; dropped, because the replay buffer "
        "is off",
        dropped);
}

/* A sender that is waiting for its next attempt waits for the listener instead. */
static void relay_park_sender(struct relay *relay)
{
    struct relay_link *sender = &relay->links[RELAY_SENDER];
    if (sender->state != RELAY_LINK_WAITING)
        return;
    event_del(sender->retry);
    sender->state = RELAY_LINK_IDLE;
}

static bool relay_gives_up(struct relay *relay, const struct relay_link *link)
{
    if (relay->given_up)
        return true;
    if (relay->no_reconnect && relay->was_live) {
        log_write(LOG_ERROR, relay->driver->logger,
            "the backbone stays lost until a restart: reconnecting is switched off "
            "(OPAL_BROADCAST_RECONNECT_ENABLED)");
        return true;
    }
    if (!relay->max_retries || (int64_t)link->backoff.attempt < relay->max_retries)
        return false;
    log_write(LOG_ERROR, relay->driver->logger, BROADCAST_GIVING_UP, link->backoff.attempt);
    return true;
}

void relay_lost(struct relay *relay, enum relay_side side, const char *why)
{
    struct relay_link *link = &relay->links[side];
    bool was_live = link->state == RELAY_LINK_LIVE;
    uint64_t random = 0;
    if (link->state != RELAY_LINK_LIVE && link->state != RELAY_LINK_OPENING)
        return;
    relay->driver->close(relay->self, side);
    snprintf(link->why, sizeof link->why, "%s", why);
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = clock_monotonic_ns() * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t delay = backoff_fail(&link->backoff, random);
    link->state = RELAY_LINK_WAITING;
    if (side == RELAY_SENDER)
        relay_sender_lost(relay);
    if (relay->closing)
        return;
    log_write(LOG_ERROR, relay->driver->logger, "Broadcaster %s error (attempt %u): %s", side_names[side],
        link->backoff.attempt, why);
    if (side == RELAY_LISTENER) {
        relay_recovery_listener_lost(relay, was_live, why);
        relay_park_sender(relay);
    }
    if (relay_gives_up(relay, link)) {
        link->state = RELAY_LINK_IDLE;
        relay->given_up = true;
    }
    relay_tell_state(relay);
    if (relay->given_up)
        return;
    /* Without a listener the sender waits for it; both failing side by side would only say everything twice. */
    if (side == RELAY_SENDER && !relay_is_live(relay, RELAY_LISTENER)) {
        link->state = RELAY_LINK_IDLE;
        return;
    }
    struct timeval after = clock_timeval_ns(delay);
    event_add(link->retry, &after);
}

/* ---- sending ---- */

void relay_schedule_pump(struct relay *relay)
{
    event_active(relay->pump, EV_TIMEOUT, 0);
}

/* What was dropped here is missing on every other server. They are asked to refetch once everything that could be sent is out. */
static void relay_confess(struct relay *relay)
{
    size_t dropped;
    char why[80];
    if (!relay->lost_messages || replay_buffer_count(relay->outbox))
        return;
    text_clear(&relay->scratch);
    snprintf(why, sizeof why, "%" PRIu64 " events of this server could not be sent", relay->lost_messages);
    notification_encode_resync(
        &relay->scratch, slice_from_string(relay->notifier_id), slice_from_string(why));
    if (!replay_buffer_append(relay->outbox, text_slice(&relay->scratch), false, &dropped))
        return; /* everything is in flight: after the next acknowledgement */
    log_write(LOG_WARNING, relay->driver->logger,
        "asking the other servers to have their clients refetch: %" PRIu64 " events never reached them",
        relay->lost_messages);
    relay->lost_messages = 0;
}

void relay_pump(struct relay *relay)
{
    struct slice message;
    bool sent = false;
    if (!relay_sending(relay))
        return;
    relay_confess(relay);
    while (replay_buffer_next(relay->outbox, &message) && relay->driver->send(relay->self, message)) {
        if (!replay_buffer_in_flight(relay->outbox))
            relay->progress_ns = clock_monotonic_ns();
        replay_buffer_sent(relay->outbox);
        sent = true;
    }
    if (sent)
        relay->driver->flush(relay->self);
}

static void relay_on_pump(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    relay_pump(context);
}

/* A message's fate, to whoever asks after it. Also called by the replay buffer for what it drops. */
static void relay_tell(struct relay *relay, uint64_t token, bool ok)
{
    if (token && relay->callbacks.acknowledged)
        relay->callbacks.acknowledged(relay->context, token, ok);
}

static void relay_on_dropped(void *context, uint64_t token)
{
    relay_tell(context, token, false);
}

bool relay_acknowledged(struct relay *relay)
{
    bool control;
    uint64_t token = replay_buffer_token_in_flight(relay->outbox);
    if (!replay_buffer_done(relay->outbox, &control))
        return false;
    relay->progress_ns = clock_monotonic_ns();
    backoff_reset(&relay->links[RELAY_SENDER].backoff);
    if (control) {
        if (!relay->heartbeat_since_ns && relay_is_live(relay, RELAY_LISTENER))
            relay->heartbeat_since_ns = relay->progress_ns;
    } else {
        relay_count(relay, BROADCAST_COUNT_SENT, 1);
        relay_recovery_done(relay);
        relay_tell(relay, token, true);
    }
    relay_schedule_pump(relay);
    return true;
}

bool relay_refused(struct relay *relay, const char *why, bool too_large)
{
    bool control;
    uint64_t token = replay_buffer_token_in_flight(relay->outbox);
    if (!replay_buffer_done(relay->outbox, &control))
        return false;
    relay->progress_ns = clock_monotonic_ns();
    log_write_limited(&relay->limit_refused, LOG_ERROR, relay->driver->logger,
        "the backbone refused %s for good: %s; dropped", control ? "a heartbeat" : "an event", why);
    if (!control) {
        relay_count(relay, too_large ? BROADCAST_COUNT_TOO_LARGE : BROADCAST_COUNT_SEND_FAILED, 1);
        relay->lost_messages++;
        relay_recovery_done(relay);
        relay_tell(relay, token, false);
    }
    relay_schedule_pump(relay);
    return true;
}

void relay_send_again(struct relay *relay)
{
    replay_buffer_rewind(relay->outbox);
    relay_schedule_pump(relay);
}

/* `dropped` older messages had to go, or this one did not fit at all. */
static void relay_note_overflow(struct relay *relay, size_t dropped, const char *what)
{
    relay->lost_messages += dropped;
    relay_count(relay, BROADCAST_COUNT_SEND_FAILED, dropped);
    log_write_limited(&relay->limit_overflow, LOG_ERROR, relay->driver->logger,
        "Broadcast to backbone failed (%s); OVERFLOW of the replay buffer: %s (%zu messages, %zu bytes are "
        "waiting)",
        relay_is_live(relay, RELAY_SENDER) ? "it takes events more slowly than they come"
                                           : relay->links[RELAY_SENDER].why,
        what, replay_buffer_count(relay->outbox), replay_buffer_bytes(relay->outbox));
    for (size_t i = 0; i < dropped; i++)
        relay_recovery_done(relay);
}

static const char *relay_why_not_sending(const struct relay *relay)
{
    if (relay->links[RELAY_LISTENER].state != RELAY_LINK_LIVE)
        return relay->links[RELAY_LISTENER].why[0] ? relay->links[RELAY_LISTENER].why : "not connected yet";
    return relay->links[RELAY_SENDER].why[0] ? relay->links[RELAY_SENDER].why : "not connected yet";
}

int relay_publish(struct relay *relay, struct slice topic, struct slice data, uint64_t token)
{
    size_t dropped = 0;
    text_clear(&relay->scratch);
    notification_encode(&relay->scratch, slice_from_string(relay->notifier_id), topic, data);
    struct slice message = text_slice(&relay->scratch);
    if (message.length > relay->message_max) {
        relay_count(relay, BROADCAST_COUNT_TOO_LARGE, 1);
        log_write_limited(&relay->limit_too_large, LOG_ERROR, relay->driver->logger,
            "an event of %zu bytes can't be carried by the backbone (limit %" PRIu64
            " bytes): it does not reach other servers",
            message.length, relay->message_max);
        errno = EMSGSIZE;
        return -1;
    }
    if (!replay_buffer_append(relay->outbox, message, false, &dropped)) {
        relay_note_overflow(relay, 1, "this event is dropped");
        errno = ENOBUFS;
        return -1;
    }
    replay_buffer_set_token(relay->outbox, token);
    if (dropped)
        relay_note_overflow(relay, dropped, "the oldest is dropped");
    if (relay_sending(relay))
        relay_schedule_pump(relay);
    else if (!relay->held)
        log_write_limited(&relay->limit_buffered, LOG_WARNING, relay->driver->logger,
            "Broadcast to backbone failed (%s); buffered for replay (%zu/%zu)", relay_why_not_sending(relay),
            replay_buffer_count(relay->outbox), relay->replay_max);
    return 0;
}

void relay_set_message_max(struct relay *relay, uint64_t message_max)
{
    relay->message_max = message_max;
}

uint64_t relay_message_max(const struct relay *relay)
{
    return relay->message_max;
}

/* ---- life cycle ---- */

uint64_t relay_deadline_ns(const struct broadcast_settings *settings)
{
    return (uint64_t)(settings->heartbeat_deadline * (double)CLOCK_SECOND);
}

struct relay *relay_make(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, const struct relay_driver *driver, void *self)
{
    struct relay *relay = memory_allocate(sizeof *relay);
    relay->magic = RELAY_MAGIC;
    relay->base = base;
    relay->callbacks = *callbacks;
    relay->context = context;
    relay->driver = driver;
    relay->self = self;
    relay->channel = memory_copy_string(settings->channel);
    relay->notifier_id = memory_copy_string(settings->notifier_id);
    relay->json_max_depth = settings->json_max_depth;
    relay->queue_max_bytes = settings->queue_max_bytes;
    relay->queue_max_messages = settings->queue_max_messages;
    relay->replay_max = settings->replay_buffer_size;
    relay->settle_ns = (uint64_t)(settings->settle_seconds * (double)CLOCK_SECOND);
    relay->no_reconnect = settings->no_reconnect;
    relay->max_retries = settings->reconnect_max_retries;
    relay->message_max = UINT64_MAX;
    relay->outbox = replay_buffer_make(0, 0);
    replay_buffer_on_dropped(relay->outbox, relay_on_dropped, relay);
    relay_set_bounds(relay);
    relay->inbox = inbox_make(RELAY_INBOX_MESSAGES, RELAY_INBOX_BYTES);
    relay->decoder = notification_decoder_make(settings->json_max_depth);
    relay->reading = true;
    relay->pump = event_new(base, -1, 0, relay_on_pump, relay);
    relay->recover = event_new(base, -1, 0, relay_recovery_on_timer, relay);
    relay->tick = event_new(base, -1, EV_PERSIST, relay_heartbeat_on_tick, relay);
    relay->tick_ns = relay_deadline_ns(settings) / 4;
    for (int side = 0; side < RELAY_SIDES; side++) {
        backoff_init(
            &relay->links[side].backoff, settings->reconnect_backoff_min, settings->reconnect_backoff_max);
        relay->links[side].retry = event_new(base, -1, 0, relay_on_retry, relay);
    }
    return relay;
}

void relay_start(struct relay *relay)
{
    struct timeval each = clock_timeval_ns(relay->tick_ns);
    relay->opened_ns = clock_monotonic_ns();
    relay->ticked_ns = relay->opened_ns;
    event_add(relay->tick, &each);
    relay_tell_state(relay);
    relay_open_side(relay, RELAY_LISTENER);
}

size_t relay_close(struct relay *relay, int grace_ms)
{
    uint64_t deadline = clock_monotonic_ns() + (uint64_t)(grace_ms > 0 ? grace_ms : 0) * CLOCK_MILLISECOND;
    relay->closing = true;
    relay->held = false;
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        relay_pump(relay);
        if (!replay_buffer_count(relay->outbox) || now >= deadline || !relay_is_live(relay, RELAY_SENDER))
            break;
        relay->driver->wait(relay->self, (int)((deadline - now) / CLOCK_MILLISECOND) + 1);
    }
    size_t unsent = replay_buffer_count(relay->outbox);
    for (int side = 0; side < RELAY_SIDES; side++) {
        relay->driver->close(relay->self, (enum relay_side)side);
        event_free(relay->links[side].retry);
    }
    event_free(relay->pump);
    event_free(relay->recover);
    event_free(relay->tick);
    replay_buffer_free(relay->outbox);
    inbox_free(relay->inbox);
    notification_decoder_free(relay->decoder);
    json_free(&relay->control);
    text_free(&relay->scratch);
    free(relay->channel);
    free(relay->notifier_id);
    relay->magic = 0;
    free(relay);
    return unsent;
}
