/*
 * A record comes from the intake, is put on the ring, then handed to the backbone; the sleeping workers are
 * woken once for a batch of records. Local delivery comes first and never waits for the backbone.
 */
#include "server/router/router.h"

#include <stdlib.h>
#include <string.h>

#include "server/router/acknowledgement.h"
#include "server/router/backbone_link.h"
#include "server/router/intake.h"
#include "server/router/ring_output.h"
#include "shm/common/clock.h"
#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/ring_event.h"
#include "shm/link/policy_link.h"
#include "shm/worker_table.h"

#define ROUTER_MAGIC 0x726f7574u
/* Publishers that wait for the backbone at one time; more are told that it did not answer in time. */
#define ROUTER_WAITING_MAX 65536

struct router {
    uint32_t magic;
    const struct config *config;
    struct segment *segment;
    struct router_hooks hooks;
    struct ring_output *ring;
    /* NULL: no backbone */
    struct backbone_link *backbone;
    struct intake *intake;
    struct acknowledgements *acknowledgements;
    /* answers of `acknowledgements` are to be put on the ring */
    struct event *answer_due;
    /* the backbone offered an event while the ring was full */
    bool backbone_waits;
    /* a resync that found the ring full */
    bool resync_waits;
    struct ring_resync resync;
    char notifier_id[IDENTITY_HEX + 1];
    struct text scratch;
    struct log_limiter limit_corrupt;
    struct log_limiter limit_waiting;
};

static struct router *router_cast(void *context)
{
    return object_cast(struct router, ROUTER_MAGIC, context);
}

/* ---- publishers that wait for the backbone ---- */

static void router_put_answers(struct router *router)
{
    struct ring_acknowledgement answer;
    while (acknowledgement_due(router->acknowledgements, &answer) &&
           ring_output_put(router->ring, RING_ACKNOWLEDGED, &answer, sizeof answer))
        acknowledgement_answered(router->acknowledgements);
    ring_output_wake(router->ring);
}

static void router_on_answer_due(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    router_put_answers(router_cast(context));
}

static void router_on_acknowledged(void *context, uint64_t token, bool ok)
{
    struct router *router = router_cast(context);
    if (acknowledgement_done(router->acknowledgements, token, ok))
        event_active(router->answer_due, EV_TIMEOUT, 0);
}

static uint64_t router_begin_waiting(struct router *router, const struct ring_event *event)
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

/* ---- who is told of an event ---- */

static void router_notice_webhook(struct router *router, struct slice topic)
{
    if (slice_equals(topic, SLICE_LITERAL(POLICY_WEBHOOK_TOPIC)))
        router->hooks.webhook(router->hooks.context);
}

static void router_notice(struct router *router, const struct ring_event *event)
{
    struct router_event noticed = {
        .data = event->data, .slot = (int)event->origin, .incarnation = event->incarnation};
    bool webhook = !(event->flags & RING_EVENT_POLICY_KNOWS);
    uint32_t offset = 0;
    while ((webhook || router->hooks.event) && ring_event_topic_next(event, &offset, &noticed.topic)) {
        if (webhook)
            router_notice_webhook(router, noticed.topic);
        if (router->hooks.event)
            router->hooks.event(router->hooks.context, &noticed);
    }
}

/* ---- events of this host ---- */

static void router_to_backbone(struct router *router, const struct ring_event *event)
{
    uint32_t offset = 0;
    uint64_t token = 0;
    struct slice topic;
    if ((event->flags & RING_EVENT_WANTS_ACKNOWLEDGEMENT) && event->ticket)
        token = router_begin_waiting(router, event);
    while (router->backbone && !(event->flags & RING_EVENT_LOCAL_ONLY) &&
           ring_event_topic_next(event, &offset, &topic)) {
        text_clear(&router->scratch);
        python_append_string(&router->scratch, topic);
        log_write(LOG_INFO, LOGGER_BROADCAST,
            "Broadcasting incoming event: {'topic': %s, 'notifier_id': '%s'}", router->scratch.data,
            router->notifier_id);
        if (token)
            acknowledgement_expect(router->acknowledgements, token);
        if (!backbone_link_send(router->backbone, topic, event->data, token) && token)
            router_on_acknowledged(router, token, false);
    }
    if (token)
        router_on_acknowledged(router, token, true); /* our own share: all are handed over */
}

/* Answers the publisher of an event that is dropped. False when there is no room to do so. */
static bool router_refuse_frozen(struct router *router, const struct ring_event *event)
{
    struct ring_refusal refusal = {.ticket = event->ticket,
        .origin = event->origin,
        .incarnation = event->incarnation,
        .reason = RING_REFUSED_FROZEN};
    return !refusal.ticket || ring_output_put(router->ring, RING_REFUSED, &refusal, sizeof refusal);
}

