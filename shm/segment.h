/*
 * The memory the processes share: one memfd made by the master before any worker starts, inherited by the
 * workers.
 *
 *   header | control | doorbell | worker table (one entry a slot) | ring | uplinks, one a slot
 *
 * The master maps all of it read-write. A worker may write its own table entry (its ring cell lives there),
 * its own uplink and the doorbell; it maps header, control, the other entries and the ring read-only, and
 * other workers' uplinks not at all. Nothing has a name in /dev/shm: when the last process ends, the memory
 * is gone. Ring and table are allocated up front (posix_fallocate: a later page fault must not become
 * SIGBUS); an uplink when its slot is first used (uplink_prepare).
 *
 * Wake-ups: one eventfd for the master, one per slot, all made here.
 */
#ifndef OPALD_SHM_SEGMENT_H
#define OPALD_SHM_SEGMENT_H

#include <stddef.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

#define SEGMENT_WORKERS_MAX 128
#define SEGMENT_SLOTS_MAX   (SEGMENT_WORKERS_MAX + 1) /* and one for the policy process */

struct segment; /* opaque; internal layout in shm/layout.h, included by shm/ sources only */

/* Master. NULL with `err` set when the memory can't be had. */
MUST_CHECK struct segment *segment_create(const struct segment_settings *settings, struct error *err);
/* What a worker must inherit; all are close-on-exec. */
struct segment_descriptors {
    /* the memfd */
    int memory;
    /* eventfd the worker writes to wake the master */
    int doorbell;
    /* eventfd the master writes to wake this worker */
    int wake;
};
struct segment_descriptors segment_descriptors(const struct segment *segment, unsigned slot);
/* In the child between fork and exec: clears close-on-exec. Async-signal-safe. 0, or -1 with errno. */
MUST_CHECK int segment_export(const struct segment_descriptors *descriptors);

/* Worker, after exec. Takes ownership of the three descriptors (closes them on failure as well; the memfd
 * always, the mapping stays). Checks magic, version and sizes. The slot must have been prepared. */
MUST_CHECK struct segment *segment_attach(
    const struct segment_descriptors *descriptors, unsigned slot, struct error *err);
/* Unmaps and closes; any process. */
void segment_close(struct segment *segment);

/* The eventfd this process sleeps on: the master's doorbell or the worker's wake. */
int segment_own_eventfd(const struct segment *segment);
unsigned segment_slot_count(const struct segment *segment);

#endif
