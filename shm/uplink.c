/*
 * Uplinks: from each worker a small ring to the master.
 *
 * One writer and one reader each, records and pads as in the broadcast ring. The worker's tail lies in its
 * table entry, the master's head in the control part that workers can only read. Committed means: the tail
 * has passed the record (D0). A worker killed before that store left nothing; killed after it, the whole
 * record, which the master reads although the worker is dead. Its successor in the slot writes on from the
 * same tail.
 *
 * The master trusts nothing here. It keeps its own position (segment_uplink_state), reads the tail and each
 * length once, and checks them before use. The bodies are checked by whoever decodes them (shm/ring_event.c).
 *
 * The doorbell differs from the ring's wake-up, because it has many ringers, and any of them can be killed or
 * stopped. Had a worker to win an exchange of `asleep` before it writes the eventfd, one that is stopped
 * between the two would keep all the others from waking the master. So it writes the eventfd first and clears
 * the flag after. The flag holds the number of the master's sleep, and the worker clears only the number it
 * saw, by compare-and-exchange: late by an hour, it can't clear a later sleep. The price: workers that commit
 * at the same moment may write the eventfd once each.
 */
#include "shm/uplink.h"

#include <inttypes.h>
#include <stdlib.h>
#include "shm/common/memory.h"
#include "shm/layout.h"

#define UPLINK_MAGIC 0x0b11c4d7u
#define UPLINK_PAD   0u

struct uplink {
    uint32_t magic;
    unsigned slot;
    struct segment *segment;
    struct layout_entry *entry;
    unsigned char *data;
    uint64_t capacity;
    /* the worker's side */
    uint64_t tail;
    /* the tail after commit; equal to tail when nothing is reserved */
    uint64_t reserved;
    uint64_t head_seen;
};

static void uplink_check(const struct uplink *uplink)
{
    if (uplink == NULL || uplink->magic != UPLINK_MAGIC)
        segment_fail("not an uplink");
}

struct uplink *uplink_open(struct segment *segment, unsigned slot)
{
    segment_check(segment);
    struct uplink *uplink = memory_allocate(sizeof *uplink);
    uplink->magic = UPLINK_MAGIC;
    uplink->slot = slot;
    uplink->segment = segment;
    uplink->entry = segment_entry(segment, slot);
    uplink->data = segment_uplink(segment, slot);
    uplink->capacity = segment->uplink_bytes;
    if (segment->is_master && !segment->uplink_state[slot].prepared)
        segment_fail("uplink of a slot that was not prepared");
    uplink->tail = atomic_load_explicit(&uplink->entry->uplink_tail, ORDER_G1_SLOT_LOAD);
    uplink->reserved = uplink->tail;
    uplink->head_seen = atomic_load_explicit(&segment->control->uplink_head[slot].value, ORDER_E1_HEAD_LOAD);
    return uplink;
}

void uplink_close(struct uplink *uplink)
{
    if (uplink == NULL)
        return;
    uplink_check(uplink);
    uplink->magic = 0;
    free(uplink);
}

static uint32_t body_max(uint64_t capacity)
{
    return (uint32_t)(capacity / 2 - sizeof(struct layout_record));
}

uint32_t uplink_body_max(const struct uplink *uplink)
{
    uplink_check(uplink);
    return body_max(uplink->capacity);
}

/* ---- worker ---- */

static struct layout_record *uplink_record_at(const struct uplink *uplink, uint64_t position)
{
    return (struct layout_record *)(void *)(uplink->data + (position & (uplink->capacity - 1)));
}

