/* The worker table, the counters, and what the whole host should know. Each word stands for itself: nothing
 * else is published through it, so figures are relaxed; the state and what belongs to it are release and
 * acquire (G0, G1). */
#include "shm/worker_table.h"

#include "shm/common/clock.h"
#include "shm/layout.h"

static struct layout_entry *entry_of(const struct segment *segment, unsigned slot)
{
    segment_check(segment);
    return segment_entry(segment, slot);
}

enum worker_state worker_table_state(const struct segment *segment, unsigned slot)
{
    return (enum worker_state)atomic_load_explicit(&entry_of(segment, slot)->state, ORDER_G1_SLOT_LOAD);
}

void worker_table_set_state(struct segment *segment, unsigned slot, enum worker_state state)
{
    atomic_store_explicit(&entry_of(segment, slot)->state, (uint32_t)state, ORDER_G0_SLOT_STORE);
}

int32_t worker_table_pid(const struct segment *segment, unsigned slot)
{
    return atomic_load_explicit(&entry_of(segment, slot)->pid, ORDER_G1_SLOT_LOAD);
}

void worker_table_set_pid(struct segment *segment, unsigned slot, int32_t pid)
{
    atomic_store_explicit(&entry_of(segment, slot)->pid, pid, ORDER_G0_SLOT_STORE);
}

uint32_t worker_table_incarnation(const struct segment *segment, unsigned slot)
{
    return atomic_load_explicit(&entry_of(segment, slot)->incarnation, ORDER_G1_SLOT_LOAD);
}

void worker_table_next_incarnation(struct segment *segment, unsigned slot)
{
    struct layout_entry *entry = entry_of(segment, slot);
    uint32_t last = atomic_load_explicit(&entry->incarnation, ORDER_OWN);
    atomic_store_explicit(&entry->incarnation, last + 1, ORDER_G0_SLOT_STORE);
}

uint64_t worker_table_heartbeat(const struct segment *segment, unsigned slot)
{
    return atomic_load_explicit(&entry_of(segment, slot)->heartbeat_ns, ORDER_FIGURE);
}

void worker_table_beat(struct segment *segment, unsigned slot, uint64_t now_ns)
{
    atomic_store_explicit(&entry_of(segment, slot)->heartbeat_ns, now_ns, ORDER_FIGURE);
}

uint32_t worker_table_connections(const struct segment *segment, unsigned slot)
{
    return atomic_load_explicit(&entry_of(segment, slot)->connections, ORDER_FIGURE);
}

void worker_table_set_connections(struct segment *segment, unsigned slot, uint32_t count)
{
    atomic_store_explicit(&entry_of(segment, slot)->connections, count, ORDER_FIGURE);
}

int32_t worker_table_child_group(const struct segment *segment, unsigned slot)
{
    return atomic_load_explicit(&entry_of(segment, slot)->child_group, ORDER_FIGURE);
}

void worker_table_set_child_group(struct segment *segment, unsigned slot, int32_t group)
{
    atomic_store_explicit(&entry_of(segment, slot)->child_group, group, ORDER_FIGURE);
}

static _Atomic uint64_t *counter_of(const struct segment *segment, uint32_t block, enum counter counter)
{
    segment_check(segment);
    if ((unsigned)counter >= COUNTER_COUNT)
        segment_fail("no such counter");
    if (block == COUNTER_MASTER)
        return &segment->control->counters[counter];
    return &segment_entry(segment, block)->counters[counter];
}

void counter_add(struct segment *segment, uint32_t block, enum counter counter, uint64_t amount)
{
    _Atomic uint64_t *value = counter_of(segment, block, counter);
    /* One writer a block, one thread: a load and a store, no locked instruction. */
    atomic_store_explicit(value, atomic_load_explicit(value, ORDER_OWN) + amount, ORDER_FIGURE);
}

uint64_t counter_read(const struct segment *segment, uint32_t block, enum counter counter)
{
    return atomic_load_explicit(counter_of(segment, block, counter), ORDER_FIGURE);
}

uint64_t counter_sum(const struct segment *segment, enum counter counter)
{
    uint64_t sum = counter_read(segment, COUNTER_MASTER, counter);
    for (uint32_t slot = 0; slot < segment->slots; slot++)
        sum += counter_read(segment, slot, counter);
    return sum;
}

