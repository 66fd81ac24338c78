#include "server/statistics/statistics_service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/object.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/statistics/statistics_document.h"
#include "shm/link/handoff_message.h"
#include "shm/worker_table.h"

#define STATISTICS_SERVICE_MAGIC 0x73767374u
#define ASKER_MAGIC              0x61736b72u

#define OPAL_VERSION        "0.9.9" /* whose protocol this is */
#define WAKEUP_SECONDS      2   /* after the start, as the reference: until the backbone is surely heard */
#define ANSWER_SECONDS_MAX  5.0 /* random, so that one answers and not all */
#define RETRY_MS            50  /* the ring was full */
#define ASKERS_MAX          64  /* other servers that begin at one time */
#define STATE_AGAIN_SECONDS 1   /* what was sent before is not out yet */

/* A message that is to go out. */
struct message {
    STAILQ_ENTRY(message) link;
    const char *topic;
    struct text data;
};

/* Another server asked for the state, and nobody has told it yet. */
struct asker {
    uint32_t magic;
    TAILQ_ENTRY(asker) link;
    struct statistics_service *service;
    struct event *due;
    struct text id;
};

struct statistics_service {
    uint32_t magic;
    const struct config *config;
    struct segment *segment;
    struct router *router;
    struct event_base *base;
    int (*handoff)(void *context, unsigned slot);
    void *context;
    struct statistics *statistics;
    STAILQ_HEAD(messages, message) messages;
    TAILQ_HEAD(askers, asker) askers;
    size_t asker_count;
    /* messages wait */
    struct event *flush;
    /* once, to ask the others */
    struct event *wakeup;
    /* twice in the timeout */
    struct event *keepalive;
    unsigned workers;
    /* one for each worker */
    char (*worker_ids)[IDENTITY_HEX + 1];
    char uptime[40];
    /* memfds of the last answers: full, brief; -1: none */
    int snapshots[2];
    uint64_t snapshot_versions[2];
    struct log_limiter limit_invalid, limit_many, limit_full, limit_left_out;
};

/* ---- sending ---- */

static void service_on_flush(evutil_socket_t fd, short what, void *argument)
{
    struct statistics_service *service =
        object_cast(struct statistics_service, STATISTICS_SERVICE_MAGIC, argument);
    const struct timeval later = {0, RETRY_MS * 1000};
    struct message *message;
    (void)fd;
    (void)what;
    while ((message = STAILQ_FIRST(&service->messages))) {
        if (router_publish(service->router, slice_from_string(message->topic), text_slice(&message->data)) <
            0) {
            event_add(service->flush, &later);
            return;
        }
        STAILQ_REMOVE_HEAD(&service->messages, link);
        text_free(&message->data);
        free(message);
    }
}

/* From the loop, never at once: this may be called in the middle of an event. */
static struct text *service_send(struct statistics_service *service, const char *topic)
{
    struct message *message = memory_allocate(sizeof *message);
    message->topic = topic;
    STAILQ_INSERT_TAIL(&service->messages, message, link);
    event_active(service->flush, EV_TIMEOUT, 0);
    return &message->data;
}

static void service_send_removal(void *context, struct slice rpc_id)
{
    struct statistics_service *service =
        object_cast(struct statistics_service, STATISTICS_SERVICE_MAGIC, context);
    log_write(LOG_INFO, LOGGER_STATISTICS, "Publish rpc_id=%.*s to be removed from statistics",
        (int)rpc_id.length, rpc_id.data);
    text_append_json_ascii(service_send(service, service->config->statistics.remove_client_channel), rpc_id);
}

static void service_ask_others(struct statistics_service *service)
{
    char id[IDENTITY_HEX + 1] = {0};
    struct identity identity = identity_make();
    if (!service->config->broadcast.uri)
        return;
    identity_format(&identity,
        id); /* a new one each time: who has heard of an answer to an id does not answer it again */
    log_write(LOG_INFO, LOGGER_STATISTICS, "sending stats wakeup message: %s", id);
    text_append_format(service_send(service, service->config->statistics.wakeup_channel),
        "{\"requesting_worker_id\": \"%s\"}", id);
}

static void service_on_wakeup(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    service_ask_others(object_cast(struct statistics_service, STATISTICS_SERVICE_MAGIC, argument));
}

