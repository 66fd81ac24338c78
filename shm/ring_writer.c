/*
 * The ring's writer: the master, and nobody else.
 *
 * The problem: hand each event once to up to 128 processes that may be slow, asleep, stopped or dead, without
 * a lock that a dead one could hold and without a copy for each.
 *
 * The way: the writer owns the tail, each reader its cell. The writer puts a record behind the tail, where no
 * reader looks, and then moves the tail over it with one store (A0). Killed before that store, nothing
 * happened; after it, the record is whole. The writer never passes a live reader's cell (B1): the memory
 * between cell and tail belongs to that reader.
 *
 * Guaranteed: every active reader sees every record after its activation, in order, whole, each once.
 * Not guaranteed: that a record survives the master. That a reader keeps up: while the slowest one is a ring
 * behind, reserve returns NULL; the caller stops taking in, and kills the reader when that lasts too long.
 *
 * Wake-ups: a reader that reads along costs no system call. Commit publishes only; wake, once for a batch,
 * stores the tail a second time (C0, same value, sequentially consistent: commits stay plain stores) and
 * looks at who sleeps (C1). It writes the eventfd of a sleeper only when it won the exchange of that reader's
 * flag from 1 to 0.
 *
 * The reader set is the writer's own; shared memory has a copy (ring_active), so that another writer may open
 * the same segment after the first has died. Then a wake-up may have been won and not written: open wakes
 * everybody once.
 */
#include "shm/ring.h"

#include <stdlib.h>
#include "shm/common/memory.h"
#include "shm/layout.h"
#include "shm/worker_table.h"

#define RING_WRITER_MAGIC 0x21fe4a1bu

struct ring_writer {
    uint32_t magic;
    struct segment *segment;
    unsigned char *data;
    uint64_t capacity;
    /* what shared memory has */
    uint64_t tail;
    /* the tail after the next commit; equal to tail when nothing is reserved */
    uint64_t reserved;
    uint64_t limit; /* positions below it may be written; computed from cells that only grow, so it is never
                       too high */
    /* the tail at the last wake */
    uint64_t woken;
    /* the last reserve failed: counted once */
    bool blocked;
    bool active[SEGMENT_SLOTS_MAX];
};

static void writer_check(const struct ring_writer *writer)
{
    if (writer == NULL || writer->magic != RING_WRITER_MAGIC)
        segment_fail("not a ring writer");
}

/* The cell is in memory its worker can write. One that can't be true (ahead of the tail, or more than a ring
 * behind) counts as a whole ring behind: nothing is overwritten, the writer stalls, and the master replaces
 * that worker as stuck. */
static uint64_t writer_cell(const struct ring_writer *writer, unsigned slot)
{
    const struct layout_entry *entry = segment_entry(writer->segment, slot);
    uint64_t cell = atomic_load_explicit(&entry->ring_cell, ORDER_B1_CELL_LOAD);
    if (writer->tail - cell > writer->capacity)
        return writer->tail - writer->capacity;
    return cell;
}

/* Wrapping arithmetic on purpose: before the first round tail - capacity is below 0. */
static void writer_find_limit(struct ring_writer *writer)
{
    uint64_t free_bytes = writer->capacity;
    for (unsigned slot = 0; LAYOUT_CHECKS_SLOWEST && slot < writer->segment->slots; slot++) {
        if (!writer->active[slot])
            continue;
        uint64_t left = writer->capacity - (writer->tail - writer_cell(writer, slot));
        if (left < free_bytes)
            free_bytes = left;
    }
    writer->limit = writer->tail + free_bytes;
}

struct ring_writer *ring_writer_open(struct segment *segment)
{
    segment_check(segment);
    if (!segment->is_master)
        segment_fail("only the master writes the ring");
    struct ring_writer *writer = memory_allocate(sizeof *writer);
    writer->magic = RING_WRITER_MAGIC;
    writer->segment = segment;
    writer->data = segment->ring;
    writer->capacity = segment->ring_bytes;
    writer->tail = atomic_load_explicit(&segment->control->ring_tail, ORDER_A1_TAIL_LOAD);
    writer->reserved = writer->tail;
    writer->woken = writer->tail;
    for (unsigned slot = 0; slot < segment->slots; slot++) {
        const struct layout_entry *entry = segment_entry(segment, slot);
        writer->active[slot] = atomic_load_explicit(&entry->ring_active, ORDER_G1_SLOT_LOAD) != 0;
        if (writer->active[slot])
            segment_eventfd_write(segment->wake[slot]);
    }
    writer_find_limit(writer);
    return writer;
}

void ring_writer_close(struct ring_writer *writer)
{
    if (writer == NULL)
        return;
    writer_check(writer);
    writer->magic = 0;
    free(writer);
}

uint32_t ring_writer_body_max(const struct ring_writer *writer)
{
    writer_check(writer);
    return (uint32_t)(writer->capacity / 8 - sizeof(struct layout_record));
}

static struct layout_record *writer_record_at(const struct ring_writer *writer, uint64_t position)
{
    return (struct layout_record *)(void *)(writer->data + (position & (writer->capacity - 1)));
}