const char *counter_name(enum counter counter)
{
    static const char *const names[COUNTER_COUNT] = {
#define COUNTER_NAME(enumerator, name, help) [COUNTER_##enumerator] = (name),
        COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
    };
    return (unsigned)counter < COUNTER_COUNT ? names[counter] : "unknown";
}

const char *counter_help(enum counter counter)
{
    static const char *const helps[COUNTER_COUNT] = {
#define COUNTER_HELP(enumerator, name, help) [COUNTER_##enumerator] = (help),
        COUNTERS(COUNTER_HELP)
#undef COUNTER_HELP
    };
    return (unsigned)counter < COUNTER_COUNT ? helps[counter] : "";
}

enum backbone_state backbone_state_read(const struct segment *segment)
{
    segment_check(segment);
    return (enum backbone_state)atomic_load_explicit(&segment->control->backbone_state, ORDER_FIGURE);
}

void backbone_state_write(struct segment *segment, enum backbone_state state)
{
    struct layout_control *control = segment->control;
    segment_check(segment);
    bool away = state == BACKBONE_CONNECTING || state == BACKBONE_GAP;
    uint64_t now = clock_monotonic_ns();
    uint64_t since = atomic_load_explicit(&control->backbone_away_since_ns, ORDER_OWN);
    if (!away && since != 0)
        atomic_store_explicit(&control->backbone_away_ns,
            atomic_load_explicit(&control->backbone_away_ns, ORDER_OWN) + (now - since), ORDER_FIGURE);
    if (away != (since != 0))
        atomic_store_explicit(&control->backbone_away_since_ns, away ? now : 0, ORDER_FIGURE);
    atomic_store_explicit(&control->backbone_state, (uint32_t)state, ORDER_FIGURE);
}

struct backbone_health backbone_health_read(const struct segment *segment)
{
    const struct layout_control *control = segment->control;
    segment_check(segment);
    return (struct backbone_health){
        .trouble = (enum backbone_trouble)atomic_load_explicit(&control->backbone_trouble, ORDER_FIGURE),
        .pending_events = atomic_load_explicit(&control->backbone_pending_events, ORDER_FIGURE),
        .pending_ns = atomic_load_explicit(&control->backbone_pending_ns, ORDER_FIGURE),
        .lag = atomic_load_explicit(&control->backbone_lag, ORDER_FIGURE)};
}

void backbone_health_write(struct segment *segment, const struct backbone_health *health)
{
    struct layout_control *control = segment->control;
    segment_check(segment);
    atomic_store_explicit(&control->backbone_trouble, (uint32_t)health->trouble, ORDER_FIGURE);
    atomic_store_explicit(&control->backbone_pending_events, health->pending_events, ORDER_FIGURE);
    atomic_store_explicit(&control->backbone_pending_ns, health->pending_ns, ORDER_FIGURE);
    atomic_store_explicit(&control->backbone_lag, health->lag, ORDER_FIGURE);
}

uint64_t master_heartbeat_read(const struct segment *segment)
{
    segment_check(segment);
    return atomic_load_explicit(&segment->control->master_heartbeat_ns, ORDER_FIGURE);
}

void master_heartbeat_write(struct segment *segment, uint64_t now_ns)
{
    segment_check(segment);
    atomic_store_explicit(&segment->control->master_heartbeat_ns, now_ns, ORDER_FIGURE);
}

uint64_t event_limit_read(const struct segment *segment)
{
    segment_check(segment);
    return atomic_load_explicit(&segment->control->event_limit, ORDER_FIGURE);
}

void event_limit_write(struct segment *segment, uint64_t bytes)
{
    segment_check(segment);
    atomic_store_explicit(&segment->control->event_limit, bytes, ORDER_FIGURE);
}

uint64_t messages_limit_read(const struct segment *segment)
{
    segment_check(segment);
    return atomic_load_explicit(&segment->control->messages_limit, ORDER_FIGURE);
}

void messages_limit_write(struct segment *segment, uint64_t bytes)
{
    segment_check(segment);
    atomic_store_explicit(&segment->control->messages_limit, bytes, ORDER_FIGURE);
}