static void service_on_keepalive(evutil_socket_t fd, short what, void *argument)
{
    struct statistics_service *service =
        object_cast(struct statistics_service, STATISTICS_SERVICE_MAGIC, argument);
    (void)fd;
    (void)what;
    statistics_expire(service->statistics, clock_monotonic_ns());
    for (unsigned i = 0; service->config->broadcast.uri && i < service->workers; i++)
        text_append_format(service_send(service, service->config->statistics.server_keepalive_channel),
            "{\"worker_id\": \"%s\"}", service->worker_ids[i]);
}

/* ---- the state for others ---- */

static void service_send_part(void *context, struct slice data)
{
    struct statistics_service *service =
        object_cast(struct statistics_service, STATISTICS_SERVICE_MAGIC, context);
    text_append_slice(service_send(service, service->config->statistics.state_sync_channel), data);
}

static void asker_free(struct asker *asker)
{
    TAILQ_REMOVE(&asker->service->askers, asker, link);
    asker->service->asker_count--;
    event_free(asker->due);
    text_free(&asker->id);
    asker->magic = 0;
    free(asker);
}

static void asker_on_due(evutil_socket_t fd, short what, void *argument)
{
    const struct timeval later = {STATE_AGAIN_SECONDS, 0};
    struct asker *asker = object_cast(struct asker, ASKER_MAGIC, argument);
    struct statistics_service *service = asker->service;
    (void)fd;
    (void)what;
    if (!STAILQ_EMPTY(&service->messages)) { /* one state is held at a time, however many ask */
        event_add(asker->due, &later);
        return;
    }
    log_write(LOG_INFO, LOGGER_STATISTICS, "[%s] respond with my own stats", asker->id.data);
    size_t left_out =
        statistics_write_state(service->statistics, text_slice(&asker->id), router_id(service->router),
            (size_t)event_limit_read(service->segment) / 2, service_send_part, service);
    if (left_out > 0) {
        counter_add(service->segment, COUNTER_MASTER, COUNTER_STATISTICS_REFUSED, left_out);
        log_write_limited(&service->limit_left_out, LOG_WARNING, LOGGER_STATISTICS,
            "%zu channels with very many topics were not told to other servers: each is larger than half of "
            "what an event may be",
            left_out);
    }
    asker_free(asker);
}

static void service_on_other_wakeup(struct statistics_service *service, struct slice data)
{
    struct text id = {0};
    if (!statistics_read_member(data, "requesting_worker_id", &id)) {
        log_write_limited(&service->limit_invalid, LOG_WARNING, LOGGER_STATISTICS,
            "Got invalid statistics sync request from another server");
    } else if (statistics_clients(service->statistics) > 0 && service->asker_count < ASKERS_MAX) {
        struct identity random = identity_make_fast();
        double wait = 0.001 + (double)(random.bytes[0] << 8 | random.bytes[1]) / 65536 * ANSWER_SECONDS_MAX;
        struct timeval after = clock_timeval(wait);
        struct asker *asker = memory_allocate(sizeof *asker);
        asker->magic = ASKER_MAGIC;
        asker->service = service;
        asker->id = id;
        asker->due = event_new(service->base, -1, 0, asker_on_due, asker);
        TAILQ_INSERT_TAIL(&service->askers, asker, link);
        service->asker_count++;
        event_add(asker->due, &after);
        return;
    }
    text_free(&id);
}

static void service_on_other_state(struct statistics_service *service, struct slice data)
{
    struct text id = {0};
    size_t before = statistics_channels(service->statistics);
    if (statistics_merge(service->statistics, data, router_id(service->router), clock_monotonic_ns(), &id) <
        0) {
        log_write_limited(&service->limit_invalid, LOG_WARNING, LOGGER_STATISTICS,
            "Got invalid statistics sync response from another server");
    } else {
        struct asker *at, *next;
        for (at = TAILQ_FIRST(&service->askers); at; at = next) {
            next = TAILQ_NEXT(at, link);
            if (slice_equals(text_slice(&at->id), text_slice(&id)))
                asker_free(at); /* told by somebody else */
        }
        if (statistics_channels(service->statistics) > before)
            log_write(LOG_INFO, LOGGER_STATISTICS, "[%s] applying server stats: %zu channels were not known",
                id.data ? id.data : "", statistics_channels(service->statistics) - before);
    }
    text_free(&id);
}

/* ---- clients ---- */

static bool worker_lives(const struct statistics_service *service, int slot, uint32_t incarnation)
{
    enum worker_state state = worker_table_state(service->segment, (unsigned)slot);
    return worker_table_incarnation(service->segment, (unsigned)slot) == incarnation &&
           (state == WORKER_READY || state == WORKER_DRAINING || state == WORKER_STARTING);
}