static void router_refuse_record(struct router *router, unsigned slot, const struct uplink_record *record)
{
    log_write_limited(&router->limit_corrupt, LOG_ERROR, LOGGER_BROADCAST,
        "worker slot %u wrote a record that is no event (type %u, %u bytes): skipped, replacing that worker",
        slot, record->type, record->length);
    router->hooks.worker_stuck(router->hooks.context, slot, "it wrote nonsense into its uplink");
}

/* A worker's question. False: this is none. */
static bool router_take_question(struct router *router, unsigned slot, const struct uplink_record *record)
{
    struct uplink_question question;
    if (record->type != UPLINK_ASK_STATISTICS || record->length != sizeof question || !router->hooks.asked)
        return false;
    memcpy(&question, record->body, sizeof question);
    router->hooks.asked(router->hooks.context, slot, question.number, question.brief != 0);
    return true;
}

static bool router_on_record(void *context, unsigned slot, const struct uplink_record *record)
{
    struct router *router = router_cast(context);
    struct ring_event event;
    if (router_take_question(router, slot, record))
        return true;
    if (record->type != RING_EVENT || record->length > ring_output_body_max(router->ring)) {
        router_refuse_record(router, slot, record);
        return true;
    }
    void *body = ring_output_reserve(router->ring, RING_EVENT, record->length);
    if (!body)
        return false;
    /* Copied first, checked then: the worker could change its own memory after a check. Without a commit
     * the ring is as it was. */
    memcpy(body, record->body, record->length);
    if (!ring_event_decode(body, record->length, &event) || event.origin != slot) {
        router_refuse_record(router, slot, record);
        return true;
    }
    if (router->backbone && backbone_link_freezes(router->backbone, &event))
        return router_refuse_frozen(router, &event);
    ring_output_commit(router->ring);
    counter_add(router->segment, COUNTER_MASTER, COUNTER_EVENTS_ROUTED, 1);
    router_notice(router, &event);
    router_to_backbone(router, &event);
    return true;
}

static void router_on_corrupt(void *context, unsigned slot)
{
    struct router *router = router_cast(context);
    router->hooks.worker_stuck(router->hooks.context, slot, "its uplink is corrupt");
}

static void router_on_batch_end(void *context)
{
    struct router *router = router_cast(context);
    ring_output_wake(router->ring);
}

/* ---- a full ring ---- */

static void router_put_resync(struct router *router)
{
    router->resync_waits =
        !ring_output_put(router->ring, RING_RESYNC, &router->resync, sizeof router->resync);
    ring_output_wake(router->ring);
}

static void router_on_room(void *context)
{
    struct router *router = router_cast(context);
    if (router->resync_waits)
        router_put_resync(router);
    router_put_answers(router);
    /* The backbone's event came before whatever is in the uplinks now: it gets the first room. */
    if (router->backbone_waits) {
        router->backbone_waits = false;
        backbone_link_resume(router->backbone);
    }
    if (!router->backbone_waits)
        intake_run(router->intake);
}

static void router_on_stuck(void *context, unsigned slot, const char *why)
{
    struct router *router = router_cast(context);
    router->hooks.worker_stuck(router->hooks.context, slot, why);
}

/* ---- events of other servers ---- */

static bool router_on_backbone_event(void *context, const struct notification *notification)
{
    struct router *router = router_cast(context);
    const struct ring_event event = {
        .entered_ns = clock_monotonic_ns(),
        .origin = RING_EVENT_NO_WORKER,
        .topic_count = notification->topic_count,
        .data = notification->data,
    };
    struct router_event noticed = {
        .data = notification->data, .slot = -1, .source = notification->notifier_id};
    void *body = ring_output_reserve(router->ring, RING_EVENT,
        ring_event_encoded_size(notification->topics, notification->topic_count, notification->data));
    router->backbone_waits = !body;
    if (!body)
        return false;
    ring_event_encode(body, &event, notification->topics);
    ring_output_commit(router->ring);
    for (uint32_t i = 0; i < notification->topic_count; i++) {
        noticed.topic = notification->topics[i];
        router_notice_webhook(router, noticed.topic);
        if (router->hooks.event)
            router->hooks.event(router->hooks.context, &noticed);
    }
    return true;
}

static void router_on_missed(void *context)
{
    struct router *router = router_cast(context);
    if (router->hooks.missed)
        router->hooks.missed(router->hooks.context);
}

static void router_on_resync(void *context, const struct ring_resync *resync)
{
    struct router *router = router_cast(context);
    router->resync = *resync;
    router_put_resync(router);
}