void *uplink_reserve(struct uplink *uplink, uint32_t type, uint32_t length)
{
    uplink_check(uplink);
    if (length > body_max(uplink->capacity) || type == UPLINK_PAD)
        segment_fail("an uplink record that is too long or has no type");
    uint64_t size = layout_record_size(length);
    uint64_t to_end = uplink->capacity - (uplink->tail & (uplink->capacity - 1));
    uint64_t pad = size > to_end ? to_end : 0;
    if (uplink->capacity - (uplink->tail - uplink->head_seen) < pad + size) {
        /* E1 synchronizes with E0: the master's reads there are over. */
        uplink->head_seen = atomic_load_explicit(
            &uplink->segment->control->uplink_head[uplink->slot].value, ORDER_E1_HEAD_LOAD);
        if (uplink->capacity - (uplink->tail - uplink->head_seen) < pad + size)
            return NULL;
    }
    if (pad > 0) {
        *uplink_record_at(uplink, uplink->tail) = (struct layout_record){
            .type = UPLINK_PAD, .length = (uint32_t)(pad - sizeof(struct layout_record))};
        SHM_POINT(UPLINK_PADDED);
    }
    struct layout_record *record = uplink_record_at(uplink, uplink->tail + pad);
    *record = (struct layout_record){.type = type, .length = length};
    SHM_POINT(UPLINK_RESERVED);
    uplink->reserved = uplink->tail + pad + size;
    return record + 1;
}

void uplink_commit(struct uplink *uplink)
{
    uplink_check(uplink);
    if (uplink->reserved == uplink->tail)
        segment_fail("commit without a reserved record");
    SHM_POINT(UPLINK_FILLED);
    /* D0 synchronizes with D1, and stands before F1 in the one order of the sleep. */
    atomic_store_explicit(&uplink->entry->uplink_tail, uplink->reserved, ORDER_D0_UPLINK_STORE);
    uplink->tail = uplink->reserved;
    SHM_POINT(UPLINK_COMMITTED);
    _Atomic uint64_t *asleep = &uplink->segment->doorbell_line->asleep;
    uint64_t sleep = atomic_load_explicit(asleep, ORDER_F1_SLEEP_SEEN);
    if (sleep == 0)
        return;
    SHM_POINT(UPLINK_RINGING);
    segment_eventfd_write(uplink->segment->doorbell);
    SHM_POINT(UPLINK_RANG);
    atomic_compare_exchange_strong_explicit(asleep, &sleep, 0, ORDER_F1_SLEEP_SEEN, ORDER_F1_SLEEP_SEEN);
    SHM_POINT(UPLINK_DONE);
}

/* ---- master ---- */

/* Reads the header at `position` once and tells whether it can be true; `end` is the tail, already checked.
 */
static bool record_valid(const unsigned char *data, uint64_t capacity, uint64_t position, uint64_t end,
    struct layout_record *record)
{
    uint64_t offset = position & (capacity - 1);
    const volatile struct layout_record *shared = (const volatile void *)(data + offset);
    record->type = shared->type; /* volatile: one load each, whatever the worker does meanwhile */
    record->length = shared->length;
    uint64_t size = layout_record_size(record->length);
    if (size > end - position || size > capacity - offset)
        return false;
    return record->type == UPLINK_PAD ? size == capacity - offset : record->length <= body_max(capacity);
}

static bool tail_valid(uint64_t tail, uint64_t read, uint64_t released, uint64_t capacity)
{
    return tail % 8 == 0 && tail - released <= capacity && tail - released >= read - released;
}

/* Where the valid records between `from` and the worker's tail end. Sets *whole when that is the tail
 * itself. */
static uint64_t valid_end(const struct segment *segment, unsigned slot, uint64_t from, bool *whole)
{
    const struct segment_uplink_state *state = &segment->uplink_state[slot];
    const struct layout_entry *entry = segment_entry(segment, slot);
    const unsigned char *data = segment_uplink(segment, slot);
    uint64_t tail = atomic_load_explicit(&entry->uplink_tail, ORDER_D1_UPLINK_LOAD);
    uint64_t position = from;
    *whole = false;
    if (!tail_valid(tail, state->read, state->released, segment->uplink_bytes))
        return position;
    while (position != tail) {
        struct layout_record record;
        if (!record_valid(data, segment->uplink_bytes, position, tail, &record))
            return position;
        position += layout_record_size(record.length);
    }
    *whole = true;
    return position;
}