static void service_on_add(struct statistics_service *service, const struct router_event *event)
{
    struct slice data = event->data;
    struct text rpc_id = {0};
    const struct statistics_owner owner = {.slot = event->slot, .source = event->source};
    enum statistics_verdict verdict =
        statistics_add(service->statistics, data, owner, clock_monotonic_ns(), &rpc_id);
    switch (verdict) {
    case STATISTICS_TAKEN:
        log_write(LOG_INFO, LOGGER_STATISTICS, "Set client statistics on channel %s: %.*s",
            rpc_id.data ? rpc_id.data : "", (int)data.length, data.data);
        break;
    case STATISTICS_INVALID:
        log_write_limited(&service->limit_invalid, LOG_WARNING, LOGGER_STATISTICS,
            "Got invalid statistics message from client");
        break;
    case STATISTICS_TOO_MANY:
        log_write_limited(&service->limit_many, LOG_WARNING, LOGGER_STATISTICS,
            "A client reached the maximum number of open RPC channels (%zu)",
            service->config->statistics.max_channels);
        break;
    case STATISTICS_FULL:
        log_write_limited(&service->limit_full, LOG_WARNING, LOGGER_STATISTICS,
            "OPAL_STATISTICS_MAX_BYTES (%zu) is used up: further clients are not in the statistics",
            service->config->statistics.max_bytes);
        break;
    }
    if (verdict == STATISTICS_TOO_MANY || verdict == STATISTICS_FULL)
        counter_add(service->segment, COUNTER_MASTER, COUNTER_STATISTICS_REFUSED, 1);
    /* Taken in after its worker's death: nobody will tell its end but us. */
    if (event->slot >= 0 && verdict != STATISTICS_INVALID &&
        !worker_lives(service, event->slot, event->incarnation)) {
        statistics_remove(service->statistics, text_slice(&rpc_id));
        service_send_removal(service, text_slice(&rpc_id));
    }
    text_free(&rpc_id);
}

static void service_on_remove(struct statistics_service *service, struct slice data)
{
    struct text rpc_id = {0};
    if (statistics_read_string(data, &rpc_id) && statistics_remove(service->statistics, text_slice(&rpc_id)))
        log_write(LOG_INFO, LOGGER_STATISTICS, "Trying to remove %s from statistics",
            rpc_id.data ? rpc_id.data : "");
    text_free(&rpc_id);
}

static void service_on_keepalive_of_other(
    struct statistics_service *service, struct slice data, struct slice source)
{
    struct text id = {0};
    if (statistics_read_member(data, "worker_id", &id) &&
        statistics_server_seen(service->statistics, text_slice(&id), source, clock_monotonic_ns()))
        service_ask_others(service); /* it only slept: it still has its clients, and ours forgot them */
    text_free(&id);
}

void statistics_service_event(struct statistics_service *service, const struct router_event *event)
{
    const struct config *config = service->config;
    struct slice topic = event->topic;
    if (slice_equals_string(topic, config->statistics.add_client_channel))
        service_on_add(service, event);
    else if (slice_equals_string(topic, config->statistics.remove_client_channel))
        service_on_remove(service, event->data);
    else if (event->slot >= 0)
        return; /* the rest is between servers */
    else if (slice_equals_string(topic, config->statistics.server_keepalive_channel))
        service_on_keepalive_of_other(service, event->data, event->source);
    else if (slice_equals_string(topic, config->statistics.state_sync_channel))
        service_on_other_state(service, event->data);
    else if (slice_equals_string(topic, config->statistics.wakeup_channel))
        service_on_other_wakeup(service, event->data);
}

void statistics_service_worker_gone(struct statistics_service *service, unsigned slot)
{
    statistics_drop_worker(service->statistics, (int)slot, service_send_removal, service);
}

void statistics_service_missed(struct statistics_service *service)
{
    statistics_forget_others(service->statistics);
    service_ask_others(service);
}

/* ---- answers ---- */

static void service_write(const struct statistics_service *service, bool brief, struct text *out)
{
    size_t servers = statistics_servers(service->statistics) + service->workers;
    text_append_format(out, "{\"uptime\":\"%s\",\"version\":\"" OPAL_VERSION "\",", service->uptime);
    if (brief) {
        text_append_format(out, "\"client_count\":%zu,\"server_count\":%zu}",
            statistics_clients(service->statistics), servers / service->workers);
        return;
    }
    text_append_string(out, "\"clients\":{");
    statistics_write_clients(service->statistics, out);
    text_append_string(out, "},\"servers\":[");
    for (unsigned i = 0; i < service->workers; i++)
        text_append_format(out, "%s\"%s\"", i ? "," : "", service->worker_ids[i]);
    statistics_write_servers(service->statistics, true, out);
    text_append_string(out, "]}");
}

