/* GET /metrics: every counter of the host, summed over workers and master, in Prometheus' text format (version 0.0.4). Any worker can
 * answer: the counters lie in shared memory, and a dead worker's stay in the sum. */
#include <inttypes.h>

#include "server/common/text.h"
#include "shm/worker_table.h"
#include "worker/http_exchange.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void metrics_append(
    struct text *out, const char *name, const char *suffix, const char *type, uint64_t value)
{
    text_append_format(
        out, "# TYPE opald_%s%s %s\nopald_%s%s %" PRIu64 "\n", name, suffix, type, name, suffix, value);
}

static void metrics_append_gauges(struct text *out, const struct segment *segment)
{
    uint64_t connections = 0;
    uint64_t workers = 0;
    enum backbone_state state = backbone_state_read(segment);
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++) {
        connections += worker_table_connections(segment, slot);
        workers += worker_table_state(segment, slot) == WORKER_READY;
    }
    metrics_append(out, "connections", "", "gauge", connections);
    metrics_append(out, "workers_ready", "", "gauge", workers);
    if (state != BACKBONE_NONE)
        metrics_append(out, "backbone_up", "", "gauge", state == BACKBONE_UP);
    metrics_append(out, "event_limit_bytes", "", "gauge", event_limit_read(segment));
    text_append_format(
        out, "# TYPE opald_build_info gauge\nopald_build_info{version=\"%s\"} 1\n", OPALD_VERSION);
}

enum http_answer metrics_get(struct http_exchange *exchange)
{
    const struct segment *segment = exchange->services->segment;
    struct text out = {0};
    for (int i = 0; i < COUNTER_COUNT; i++)
        metrics_append(
            &out, counter_name((enum counter)i), "_total", "counter", counter_sum(segment, (enum counter)i));
    metrics_append_gauges(&out, segment);
    http_reply_set(&exchange->reply, 200, METRICS_TYPE, text_slice(&out));
    text_free(&out);
    return HTTP_ANSWERED;
}
