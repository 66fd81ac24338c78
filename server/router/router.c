/*
 * Turn of the loop: take at most ROUTER_BUDGET records from the uplinks, round robin, so that one busy worker
 * can't starve the others; put each on the ring, then hand it to the backbone; wake the sleeping workers
 * once. Local delivery comes first and never waits for the backbone.
 *
 * Sleeping on the doorbell follows shm/uplink.h: uplink_master_sleep looks at every uplink again after
 * announcing the sleep, so no record is left lying. While the ring is full the router does not sleep on the
 * doorbell but polls the ring with a short timer: readers don't signal the writer (that would cost a busy
 * reader a system call), and a full ring is rare.
 */
#include "server/router/router_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/statistics/statistics_service.h"
#include "shm/common/python.h"
#include "shm/link/policy_link.h"
#include "shm/worker_table.h"

/* ---- a full ring ---- */

static void router_note_full(struct router *router)
{
    struct timeval soon = {0, ROUTER_FULL_POLL_US};
    router->ring_full = true;
    if (!router->stall_since_ns) {
        uint64_t lag;
        router->stall_slot = ring_writer_slowest(router->ring, &lag);
        router->stall_cursor =
            router->stall_slot == UINT32_MAX ? 0 : ring_writer_cursor(router->ring, router->stall_slot);
        router->stall_since_ns = router->stall_looked_ns = clock_monotonic_ns();
        log_write_limited(&router->limit_full, LOG_WARNING, LOGGER_BROADCAST,
            "the ring is full: worker slot %u is %" PRIu64
            " bytes behind; taking in no events until it has moved on",
            router->stall_slot, lag);
    }
    event_add(router->full_poll, &soon);
}

/* A reader that does not move for the stall limit is stuck, whatever the reason. One that moves, however
 * slowly, is not. */
static void router_check_stall(struct router *router)
{
    uint64_t lag;
    uint64_t now = clock_monotonic_ns();
    unsigned slot = ring_writer_slowest(router->ring, &lag);
    if (slot == UINT32_MAX)
        return;
    uint64_t cursor = ring_writer_cursor(router->ring, slot);
    bool paused = now - router->stall_looked_ns > ROUTER_PAUSED_NS;
    router->stall_looked_ns = now;
    if (paused || slot != router->stall_slot || cursor != router->stall_cursor) {
        router->stall_slot = slot;
        router->stall_cursor = cursor;
        router->stall_since_ns = now;
        return;
    }
    if ((double)(now - router->stall_since_ns) < router->config->ring_stall_seconds * (double)CLOCK_SECOND)
        return;
    router->stall_since_ns = now;
    router->hooks.worker_stuck(
        router->hooks.context, slot, "it has held up the full ring for longer than the limit");
}

void *router_reserve(struct router *router, enum ring_type type, uint32_t length)
{
    void *body = ring_writer_reserve(router->ring, type, length);
    if (!body)
        router_note_full(router);
    else /* there was room for this one; who waits for more still watches the slowest reader */
        router->ring_full = false;
    return body;
}

/* ---- publishers that wait for the backbone ---- */

static void router_put_answers(struct router *router)
{
    struct event_acknowledgement answer;
    while (acknowledgement_due(router->acknowledgements, &answer)) {
        void *body = router_reserve(router, RING_ACKNOWLEDGED, sizeof answer);
        if (!body)
            break; /* full_poll tries again */
        memcpy(body, &answer, sizeof answer);
        ring_writer_commit(router->ring);
        acknowledgement_answered(router->acknowledgements);
    }
    ring_writer_wake(router->ring);
}

static void router_on_answer_due(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    router_put_answers(context);
}

void router_on_backbone_acknowledged(void *context, uint64_t token, bool ok)
{
    struct router *router = context;
    if (acknowledgement_done(router->acknowledgements, token, ok))
        event_active(router->answer_due, EV_TIMEOUT, 0);
}

static uint64_t router_begin_waiting(struct router *router, const struct event *event)
{
    uint64_t wait_ns = (uint64_t)(router->config->publish_wait_seconds * (double)CLOCK_SECOND);
    uint64_t token = acknowledgement_begin(
        router->acknowledgements, event, clock_monotonic_ns(), event->entered_ns + wait_ns);
    if (!token)
        log_write_limited(&router->limit_waiting, LOG_WARNING, LOGGER_BROADCAST,
            "%zu publishers wait for the backbone already: the next ones will hear that it did not answer in "
            "time",
            acknowledgement_count(router->acknowledgements));
    return token;
}