/* Written again only when something has changed, and only when it is within its limit. */
static int service_snapshot(struct statistics_service *service, bool brief)
{
    uint64_t version = statistics_version(service->statistics);
    struct text out = {0};
    if (service->snapshots[brief] >= 0 && service->snapshot_versions[brief] == version)
        return service->snapshots[brief];
    if (service->snapshots[brief] >= 0)
        close(service->snapshots[brief]);
    service->snapshots[brief] = -1;
    service->snapshot_versions[brief] = version;
    if (!brief && statistics_shown_bytes(service->statistics) > service->config->client_info_max_bytes)
        return -1;
    service_write(service, brief, &out);
    if (out.length <= service->config->client_info_max_bytes)
        service->snapshots[brief] = handoff_memory_make(text_slice(&out));
    text_free(&out);
    return service->snapshots[brief];
}

void statistics_service_asked(struct statistics_service *service, unsigned slot, uint32_t number, bool brief)
{
    int socket = service->handoff(service->context, slot);
    int fd = service_snapshot(service, brief);
    const struct handoff_message answer = {.kind = HANDOFF_STATISTICS, .failed = fd < 0, .number = number};
    if (socket >= 0)
        handoff_message_send(socket, &answer, fd); /* not taken: the worker's question is answered as late */
}

/* ---- life ---- */

static void format_uptime(char *out, size_t size)
{
    uint64_t now_us = clock_realtime_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + length, size - length, ".%06u", (unsigned)(now_us % 1000000));
}

static struct event *service_event(struct statistics_service *service, short what, event_callback_fn callback)
{
    struct event *event = event_new(service->base, -1, what, callback, service);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

struct statistics_service *statistics_service_open(struct event_base *base, const struct config *config,
    struct segment *segment, struct router *router, int (*handoff)(void *context, unsigned slot),
    void *context)
{
    struct statistics_service *service = memory_allocate(sizeof *service);
    service->magic = STATISTICS_SERVICE_MAGIC;
    const struct timeval wakeup = {.tv_sec = WAKEUP_SECONDS};
    const struct timeval keepalive = clock_timeval((double)config->statistics.keepalive_timeout / 2);
    service->config = config;
    service->segment = segment;
    service->base = base;
    service->router = router;
    service->handoff = handoff;
    service->context = context;
    service->statistics = statistics_make(&config->statistics);
    STAILQ_INIT(&service->messages);
    TAILQ_INIT(&service->askers);
    service->snapshots[0] = service->snapshots[1] = -1;
    service->flush = service_event(service, 0, service_on_flush);
    service->wakeup = service_event(service, 0, service_on_wakeup);
    service->keepalive = service_event(service, EV_PERSIST, service_on_keepalive);
    service->workers = config->workers;
    service->worker_ids = memory_allocate(service->workers * sizeof *service->worker_ids);
    for (unsigned i = 0; i < service->workers; i++) {
        struct identity identity = identity_make();
        identity_format(&identity, service->worker_ids[i]);
    }
    format_uptime(service->uptime, sizeof service->uptime);
    event_add(service->wakeup, &wakeup);
    event_add(service->keepalive, &keepalive);
    service_on_keepalive(-1, 0, service);
    return service;
}

void statistics_service_flush(struct statistics_service *service)
{
    service_on_flush(-1, 0, service);
}

void statistics_service_close(struct statistics_service *service)
{
    struct message *message;
    if (!service)
        return;
    while ((message = STAILQ_FIRST(&service->messages))) {
        STAILQ_REMOVE_HEAD(&service->messages, link);
        text_free(&message->data);
        free(message);
    }
    while (!TAILQ_EMPTY(&service->askers))
        asker_free(TAILQ_FIRST(&service->askers));
    for (unsigned i = 0; i < 2; i++)
        if (service->snapshots[i] >= 0)
            close(service->snapshots[i]);
    event_free(service->flush);
    event_free(service->wakeup);
    event_free(service->keepalive);
    statistics_free(service->statistics);
    free(service->worker_ids);
    service->magic = 0;
    free(service);
}
