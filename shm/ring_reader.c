/*
 * A reader of the ring: one in each worker. The protocol is told in shm/ring_writer.c and shm/layout.h.
 *
 * Reading and giving back are separate steps: `next` walks on in private memory, `release` tells the writer
 * (B0). A worker sends straight from the ring's memory in between. It keeps the tail it last saw, so a batch
 * costs one look at the shared line, and one store to its own.
 *
 * Going to sleep: read until next returns false; set the flag (C2); look at the tail again (C3); only then
 * wait. A record that comes before C3 is seen there; one that comes after it finds the flag set and wakes us.
 *
 * A reader that stops between two calls, whichever, holds up the writer and harms nobody's memory; one that
 * dies is deactivated by the master, and its successor starts at the tail of that moment.
 */
#include "shm/ring.h"

#include <stdlib.h>
#include "shm/common/memory.h"
#include "shm/layout.h"

#define RING_READER_MAGIC 0x7ead31c5u

struct ring_reader {
    uint32_t magic;
    unsigned slot;
    const struct segment *segment;
    const unsigned char *data;
    uint64_t capacity;
    /* position of the next record */
    uint64_t next;
    /* everything before it is readable */
    uint64_t tail_seen;
    /* what the cell has */
    uint64_t released;
    struct layout_entry *entry;
};

static void reader_check(const struct ring_reader *reader)
{
    if (reader == NULL || reader->magic != RING_READER_MAGIC)
        segment_fail("not a ring reader");
}

struct ring_reader *ring_reader_open(struct segment *segment, unsigned slot)
{
    segment_check(segment);
    if (!segment->is_master && slot != segment->slot)
        segment_fail("a worker reads the ring in its own slot");
    struct ring_reader *reader = memory_allocate(sizeof *reader);
    reader->magic = RING_READER_MAGIC;
    reader->slot = slot;
    reader->segment = segment;
    reader->data = segment->ring;
    reader->capacity = segment->ring_bytes;
    reader->entry = segment_entry(segment, slot);
    /* G1: ring_writer_activate put it there before this process began. */
    reader->next = atomic_load_explicit(&reader->entry->ring_cell, ORDER_G1_SLOT_LOAD);
    reader->tail_seen = reader->next;
    reader->released = reader->next;
    return reader;
}

void ring_reader_close(struct ring_reader *reader)
{
    if (reader == NULL)
        return;
    reader_check(reader);
    reader->magic = 0;
    free(reader);
}

/* The header at the next position, after checking that it can be true. The master wrote it, so this guards
 * against broken memory only; a worker that ends is replaced, one that reads on would send rubbish. */
static const struct layout_record *reader_record(const struct ring_reader *reader)
{
    uint64_t offset = reader->next & (reader->capacity - 1);
    const struct layout_record *record = (const void *)(reader->data + offset);
    uint64_t size = layout_record_size(record->length);
    if (size > reader->tail_seen - reader->next || size > reader->capacity - offset)
        segment_fail("a ring record reaches past the tail");
    return record;
}

bool ring_reader_next(struct ring_reader *reader, struct ring_record *out)
{
    reader_check(reader);
    for (;;) {
        if (reader->next == reader->tail_seen) {
            /* A1 synchronizes with A0. */
            reader->tail_seen =
                atomic_load_explicit(&reader->segment->control->ring_tail, ORDER_A1_TAIL_LOAD);
            SHM_POINT(READER_LOOKED);
            if (reader->next == reader->tail_seen)
                return false;
        }
        const struct layout_record *record = reader_record(reader);
        uint64_t position = reader->next;
        reader->next += layout_record_size(record->length);
        SHM_POINT(READER_READ);
        if (record->type == RING_PAD)
            continue;
        *out = (struct ring_record){
            .type = record->type, .length = record->length, .body = record + 1, .position = position};
        return true;
    }
}

void ring_reader_release(struct ring_reader *reader)
{
    reader_check(reader);
    if (reader->released == reader->next)
        return;
    SHM_POINT(READER_RELEASING);
    reader->released = reader->next;
    /* B0 synchronizes with B1: our reads are over before the writer may write there. */
    atomic_store_explicit(&reader->entry->ring_cell, reader->released, ORDER_B0_CELL_STORE);
    SHM_POINT(READER_RELEASED);
}

bool ring_reader_sleep(struct ring_reader *reader)
{
    reader_check(reader);
    atomic_exchange_explicit(&reader->entry->ring_asleep, 1, ORDER_C2_ASLEEP_SET);
    SHM_POINT(READER_LYING);
    if (LAYOUT_LOOKS_TWICE &&
        atomic_load_explicit(&reader->segment->control->ring_tail, ORDER_C3_TAIL_LOOK) != reader->next) {
        /* If the writer took the flag first, its wake-up is in the eventfd: one turn of the loop for nothing.
         */
        atomic_exchange_explicit(&reader->entry->ring_asleep, 0, ORDER_C2_ASLEEP_SET);
        SHM_POINT(READER_ROSE);
        return false;
    }
    SHM_POINT(READER_ASLEEP);
    return true;
}

void ring_reader_awake(struct ring_reader *reader)
{
    reader_check(reader);
    segment_eventfd_drain(reader->segment->wake[reader->slot]);
    SHM_POINT(READER_AWAKE);
}