/* ---- webhooks ---- */

void router_notice_webhook(struct router *router, const struct slice *topic)
{
    if (slice_equals(*topic, SLICE_LITERAL(POLICY_WEBHOOK_TOPIC)))
        router->hooks.webhook(router->hooks.context);
}

static void router_notice_webhooks(struct router *router, const struct event *event)
{
    uint32_t offset = 0;
    struct slice topic;
    while (!(event->flags & EVENT_POLICY_KNOWS) && event_topic_next(event, &offset, &topic))
        router_notice_webhook(router, &topic);
}

/* ---- events of this host ---- */

/* One message to the backbone. A failure is logged and counted by the backend, which knows the reason. */
static bool router_send(struct router *router, struct slice topic, struct slice data, uint64_t token)
{
    if (broadcast_publish(router->backbone, topic, data, token) != 0)
        return false;
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENTS_TO_BACKBONE, 1);
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENT_BYTES_TO_BACKBONE, data.length);
    return true;
}

static void router_to_backbone(struct router *router, const struct event *event)
{
    uint32_t offset = 0;
    uint64_t token = 0;
    struct slice topic;
    if ((event->flags & EVENT_WANTS_ACKNOWLEDGEMENT) && event->ticket)
        token = router_begin_waiting(router, event);
    while (
        router->backbone && !(event->flags & EVENT_LOCAL_ONLY) && event_topic_next(event, &offset, &topic)) {
        text_clear(&router->scratch);
        python_append_string(&router->scratch, topic);
        log_write(LOG_INFO, LOGGER_BROADCAST,
            "Broadcasting incoming event: {'topic': %s, 'notifier_id': '%s'}", router->scratch.data,
            router->notifier_id);
        if (token)
            acknowledgement_expect(router->acknowledgements, token);
        if (!router_send(router, topic, event->data, token) && token)
            router_on_backbone_acknowledged(router, token, false);
    }
    if (token)
        router_on_backbone_acknowledged(router, token, true); /* our own share: all are handed over */
}

/* Drops the event, whose place on the ring is reserved. False when there is no room to tell its publisher. */
static bool router_freeze(struct router *router, const struct event *event)
{
    struct event_refusal refusal = {.ticket = event->ticket,
        .origin = event->origin,
        .incarnation = event->incarnation,
        .reason = EVENT_REFUSED_FROZEN};
    if (refusal.ticket) {
        void *body = router_reserve(router, RING_REFUSED, sizeof refusal);
        if (!body)
            return false;
        memcpy(body, &refusal, sizeof refusal);
        ring_writer_commit(router->ring);
    }
    router->frozen = true;
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENTS_FROZEN, 1);
    return true;
}

static void router_refuse_record(struct router *router, unsigned slot, const struct uplink_record *record)
{
    log_write_limited(&router->limit_corrupt, LOG_ERROR, LOGGER_BROADCAST,
        "worker slot %u wrote a record that is no event (type %u, %u bytes): skipped, replacing that worker",
        slot, record->type, record->length);
    router->hooks.worker_stuck(router->hooks.context, slot, "it wrote nonsense into its uplink");
}

/* ---- statistics ---- */

static void router_notice_statistics(struct router *router, const struct event *event)
{
    uint32_t offset = 0;
    struct slice topic;
    while (router->hooks.statistics && event_topic_next(event, &offset, &topic))
        statistics_service_event(router->hooks.statistics, topic, event->data, (int)event->origin,
            event->incarnation, (struct slice){0});
}

/* A worker's question. False: this is none. */
static bool router_take_question(struct router *router, unsigned slot, const struct uplink_record *record)
{
    struct uplink_question question;
    if (record->type != UPLINK_ASK_STATISTICS || record->length != sizeof question ||
        !router->hooks.statistics)
        return false;
    memcpy(&question, record->body, sizeof question);
    statistics_service_asked(router->hooks.statistics, slot, question.number, question.brief != 0);
    return true;
}

