#include "broadcast/relay/relay_internal.h"

#include <stdlib.h>

#include "shm/common/clock.h"
#include "shm/common/memory.h"

/* ---- sending ---- */

static void relay_on_pump(evutil_socket_t descriptor, short what, void *context)
{
    struct relay *relay = relay_from(context);
    (void)descriptor;
    (void)what;
    bool held = !relay->closing && (relay->held || !relay_links_may_send(&relay->links));
    if (relay_is_live(relay, RELAY_SENDER) && relay_outbound_pump(relay->outbound, held))
        relay->driver->flush(relay->self);
}

static bool relay_outbound_on_send(void *context, struct slice message)
{
    struct relay *relay = relay_from(context);
    return relay->driver->send(relay->self, message);
}

static void relay_outbound_on_first(void *context)
{
    relay_heartbeat_progress(&relay_from(context)->heartbeat, clock_monotonic_ns());
}

static void relay_outbound_on_replayed(void *context)
{
    struct relay *relay = relay_from(context);
    if (!relay->closing)
        relay_apply(relay, relay_recovery_replayed(&relay->recovery, clock_monotonic_ns()));
}

static void relay_outbound_on_ready(void *context)
{
    event_active(relay_from(context)->pump, EV_TIMEOUT, 0);
}

static void relay_outbound_on_count(void *context, enum broadcast_count what, uint64_t amount)
{
    struct relay *relay = relay_from(context);
    relay->callbacks.count(relay->context, what, amount);
}

static void relay_outbound_on_acknowledged(void *context, uint64_t token, bool ok)
{
    struct relay *relay = relay_from(context);
    if (relay->callbacks.acknowledged)
        relay->callbacks.acknowledged(relay->context, token, ok);
}

static const char *relay_obstacle(const struct relay *relay)
{
    bool sender_fails = relay_is_live(relay, RELAY_LISTENER) && !relay_is_live(relay, RELAY_SENDER);
    enum relay_side side = sender_fails ? RELAY_SENDER : RELAY_LISTENER;
    if (relay_links_may_send(&relay->links))
        return NULL;
    return relay->timers[side].why[0] ? relay->timers[side].why : "not connected yet";
}

int relay_publish(struct relay *relay, struct slice topic, struct slice data, uint64_t token)
{
    return relay_outbound_publish(relay->outbound, topic, data, token, relay_obstacle(relay));
}

bool relay_acknowledged(struct relay *relay)
{
    uint64_t now = clock_monotonic_ns();
    enum relay_outbound_done done = relay_outbound_acknowledged(relay->outbound);
    if (done == RELAY_OUTBOUND_NOTHING)
        return false;
    relay_heartbeat_progress(&relay->heartbeat, now);
    relay_links_proven(&relay->links, RELAY_SENDER);
    if (done == RELAY_OUTBOUND_CONTROL && relay_is_live(relay, RELAY_LISTENER))
        relay_heartbeat_acknowledged(&relay->heartbeat, now);
    return true;
}

bool relay_refused(struct relay *relay, const char *why, bool too_large)
{
    if (relay_outbound_refused(relay->outbound, why, too_large) == RELAY_OUTBOUND_NOTHING)
        return false;
    relay_heartbeat_progress(&relay->heartbeat, clock_monotonic_ns());
    return true;
}

void relay_send_again(struct relay *relay)
{
    relay_outbound_send_again(relay->outbound);
}

void relay_set_message_max(struct relay *relay, uint64_t message_max)
{
    relay_outbound_set_message_max(relay->outbound, message_max);
}

uint64_t relay_message_max(const struct relay *relay)
{
    return relay_outbound_message_max(relay->outbound);
}

/* ---- receiving ---- */

static void relay_inbound_on_came_through(void *context, bool heartbeat)
{
    struct relay *relay = relay_from(context);
    relay_links_proven(&relay->links, RELAY_LISTENER);
    if (!heartbeat)
        return;
    relay_heartbeat_arrived(&relay->heartbeat);
    relay_way_is_open(relay);
}

static void relay_inbound_on_resync_wanted(void *context, const char *why)
{
    struct relay *relay = relay_from(context);
    relay_apply(relay, relay_recovery_resync_wanted(&relay->recovery, why, clock_monotonic_ns()));
}

static void relay_inbound_on_read(void *context, bool on)
{
    struct relay *relay = relay_from(context);
    relay_heartbeat_reading_changed(&relay->heartbeat, clock_monotonic_ns());
    relay->driver->read(relay->self, on);
}

static void relay_inbound_on_rows_wanted(void *context)
{
    struct relay *relay = relay_from(context);
    if (relay_is_live(relay, RELAY_SENDER))
        relay->driver->fetch_rows(relay->self);
}

