/*
 * The broadcast ring: one writer (the master), a reader per worker slot; every reader sees every record, in
 * order. Memory a live reader may still read is never overwritten: the writer's reserve fails while the
 * slowest active reader is in the way. The protocol (atomics, barriers, wake-ups) is described in
 * shm/ring_writer.c and shm/ring_reader.c.
 */
#ifndef OPALD_SHM_RING_H
#define OPALD_SHM_RING_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/segment.h"

/* Record types; RING_PAD never reaches a caller. */
enum ring_type {
    RING_PAD = 0,
    /* body: shm/ring_event.h */
    RING_EVENT = 1,
    /* a publish that was refused after it left its worker; body: struct ring_refusal (shm/ring_event.h) */
    RING_REFUSED = 2,
    /* body: struct ring_resync: close the websockets with 1012 at the given pace */
    RING_RESYNC = 3,
    /* what became of an event in the backbone; behind its RING_EVENT; body: struct ring_acknowledgement */
    RING_ACKNOWLEDGED = 4,
};

struct ring_record {
    /* enum ring_type */
    uint32_t type;
    /* of the body, in bytes */
    uint32_t length;
    /* in shared memory, 8-byte aligned; valid until ring_reader_release passes it */
    const void *body;
    /* of the record in the ring's byte stream; strictly increasing */
    uint64_t position;
};

/* ---- writer: the master only ---- */
struct ring_writer;
struct ring_writer *ring_writer_open(struct segment *segment);
void ring_writer_close(struct ring_writer *writer);
/* The largest body a record may have: an eighth of the ring, less its header. */
uint32_t ring_writer_body_max(const struct ring_writer *writer);
/* Room for a body of `length`, or NULL while the slowest active reader is in the way (try again after it
 * moved: poll with a timer; ring_writer_slowest says who it is; the first refusal of a row is counted as
 * RING_FULL_WAITS here). A reservation that is not committed is replaced by the next. `length` above
 * ring_writer_body_max is a programming error (abort). */
MUST_CHECK void *ring_writer_reserve(struct ring_writer *writer, enum ring_type type, uint32_t length);
/* Publishes the reserved record. Readers see it at once, but sleeping ones are woken only by
 * ring_writer_wake. */
void ring_writer_commit(struct ring_writer *writer);
/* Wakes the readers that sleep and have something to read: call once after a batch of commits. Returns how
 * many were woken. */
unsigned ring_writer_wake(struct ring_writer *writer);
/* Reader `slot` starts at the current tail (called before its process starts) / no longer counts (its
 * process is gone). */
void ring_writer_activate(struct ring_writer *writer, unsigned slot);
void ring_writer_deactivate(struct ring_writer *writer, unsigned slot);
/* Slot of the active reader that is furthest behind and by how many bytes; UINT32_MAX without active
 * readers. */
unsigned ring_writer_slowest(const struct ring_writer *writer, uint64_t *lag_bytes);
uint64_t ring_writer_lag(const struct ring_writer *writer, unsigned slot);
uint64_t ring_writer_cursor(
    const struct ring_writer *writer, unsigned slot); /* a reader's released position */
uint64_t ring_writer_tail(const struct ring_writer *writer);
uint64_t ring_writer_capacity(const struct ring_writer *writer);

/* ---- reader: one per worker ---- */
struct ring_reader;
struct ring_reader *ring_reader_open(struct segment *segment, unsigned slot);
void ring_reader_close(struct ring_reader *reader);
/* The next record, without giving back the memory of earlier ones. False when there is none now. */
MUST_CHECK bool ring_reader_next(struct ring_reader *reader, struct ring_record *record);
/* Everything returned by ring_reader_next so far may be overwritten from now on. */
void ring_reader_release(struct ring_reader *reader);
/* Call when next returned false and before going back to the event loop: announces that the reader sleeps on
 * its eventfd. Returns false when a record came in meanwhile: read on instead of sleeping. */
MUST_CHECK bool ring_reader_sleep(struct ring_reader *reader);
/* After the eventfd became readable: consumes the wake-up (non-blocking read). */
void ring_reader_awake(struct ring_reader *reader);

#endif