void *ring_writer_reserve(struct ring_writer *writer, enum ring_type type, uint32_t length)
{
    writer_check(writer);
    if (length > ring_writer_body_max(writer) || type == RING_PAD)
        segment_fail("a ring record that is too long or has no type");
    uint64_t size = layout_record_size(length);
    uint64_t to_end = writer->capacity - (writer->tail & (writer->capacity - 1));
    uint64_t pad = size > to_end ? to_end : 0;
    if (writer->limit - writer->tail < pad + size) {
        writer_find_limit(writer);
        if (writer->limit - writer->tail < pad + size) {
            if (!writer->blocked)
                counter_add(writer->segment, COUNTER_MASTER, COUNTER_RING_FULL_WAITS, 1);
            writer->blocked = true;
            return NULL;
        }
    }
    writer->blocked = false;
    if (pad > 0) {
        *writer_record_at(writer, writer->tail) = (struct layout_record){
            .type = RING_PAD, .length = (uint32_t)(pad - sizeof(struct layout_record))};
        SHM_POINT(WRITER_PADDED);
    }
    struct layout_record *record = writer_record_at(writer, writer->tail + pad);
    *record = (struct layout_record){.type = (uint32_t)type, .length = length};
    SHM_POINT(WRITER_RESERVED);
    writer->reserved = writer->tail + pad + size;
    return record + 1;
}

void ring_writer_commit(struct ring_writer *writer)
{
    writer_check(writer);
    if (writer->reserved == writer->tail)
        segment_fail("commit without a reserved record");
    SHM_POINT(WRITER_FILLED);
    /* A0 synchronizes with A1: whoever sees this tail sees header and body. */
    atomic_store_explicit(&writer->segment->control->ring_tail, writer->reserved, ORDER_A0_TAIL_STORE);
    writer->tail = writer->reserved;
    SHM_POINT(WRITER_PUBLISHED);
}

unsigned ring_writer_wake(struct ring_writer *writer)
{
    writer_check(writer);
    /* Whoever was awake at the last wake has seen that tail, or will before it sleeps. */
    if (writer->woken == writer->tail)
        return 0;
    writer->woken = writer->tail;
    /* C0: orders the published tail before the looks at the flags. */
    atomic_store_explicit(&writer->segment->control->ring_tail, writer->tail, ORDER_C0_TAIL_AGAIN);
    SHM_POINT(WRITER_WAKING);
    unsigned count = 0;
    for (unsigned slot = 0; slot < writer->segment->slots; slot++) {
        if (!writer->active[slot])
            continue;
        struct layout_entry *entry = segment_entry(writer->segment, slot);
        /* C1: a look first, so that the line of a busy reader stays shared; then the exchange decides. */
        if (atomic_load_explicit(&entry->ring_asleep, ORDER_C1_ASLEEP_SEEN) == 0 ||
            atomic_exchange_explicit(&entry->ring_asleep, 0, ORDER_C1_ASLEEP_SEEN) == 0)
            continue;
        SHM_POINT(WRITER_WON);
        segment_eventfd_write(writer->segment->wake[slot]);
        SHM_POINT(WRITER_WOKE);
        count++;
    }
    return count;
}

void ring_writer_activate(struct ring_writer *writer, unsigned slot)
{
    writer_check(writer);
    struct layout_entry *entry = segment_entry(writer->segment, slot);
    /* No process of this slot lives now; the next one sees these after its exec (G0). The cell comes before
     * the flag, so that a writer that takes over never waits for a dead reader's position. */
    atomic_store_explicit(&entry->ring_cell, writer->tail, ORDER_G0_SLOT_STORE);
    atomic_store_explicit(&entry->ring_asleep, 0, ORDER_G0_SLOT_STORE);
    atomic_store_explicit(&entry->ring_active, 1, ORDER_G0_SLOT_STORE);
    writer->active[slot] = true;
    writer_find_limit(writer);
}

void ring_writer_deactivate(struct ring_writer *writer, unsigned slot)
{
    writer_check(writer);
    struct layout_entry *entry = segment_entry(writer->segment, slot);
    atomic_store_explicit(&entry->ring_active, 0, ORDER_G0_SLOT_STORE);
    writer->active[slot] = false;
    writer_find_limit(writer);
}

uint64_t ring_writer_lag(const struct ring_writer *writer, unsigned slot)
{
    writer_check(writer);
    return writer->tail - writer_cell(writer, slot);
}

unsigned ring_writer_slowest(const struct ring_writer *writer, uint64_t *lag_bytes)
{
    writer_check(writer);
    unsigned slowest = UINT32_MAX;
    uint64_t most = 0;
    for (unsigned slot = 0; slot < writer->segment->slots; slot++) {
        if (!writer->active[slot])
            continue;
        uint64_t lag = ring_writer_lag(writer, slot);
        if (slowest == UINT32_MAX || lag > most) {
            slowest = slot;
            most = lag;
        }
    }
    if (lag_bytes != NULL)
        *lag_bytes = most;
    return slowest;
}

uint64_t ring_writer_cursor(const struct ring_writer *writer, unsigned slot)
{
    writer_check(writer);
    return writer_cell(writer, slot);
}

uint64_t ring_writer_tail(const struct ring_writer *writer)
{
    writer_check(writer);
    return writer->tail;
}

uint64_t ring_writer_capacity(const struct ring_writer *writer)
{
    writer_check(writer);
    return writer->capacity;
}
