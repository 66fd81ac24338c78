/*
 * GET /metrics: the figures of the whole host in Prometheus' text format (version 0.0.4). Any worker can
 * answer: they lie in shared memory, and what a dead worker counted stays in the sum.
 */
#include "worker/api/http_metrics.h"

#include <inttypes.h>
#include <string.h>

#include "shm/common/clock.h"
#include "shm/common/text.h"
#include "shm/figures.h"
#include "shm/worker_table.h"
#include "worker/http/http_routes.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void append_head(struct text *out, const char *name, const char *type, const char *help)
{
    text_append_format(out, "# HELP opald_%s %s\n# TYPE opald_%s %s\n", name, help, name, type);
}

static void append_gauge(struct text *out, const char *name, const char *help, uint64_t value)
{
    append_head(out, name, "gauge", help);
    text_append_format(out, "opald_%s %" PRIu64 "\n", name, value);
}

static void append_seconds(struct text *out, uint64_t nanoseconds)
{
    text_append_format(out, "%" PRIu64 ".%09" PRIu64, nanoseconds / CLOCK_SECOND, nanoseconds % CLOCK_SECOND);
}

/* "name" or "name{labels}" */
static void append_counters(struct text *out, const struct segment *segment)
{
    for (int i = 0; i < COUNTER_COUNT; i++) {
        const char *name = counter_name((enum counter)i);
        const char *help = counter_help((enum counter)i);
        int length = (int)strcspn(name, "{");
        if (*help)
            text_append_format(out, "# HELP opald_%.*s_total %s\n# TYPE opald_%.*s_total counter\n", length,
                name, help, length, name);
        text_append_format(out, "opald_%.*s_total%s %" PRIu64 "\n", length, name, name + length,
            counter_sum(segment, (enum counter)i));
    }
}

static void append_route(
    struct text *out, const struct segment *segment, unsigned number, const char *path, const char *method)
{
    struct text label = {0};
    for (const char *byte = path; *byte; byte++) {
        if (*byte == '"' || *byte == '\\')
            text_append_char(&label, '\\');
        text_append_char(&label, *byte);
    }
    for (unsigned i = 0; i < FIGURES_STATUS_COUNT; i++) {
        uint64_t count = figures_sum_http(segment, number, i);
        char status[12] = "other";
        if (count == 0)
            continue;
        if (figures_statuses[i] != 0)
            snprintf(status, sizeof status, "%u", figures_statuses[i]);
        text_append_format(out,
            "opald_http_responses_total{route=\"%s\",method=\"%s\",status=\"%s\"} %" PRIu64 "\n",
            label.data ? label.data : "", method, status, count);
    }
    text_free(&label);
}

static void append_http(struct text *out, const struct http_services *services)
{
    const struct http_route_table *table = services->routes;
    append_head(out, "http_responses_total", "counter", "HTTP answers by route and status.");
    for (unsigned i = 0; i < table->count; i++)
        append_route(out, services->segment, i, http_route_path(&table->routes[i], services->config),
            table->routes[i].method);
    append_route(out, services->segment, HTTP_ROUTE_NONE, "", "");
    append_route(out, services->segment, HTTP_ROUTE_WEBSOCKET, "/ws", "GET");
}

static void append_fanout(struct text *out, const struct segment *segment)
{
    struct figures_fanout fanout = figures_read_fanout(segment);
    uint64_t count = 0;
    append_head(out, "fanout_duration_seconds", "histogram",
        "From an event's entry into this host until a worker is done with it; each worker counts.");
    for (unsigned i = 0; i < FANOUT_BUCKETS; i++) {
        count += fanout.buckets[i];
        text_append_format(out, "opald_fanout_duration_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
            (double)figures_fanout_bounds[i] / (double)CLOCK_SECOND, count);
    }
    count += fanout.above;
    text_append_format(out, "opald_fanout_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", count);
    text_append_string(out, "opald_fanout_duration_seconds_sum ");
    append_seconds(out, fanout.sum_ns);
    text_append_format(out, "\nopald_fanout_duration_seconds_count %" PRIu64 "\n", count);
}

static void append_workers(struct text *out, const struct segment *segment)
{
    uint64_t connections = 0;
    uint64_t ready = 0;
    uint64_t lag = 0;
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++) {
        uint64_t slot_lag = figures_ring_lag(segment, slot);
        connections += worker_table_connections(segment, slot);
        ready += worker_table_state(segment, slot) == WORKER_READY;
        lag = slot_lag > lag ? slot_lag : lag;
    }
    append_gauge(out, "connections", "Open connections.", connections);
#define APPEND_GAUGE(enumerator, name, help) \
    append_gauge(out, name, help, gauge_sum(segment, GAUGE_##enumerator));
    GAUGES(APPEND_GAUGE)
#undef APPEND_GAUGE
    append_gauge(out, "workers_ready", "Workers that take connections.", ready);
    append_gauge(out, "ring_capacity_bytes", "Size of the ring.", figures_ring_capacity(segment));
    append_gauge(out, "ring_lag_bytes", "How far the slowest worker is behind in the ring.", lag);
}

static void append_backbone(struct text *out, const struct segment *segment)
{
    enum backbone_state state = backbone_state_read(segment);
    struct backbone_health health = backbone_health_read(segment);
    if (state == BACKBONE_NONE)
        return;
    append_gauge(out, "backbone_up", "1: the backbone is there.", state == BACKBONE_UP);
    append_gauge(out, "backbone_pending_events", "Kafka: events that are not acknowledged yet.",
        health.pending_events);
    append_head(out, "backbone_pending_seconds", "gauge", "Kafka: how long the oldest of them waits.");
    text_append_string(out, "opald_backbone_pending_seconds ");
    append_seconds(out, health.pending_ns);
    text_append_char(out, '\n');
    append_gauge(
        out, "backbone_consumer_lag", "Kafka: messages of the topic that were not read yet.", health.lag);
    append_head(
        out, "backbone_gap_seconds_total", "counter", "Seconds without the backbone, since the start.");
    text_append_string(out, "opald_backbone_gap_seconds_total ");
    append_seconds(out, figures_backbone_away(segment, clock_monotonic_ns()));
    text_append_char(out, '\n');
}

enum http_answer metrics_get(struct http_exchange *exchange)
{
    const struct segment *segment = exchange->services->segment;
    struct text out = {0};
    append_counters(&out, segment);
    append_http(&out, exchange->services);
    append_fanout(&out, segment);
    append_workers(&out, segment);
    append_backbone(&out, segment);
    append_gauge(&out, "event_limit_bytes", "Largest event that is taken.", event_limit_read(segment));
    append_head(&out, "build_info", "gauge", "The version that runs.");
    text_append_format(&out, "opald_build_info{version=\"%s\"} 1\n", OPALD_VERSION);
    http_reply_set(&exchange->reply, 200, METRICS_TYPE, text_slice(&out));
    text_free(&out);
    return HTTP_ANSWERED;
}