int uplink_prepare(struct segment *segment, unsigned slot, struct error *err)
{
    segment_check(segment);
    struct layout_entry *entry = segment_entry(segment, slot);
    struct segment_uplink_state *state = &segment->uplink_state[slot];
    if (!segment->is_master)
        segment_fail("only the master prepares slots");
    if (!state->prepared) {
        uint64_t offset = segment->uplinks_offset + slot * segment->uplink_bytes;
        int failure = segment_allocate(segment, offset, segment->uplink_bytes);
        if (failure != 0)
            return error_set_errno(err, failure,
                "can't allocate %" PRIu64 " bytes of shared memory for the uplink of worker slot %u",
                segment->uplink_bytes, slot);
        state->prepared = true;
    }
    /* What the dead worker committed stays; what it had only begun lies behind the tail, where its successor
     * writes over it. A tail or a length that can't be true cuts the uplink there. */
    bool whole;
    uint64_t end = valid_end(segment, slot, state->read, &whole);
    if (!whole)
        atomic_store_explicit(&entry->uplink_tail, end, ORDER_G0_SLOT_STORE);
    state->corrupt = false;
    return 0;
}

static struct segment_uplink_state *uplink_state(const struct uplink *uplink)
{
    if (!uplink->segment->is_master)
        segment_fail("only the master reads uplinks");
    return &uplink->segment->uplink_state[uplink->slot];
}

bool uplink_next(struct uplink *uplink, struct uplink_record *out, bool *corrupt)
{
    uplink_check(uplink);
    struct segment_uplink_state *state = uplink_state(uplink);
    /* D1 synchronizes with D0. */
    uint64_t tail = atomic_load_explicit(&uplink->entry->uplink_tail, ORDER_D1_UPLINK_LOAD);
    *corrupt = false;
    if (!tail_valid(tail, state->read, state->released, uplink->capacity))
        state->corrupt = true;
    while (!state->corrupt && state->read != tail) {
        struct layout_record record;
        if (!record_valid(uplink->data, uplink->capacity, state->read, tail, &record)) {
            state->corrupt = true;
            break;
        }
        const unsigned char *body =
            uplink->data + (state->read & (uplink->capacity - 1)) + sizeof(struct layout_record);
        state->read += layout_record_size(record.length);
        if (record.type == UPLINK_PAD)
            continue;
        *out = (struct uplink_record){.type = record.type, .length = record.length, .body = body};
        return true;
    }
    *corrupt = state->corrupt;
    return false;
}

void uplink_release(struct uplink *uplink)
{
    uplink_check(uplink);
    struct segment_uplink_state *state = uplink_state(uplink);
    if (state->released == state->read)
        return;
    state->released = state->read;
    /* E0 synchronizes with E1. */
    atomic_store_explicit(
        &uplink->segment->control->uplink_head[uplink->slot].value, state->released, ORDER_E0_HEAD_STORE);
}

uint64_t uplink_pending_bytes(const struct uplink *uplink)
{
    uplink_check(uplink);
    const struct segment_uplink_state *state = uplink_state(uplink);
    uint64_t tail = atomic_load_explicit(&uplink->entry->uplink_tail, ORDER_D1_UPLINK_LOAD);
    if (state->corrupt || !tail_valid(tail, state->read, state->released, uplink->capacity))
        return 0;
    return tail - state->read;
}

bool uplink_master_sleep(struct segment *segment)
{
    segment_check(segment);
    if (!segment->is_master)
        segment_fail("only the master sleeps on the doorbell");
    _Atomic uint64_t *asleep = &segment->doorbell_line->asleep;
    atomic_store_explicit(asleep, ++segment->sleeps, ORDER_F2_SLEEP_SET);
    for (unsigned slot = 0; LAYOUT_MASTER_LOOKS_TWICE && slot < segment->slots; slot++) {
        const struct segment_uplink_state *state = &segment->uplink_state[slot];
        const struct layout_entry *entry = segment_entry(segment, slot);
        /* A corrupt uplink has nothing more to say; it must not keep the master from sleeping until it is
         * replaced. */
        if (!state->prepared || state->corrupt ||
            atomic_load_explicit(&entry->uplink_tail, ORDER_F3_UPLINK_LOOK) == state->read)
            continue;
        atomic_store_explicit(asleep, 0, ORDER_F2_SLEEP_SET);
        return false;
    }
    return true;
}

void uplink_master_awake(struct segment *segment)
{
    segment_check(segment);
    /* Awake now: no need to ring until the next sleep, which looks at every tail before it waits. */
    atomic_store_explicit(&segment->doorbell_line->asleep, 0, ORDER_F2_SLEEP_SET);
    segment_eventfd_drain(segment->doorbell);
}