void relay_heard(struct relay *relay)
{
    relay_heartbeat_heard(&relay->heartbeat, clock_monotonic_ns());
}

bool relay_received(struct relay *relay, struct slice message)
{
    relay_heard(relay);
    return relay_inbound_received(relay->inbound, message);
}

void relay_batch_end(struct relay *relay)
{
    relay_inbound_batch_end(relay->inbound);
}

void relay_resume(struct relay *relay)
{
    relay_inbound_resume(relay->inbound);
}

bool relay_next_row(struct relay *relay, uint64_t *row)
{
    return relay_inbound_next_row(relay->inbound, row);
}

void relay_row(struct relay *relay, uint64_t row, struct slice message)
{
    relay_inbound_row(relay->inbound, row, message);
}

void relay_row_template(const struct relay *relay, struct text *prefix, struct text *suffix)
{
    relay_outbound_control_template(relay->outbound, RELAY_CONTROL_KEY_ROW, prefix, suffix);
}

/* ---- life cycle ---- */

uint64_t relay_deadline_ns(const struct broadcast_settings *settings)
{
    return (uint64_t)(settings->heartbeat_deadline * (double)CLOCK_SECOND);
}

static void relay_make_parts(struct relay *relay, const struct broadcast_settings *settings)
{
    static const struct relay_outbound_hooks outbound_hooks = {.send = relay_outbound_on_send,
        .first_in_flight = relay_outbound_on_first,
        .replayed = relay_outbound_on_replayed,
        .ready = relay_outbound_on_ready,
        .count = relay_outbound_on_count,
        .acknowledged = relay_outbound_on_acknowledged};
    const struct relay_inbound_hooks inbound_hooks = {.came_through = relay_inbound_on_came_through,
        .resync_wanted = relay_inbound_on_resync_wanted,
        .read = relay_inbound_on_read,
        .rows_wanted = relay->driver->fetch_rows ? relay_inbound_on_rows_wanted : NULL};
    relay->outbound = relay_outbound_make(settings, relay->driver->logger, &outbound_hooks, relay);
    relay->inbound = relay_inbound_make(
        settings, relay->driver->logger, &relay->callbacks, relay->context, &inbound_hooks, relay);
    relay_links_init(&relay->links, settings);
}

struct relay *relay_make(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, const struct relay_driver *driver, void *self)
{
    struct relay *relay = memory_allocate(sizeof *relay);
    uint64_t now = clock_monotonic_ns();
    relay->magic = RELAY_MAGIC;
    relay->callbacks = *callbacks;
    relay->context = context;
    relay->driver = driver;
    relay->self = self;
    relay->channel = memory_copy_string(settings->channel);
    relay_make_parts(relay, settings);
    relay_recovery_init(&relay->recovery, (uint64_t)(settings->settle_seconds * (double)CLOCK_SECOND), now);
    relay_heartbeat_init(&relay->heartbeat, relay_deadline_ns(settings), now);
    relay->pump = event_new(base, -1, 0, relay_on_pump, relay);
    relay->recover = event_new(base, -1, 0, relay_on_recover, relay);
    relay->tick = event_new(base, -1, 0, relay_on_tick, relay);
    for (int side = 0; side < RELAY_SIDES; side++)
        relay->timers[side].retry = event_new(base, -1, 0, relay_on_retry, relay);
    return relay;
}

void relay_start(struct relay *relay)
{
    relay_connect(relay);
}

size_t relay_close(struct relay *relay, int grace_ms)
{
    uint64_t deadline = clock_monotonic_ns() + (uint64_t)(grace_ms > 0 ? grace_ms : 0) * CLOCK_MILLISECOND;
    relay->closing = true;
    relay->held = false;
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        relay_on_pump(-1, 0, relay);
        if (!relay_outbound_count(relay->outbound) || now >= deadline || !relay_is_live(relay, RELAY_SENDER))
            break;
        relay->driver->wait(relay->self, (int)((deadline - now) / CLOCK_MILLISECOND) + 1);
    }
    size_t unsent = relay_outbound_count(relay->outbound);
    for (int side = 0; side < RELAY_SIDES; side++) {
        relay->driver->close(relay->self, (enum relay_side)side);
        event_free(relay->timers[side].retry);
    }
    event_free(relay->pump);
    event_free(relay->recover);
    event_free(relay->tick);
    relay_outbound_free(relay->outbound);
    relay_inbound_free(relay->inbound);
    free(relay->channel);
    relay->magic = 0;
    free(relay);
    return unsent;
}
