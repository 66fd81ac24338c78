/* See the header. All words are figures: relaxed, each stands for itself (layout.h). */
#include "shm/figures.h"

#include "shm/layout.h"
#include "shm/worker_table.h"

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

const uint64_t figures_fanout_bounds[FANOUT_BUCKETS] = {50 * MICROSECOND, 100 * MICROSECOND,
    250 * MICROSECOND, 500 * MICROSECOND, 1 * MILLISECOND, 2500 * MICROSECOND, 5 * MILLISECOND,
    10 * MILLISECOND, 25 * MILLISECOND, 50 * MILLISECOND, 100 * MILLISECOND, 250 * MILLISECOND,
    500 * MILLISECOND, 1 * SECOND, 2500 * MILLISECOND, 10 * SECOND};
const unsigned figures_statuses[FIGURES_STATUS_COUNT] = FIGURES_STATUSES;

static_assert(FANOUT_BUCKETS == LAYOUT_FANOUT_BUCKETS, "shm/layout.h has room for each bucket");
static_assert(
    FIGURES_ROUTES * FIGURES_STATUS_COUNT == LAYOUT_HTTP_CELLS, "shm/layout.h has room for each cell");

static struct layout_entry *entry_of(const struct segment *segment, unsigned slot)
{
    segment_check(segment);
    return segment_entry(segment, slot);
}

static uint64_t read_figure(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, ORDER_FIGURE);
}

/* One writer: a load and a store, no locked instruction. */
static void add_figure(_Atomic uint64_t *figure, uint64_t amount)
{
    atomic_store_explicit(figure, atomic_load_explicit(figure, ORDER_OWN) + amount, ORDER_FIGURE);
}

static bool slot_lives(const struct segment *segment, unsigned slot)
{
    enum worker_state state = worker_table_state(segment, slot);
    return state == WORKER_READY || state == WORKER_DRAINING;
}

void gauge_write(struct segment *segment, unsigned slot, enum gauge gauge, uint64_t value)
{
    if ((unsigned)gauge >= GAUGE_COUNT)
        segment_fail("no such gauge");
    atomic_store_explicit(&entry_of(segment, slot)->gauges[gauge], value, ORDER_FIGURE);
}

uint64_t gauge_sum(const struct segment *segment, enum gauge gauge)
{
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++)
        if (slot_lives(segment, slot))
            sum += read_figure(&segment_entry(segment, slot)->gauges[gauge]);
    return sum;
}

void figures_observe_fanout(struct segment *segment, unsigned slot, uint64_t nanoseconds)
{
    struct layout_entry *entry = entry_of(segment, slot);
    unsigned bucket = 0;
    while (bucket < FANOUT_BUCKETS && nanoseconds > figures_fanout_bounds[bucket])
        bucket++;
    add_figure(&entry->fanout_buckets[bucket], 1); /* the one behind the last is `above` */
    add_figure(&entry->fanout_sum_ns, nanoseconds);
}

struct figures_fanout figures_read_fanout(const struct segment *segment)
{
    struct figures_fanout fanout = {0};
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++) {
        const struct layout_entry *entry = segment_entry(segment, slot);
        for (unsigned i = 0; i < FANOUT_BUCKETS; i++)
            fanout.buckets[i] += read_figure(&entry->fanout_buckets[i]);
        fanout.above += read_figure(&entry->fanout_buckets[FANOUT_BUCKETS]);
        fanout.sum_ns += read_figure(&entry->fanout_sum_ns);
    }
    return fanout;
}

void figures_count_http(struct segment *segment, unsigned slot, unsigned route, unsigned status)
{
    unsigned index = FIGURES_STATUS_COUNT - 1;
    if (route >= FIGURES_ROUTES)
        segment_fail("no such route");
    while (index > 0 && figures_statuses[index] != status)
        index--;
    add_figure(&entry_of(segment, slot)->http[route * FIGURES_STATUS_COUNT + index], 1);
}

uint64_t figures_sum_http(const struct segment *segment, unsigned route, unsigned status_index)
{
    uint64_t sum = 0;
    if (route >= FIGURES_ROUTES || status_index >= FIGURES_STATUS_COUNT)
        segment_fail("no such route or status");
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++)
        sum += read_figure(&segment_entry(segment, slot)->http[route * FIGURES_STATUS_COUNT + status_index]);
    return sum;
}

uint64_t figures_ring_lag(const struct segment *segment, unsigned slot)
{
    const struct layout_entry *entry = entry_of(segment, slot);
    if (!slot_lives(segment, slot))
        return 0;
    /* the cell first: it never passes the tail */
    uint64_t cell = read_figure(&entry->ring_cell);
    uint64_t tail = read_figure(&segment->control->ring_tail);
    return tail > cell ? tail - cell : 0;
}

uint64_t figures_ring_capacity(const struct segment *segment)
{
    segment_check(segment);
    return segment->ring_bytes;
}

uint64_t figures_backbone_away(const struct segment *segment, uint64_t now_ns)
{
    segment_check(segment);
    uint64_t away = read_figure(&segment->control->backbone_away_ns);
    uint64_t since = read_figure(&segment->control->backbone_away_since_ns);
    return away + (since != 0 && now_ns > since ? now_ns - since : 0);
}