/* True when the record is dealt with; false when the ring is full and it must be offered again. */
static bool router_route(struct router *router, unsigned slot, const struct uplink_record *record)
{
    struct event event;
    if (router_take_question(router, slot, record))
        return true;
    if (record->type != RING_EVENT || record->length > ring_writer_body_max(router->ring)) {
        router_refuse_record(router, slot, record);
        return true;
    }
    void *body = router_reserve(router, RING_EVENT, record->length);
    if (!body)
        return false;
    /* Copied first, checked then: the worker could change its own memory after a check. Without a commit the ring is as it was. */
    memcpy(body, record->body, record->length);
    if (!event_decode(body, record->length, &event) || event.origin != slot) {
        router_refuse_record(router, slot, record);
        return true;
    }
    if (freeze_drops(&router->freeze, &event))
        return router_freeze(router, &event);
    ring_writer_commit(router->ring);
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENTS_ROUTED, 1);
    router_notice_webhooks(router, &event);
    router_notice_statistics(router, &event);
    router_to_backbone(router, &event);
    return true;
}

/* Takes one record of the slot. Returns false when there is none, or when the ring is full. */
static bool router_take_record(struct router *router, unsigned slot)
{
    struct router_uplink *from = &router->uplinks[slot];
    bool corrupt = false;
    if (!from->holds && !uplink_next(from->uplink, &from->held, &corrupt)) {
        if (corrupt)
            router->hooks.worker_stuck(router->hooks.context, slot, "its uplink is corrupt");
        return false;
    }
    from->holds = !router_route(router, slot, &from->held);
    if (from->holds)
        return false;
    uplink_release(from->uplink);
    return true;
}

/* Most slots are never used, and a look at all of them is a part of every event. */
static inline bool router_take_one(struct router *router, unsigned slot)
{
    return router->uplinks[slot].uplink && router_take_record(router, slot);
}

static void router_take_in(struct router *router)
{
    unsigned budget = ROUTER_BUDGET;
    unsigned idle = 0; /* slots in a row that had nothing */
    router->ring_full = false;
    while (budget && idle < router->slots && !router->ring_full) {
        unsigned slot = router->next_slot;
        router->next_slot = (slot + 1) % router->slots;
        if (router_take_one(router, slot)) {
            idle = 0;
            budget--;
        } else {
            idle++;
        }
    }
    ring_writer_wake(router->ring);
    if (router->ring_full)
        return; /* full_poll goes on */
    if (!budget || !uplink_master_sleep(router->segment))
        event_active(router->again, EV_TIMEOUT, 0);
}

static void router_on_doorbell(evutil_socket_t descriptor, short what, void *context)
{
    struct router *router = context;
    (void)descriptor;
    (void)what;
    uplink_master_awake(router->segment);
    router_take_in(router);
}

static void router_on_again(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    router_take_in(context);
}

void router_put_resync(struct router *router)
{
    void *body = router_reserve(router, RING_RESYNC, sizeof router->resync);
    router->resync_waits = !body;
    if (!body)
        return; /* full_poll tries again */
    memcpy(body, &router->resync, sizeof router->resync);
    ring_writer_commit(router->ring);
    ring_writer_wake(router->ring);
}

static void router_on_full_poll(evutil_socket_t descriptor, short what, void *context)
{
    struct router *router = context;
    (void)descriptor;
    (void)what;
    router_check_stall(router);
    if (router->resync_waits)
        router_put_resync(router);
    router_put_answers(router);
    /* The backbone's event came before whatever is in the uplinks now: it gets the first room. */
    if (router->backbone_waits) {
        router->backbone_waits = false;
        broadcast_resume(router->backbone);
    }
    if (!router->backbone_waits)
        router_take_in(router);
    else
        router_note_full(router);
    if (!event_pending(router->full_poll, EV_TIMEOUT, NULL))
        router->stall_since_ns = 0; /* nobody waits for room any more */
}

/* ---- life cycle ---- */

