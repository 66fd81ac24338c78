/*
 * The uplink: a small ring from one worker (writer) to the master (only reader). A record becomes visible by
 * one release store, so a worker killed at any moment leaves either a whole record or none. The master drains
 * committed records of a dead worker too: a publish that was committed is not lost. It does so when it reaps
 * the worker, who may have died after the commit and before the bell.
 */
#ifndef OPALD_SHM_UPLINK_H
#define OPALD_SHM_UPLINK_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/segment.h"

struct uplink;

/* A record that is no event: the worker asks the master for its statistics. Body: struct uplink_question. */
#define UPLINK_ASK_STATISTICS 64
struct uplink_question {
    uint32_t number;
    uint32_t brief;
};

/* Master, before a process starts in `slot`: allocates the uplink (once) and cuts off what a dead predecessor
 * had begun and not committed; committed records stay readable for the master. -1 with `err`: no memory. */
MUST_CHECK int uplink_prepare(struct segment *segment, unsigned slot, struct error *err);
/* Worker: for its own slot. Master: for any slot that was prepared; how far it has read belongs to the
 * segment, so the uplink may be closed and opened again, and stays open over the worker's death. */
struct uplink *uplink_open(struct segment *segment, unsigned slot);
void uplink_close(struct uplink *uplink);
uint32_t uplink_body_max(const struct uplink *uplink); /* half the uplink, less the header */

/* ---- worker ---- */
/* NULL while there is no room: queue (bounded) and try again; the master frees room within its loop. */
MUST_CHECK void *uplink_reserve(struct uplink *uplink, uint32_t type, uint32_t length);
/* Publishes the record and wakes the master if it sleeps. */
void uplink_commit(struct uplink *uplink);

/* ---- master ---- */
struct uplink_record {
    uint32_t type;
    uint32_t length;
    /* valid until uplink_release */
    const void *body;
};
/* Next committed record or false. Lengths are checked against the uplink's bounds: a worker that wrote
 * nonsense makes it return false with `*corrupt` set (the master then replaces that worker). */
MUST_CHECK bool uplink_next(struct uplink *uplink, struct uplink_record *record, bool *corrupt);
void uplink_release(struct uplink *uplink); /* everything returned so far */
uint64_t uplink_pending_bytes(const struct uplink *uplink);

/* Master: announces that it sleeps on the doorbell. Returns false when some prepared uplink has a record that
 * uplink_next has not returned: read on instead of sleeping (while the ring is full, wait for its timer as
 * well). */
MUST_CHECK bool uplink_master_sleep(struct segment *segment);
/* Master: consumes the doorbell after it became readable. */
void uplink_master_awake(struct segment *segment);

#endif
