/*
 * What workers tell about themselves besides the counters, for GET /metrics: gauges, how long the fan-out
 * took, HTTP answers by route and status. Each worker writes its own slot, relaxed; any process reads. The
 * last two survive the worker, so that sums never go down; gauges of a slot without a live worker don't
 * count.
 */
#ifndef OPALD_SHM_FIGURES_H
#define OPALD_SHM_FIGURES_H

#include <stdint.h>
#include "shm/segment.h"

/* GAUGE(enumerator, metric, help). All are of now and summed over the workers. */
#define GAUGES(GAUGE) \
    GAUGE(CLIENTS, "clients", "Websocket clients.") \
    GAUGE(SUBSCRIPTIONS, "subscriptions", "Subscriptions of websocket clients.") \
    GAUGE(TOPICS, "topics", \
        "Topics with subscribers; one that has subscribers in several workers counts once in each.") \
    GAUGE(QUEUE_BYTES, "queue_bytes", \
        "Bytes held for clients: output they have yet to read, messages that are not whole, names of " \
        "topics.")

enum gauge {
#define GAUGE_ENUMERATOR(enumerator, name, help) GAUGE_##enumerator,
    GAUGES(GAUGE_ENUMERATOR)
#undef GAUGE_ENUMERATOR
        GAUGE_COUNT
};

void gauge_write(struct segment *segment, unsigned slot, enum gauge gauge, uint64_t value);
/* Over the slots with a worker that lives. */
uint64_t gauge_sum(const struct segment *segment, enum gauge gauge);

/* ---- from an event's entry into this host to the last send of it in a worker ---- */
#define FANOUT_BUCKETS 16
/* Upper bounds in nanoseconds; what is above the last counts in figures_fanout.count only. */
extern const uint64_t figures_fanout_bounds[FANOUT_BUCKETS];

struct figures_fanout {
    /* each for itself, not cumulative */
    uint64_t buckets[FANOUT_BUCKETS];
    uint64_t above;
    uint64_t sum_ns;
};

void figures_observe_fanout(struct segment *segment, unsigned slot, uint64_t nanoseconds);
/* Of all slots. */
struct figures_fanout figures_read_fanout(const struct segment *segment);

/* ---- HTTP answers ---- */
#define FIGURES_ROUTES 32
/* What is answered at all; any other status counts as 0, "other". */
#define FIGURES_STATUSES \
    { \
        0, 101, 200, 204, 206, 304, 307, 400, 401, 403, 404, 405, 406, 408, 413, 422, 426, 429, 431, 500, \
            501, 503, 504 \
    }
#define FIGURES_STATUS_COUNT 23
extern const unsigned figures_statuses[FIGURES_STATUS_COUNT];

/* `route` is any number below FIGURES_ROUTES that the workers agree on. */
void figures_count_http(struct segment *segment, unsigned slot, unsigned route, unsigned status);
uint64_t figures_sum_http(const struct segment *segment, unsigned route, unsigned status_index);

/* ---- the ring and the backbone ---- */
/* How many bytes of the ring the slot's reader has yet to give back; 0 without a live worker. */
uint64_t figures_ring_lag(const struct segment *segment, unsigned slot);
uint64_t figures_ring_capacity(const struct segment *segment);
/* Nanoseconds since the start in which a configured backbone was not there; the running gap included. */
uint64_t figures_backbone_away(const struct segment *segment, uint64_t now_ns);

#endif