struct router *router_open(struct event_base *base, const struct config *config, struct segment *segment,
    const struct router_hooks *hooks, struct error *err)
{
    struct router *router = memory_allocate(sizeof *router);
    struct identity identity = identity_make();
    router->magic = ROUTER_MAGIC;
    router->base = base;
    router->config = config;
    router->segment = segment;
    router->hooks = *hooks;
    router->slots = segment_slot_count(segment);
    identity_format(&identity, router->notifier_id);
    router->ring = ring_writer_open(segment);
    router->doorbell =
        event_new(base, segment_own_eventfd(segment), EV_READ | EV_PERSIST, router_on_doorbell, router);
    router->again = event_new(base, -1, 0, router_on_again, router);
    router->full_poll = event_new(base, -1, 0, router_on_full_poll, router);
    router->answer_due = event_new(base, -1, 0, router_on_answer_due, router);
    router->frozen_resync = event_new(base, -1, 0, router_on_frozen_resync, router);
    router->missed_resync = event_new(base, -1, 0, router_on_missed_resync, router);
    router->acknowledgements = acknowledgement_make(ROUTER_WAITING_MAX);
    freeze_init(&router->freeze, config);
    event_add(router->doorbell, NULL);
    event_limit_write(segment, (uint64_t)config->event_max_bytes);
    backbone_state_write(segment, BACKBONE_NONE);
    if (config->broadcast_uri && router_open_backbone(router, err) < 0) {
        router_close(router, 0);
        return NULL;
    }
    uplink_master_sleep(segment);
    return router;
}

/* Nobody reads the ring any more, so it has room for all. */
void router_take_rest(struct router *router)
{
    bool took = true;
    while (took) {
        took = false;
        for (unsigned slot = 0; slot < router->slots; slot++)
            took |= router_take_one(router, slot);
    }
}

void router_close(struct router *router, int grace_ms)
{
    if (router->backbone) {
        size_t unsent = broadcast_close(router->backbone, grace_ms);
        if (unsent)
            log_write(LOG_ERROR, LOGGER_BROADCAST,
                "%zu events could not be sent to the backbone before the end: they are lost for other "
                "servers",
                unsent);
    }
    for (unsigned slot = 0; slot < router->slots; slot++)
        if (router->uplinks[slot].uplink)
            uplink_close(router->uplinks[slot].uplink);
    event_free(router->doorbell);
    event_free(router->again);
    event_free(router->full_poll);
    event_free(router->answer_due);
    event_free(router->frozen_resync);
    event_free(router->missed_resync);
    acknowledgement_free(router->acknowledgements);
    ring_writer_close(router->ring);
    text_free(&router->scratch);
    free(router);
}

struct slice router_id(const struct router *router)
{
    return (struct slice){router->notifier_id, IDENTITY_HEX};
}

void router_serving(struct router *router)
{
    router->serving = true;
    router->serving_since_ns = clock_monotonic_ns();
}

void router_attach_worker(struct router *router, unsigned slot)
{
    struct router_uplink *from = &router->uplinks[slot];
    if (!from->uplink)
        from->uplink = uplink_open(router->segment, slot);
    ring_writer_activate(router->ring, slot);
}

void router_detach_worker(struct router *router, unsigned slot)
{
    ring_writer_deactivate(router->ring, slot);
    router_take_in(router);
    acknowledgement_forget_worker(router->acknowledgements, slot);
    if (router->hooks.statistics)
        statistics_service_worker_gone(router->hooks.statistics, slot);
}

void router_attach_publisher(struct router *router, unsigned slot)
{
    if (!router->uplinks[slot].uplink)
        router->uplinks[slot].uplink = uplink_open(router->segment, slot);
}

void router_detach_publisher(struct router *router, unsigned slot)
{
    router_take_in(router);
    acknowledgement_forget_worker(router->acknowledgements, slot);
}

int router_publish(struct router *router, struct slice topic, struct slice data)
{
    struct event event = {
        .entered_ns = clock_monotonic_ns(), .origin = EVENT_ORIGIN_BACKBONE, .topic_count = 1, .data = data};
    uint32_t length = event_encoded_size(&topic, 1, event.notifier, data);
    if (length > ring_writer_body_max(router->ring)) { /* the ring takes it for a damaged program */
        log_write(LOG_ERROR, LOGGER_BROADCAST,
            "an event of this server's own of %zu bytes is too large: not published", data.length);
        return 0;
    }
    void *body = router_reserve(router, RING_EVENT, length);
    if (!body)
        return -1;
    event_encode(body, &event, &topic);
    ring_writer_commit(router->ring);
    ring_writer_wake(router->ring);
    if (router->backbone)
        router_send(router, topic, data, 0);
    return 0;
}