static void router_on_given_up(void *context)
{
    struct router *router = router_cast(context);
    router->hooks.backbone_given_up(router->hooks.context);
}

/* ---- life cycle ---- */

static int router_open_backbone(struct router *router, struct event_base *base, struct error *err)
{
    const struct backbone_link_settings settings = {.base = base,
        .config = router->config,
        .segment = router->segment,
        .notifier_id = router->notifier_id,
        .record_max = ring_output_body_max(router->ring)};
    const struct backbone_link_hooks hooks = {.event = router_on_backbone_event,
        .batch_end = router_on_batch_end,
        .acknowledged = router_on_acknowledged,
        .missed = router_on_missed,
        .resync = router_on_resync,
        .given_up = router_on_given_up,
        .context = router};
    router->backbone = backbone_link_open(&settings, &hooks, err);
    return router->backbone ? 0 : -1;
}

struct router *router_open(struct event_base *base, const struct config *config, struct segment *segment,
    const struct router_hooks *hooks, struct error *err)
{
    struct router *router = memory_allocate(sizeof *router);
    struct identity identity = identity_make();
    const struct ring_output_hooks ring = {
        .room = router_on_room, .stuck = router_on_stuck, .context = router};
    const struct intake_hooks intake = {.record = router_on_record,
        .corrupt = router_on_corrupt,
        .batch_end = router_on_batch_end,
        .context = router};
    router->magic = ROUTER_MAGIC;
    router->config = config;
    router->segment = segment;
    router->hooks = *hooks;
    identity_format(&identity, router->notifier_id);
    router->ring = ring_output_open(base, segment, config->ring_stall_seconds, &ring);
    router->intake = intake_open(base, segment, &intake);
    router->answer_due = event_new(base, -1, 0, router_on_answer_due, router);
    router->acknowledgements = acknowledgement_make(ROUTER_WAITING_MAX);
    event_limit_write(segment, config->limits.event_max_bytes);
    backbone_state_write(segment, BACKBONE_NONE);
    if (config->broadcast.uri && router_open_backbone(router, base, err) < 0) {
        router_close(router, 0);
        return NULL;
    }
    return router;
}

/* Nobody reads the ring any more, so it has room for all. */
void router_take_rest(struct router *router)
{
    intake_rest(router->intake);
}

void router_close(struct router *router, int grace_ms)
{
    size_t unsent = router->backbone ? backbone_link_close(router->backbone, grace_ms) : 0;
    if (unsent)
        log_write(LOG_ERROR, LOGGER_BROADCAST,
            "%zu events could not be sent to the backbone before the end: they are lost for other servers",
            unsent);
    intake_close(router->intake);
    event_free(router->answer_due);
    acknowledgement_free(router->acknowledgements);
    ring_output_close(router->ring);
    text_free(&router->scratch);
    router->magic = 0;
    free(router);
}

struct slice router_id(const struct router *router)
{
    return (struct slice){router->notifier_id, IDENTITY_HEX};
}

void router_serving(struct router *router)
{
    if (router->backbone)
        backbone_link_serving(router->backbone);
}

void router_attach_publisher(struct router *router, unsigned slot)
{
    intake_attach(router->intake, slot);
}

void router_detach_publisher(struct router *router, unsigned slot)
{
    intake_run(router->intake);
    acknowledgement_forget_worker(router->acknowledgements, slot);
}

void router_attach_worker(struct router *router, unsigned slot)
{
    router_attach_publisher(router, slot);
    ring_output_attach(router->ring, slot);
}

void router_detach_worker(struct router *router, unsigned slot)
{
    ring_output_detach(router->ring, slot);
    router_detach_publisher(router, slot);
    if (router->hooks.worker_gone)
        router->hooks.worker_gone(router->hooks.context, slot);
}

int router_publish(struct router *router, struct slice topic, struct slice data)
{
    const struct ring_event event = {
        .entered_ns = clock_monotonic_ns(), .origin = RING_EVENT_NO_WORKER, .topic_count = 1, .data = data};
    uint32_t length = ring_event_encoded_size(&topic, 1, data);
    if (length > ring_output_body_max(router->ring)) { /* the ring takes it for a damaged program */
        log_write(LOG_ERROR, LOGGER_BROADCAST,
            "an event of this server's own of %zu bytes is too large: not published", data.length);
        return 0;
    }
    void *body = ring_output_reserve(router->ring, RING_EVENT, length);
    if (!body)
        return -1;
    ring_event_encode(body, &event, &topic);
    ring_output_commit(router->ring);
    ring_output_wake(router->ring);
    if (router->backbone && !backbone_link_send(router->backbone, topic, data, 0))
        return 0; /* logged and counted there */
    return 0;
}
