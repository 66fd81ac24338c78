/*
 * The writer's end of the ring with its waiting: what finds no room is tried again by a timer, and a worker
 * that holds up the full ring for too long is reported. A timer and no signal, because a reader that had to
 * signal the writer would pay a system call for each event, and a full ring is rare.
 *
 *   reserve --> room: write the body, commit
 *          `--> NULL: the `room` hook is called soon; it tries again, and so on
 *
 * Master, main thread.
 */
#ifndef OPALD_SERVER_ROUTER_RING_OUTPUT_H
#define OPALD_SERVER_ROUTER_RING_OUTPUT_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/ring.h"
#include "shm/segment.h"

struct ring_output;

struct ring_output_hooks {
    /* There may be room again. */
    void (*room)(void *context);
    /* The worker of `slot` has held up the full ring for longer than the limit. `why` is for the log. */
    void (*stuck)(void *context, unsigned slot, const char *why);
    void *context;
};

/* `segment` must outlive it. */
struct ring_output *ring_output_open(struct event_base *base, struct segment *segment, double stall_seconds,
    const struct ring_output_hooks *hooks);
void ring_output_close(struct ring_output *output);

/* The largest body of a record, in bytes. */
uint32_t ring_output_body_max(const struct ring_output *output);
/* Room for a body of `length` bytes, or NULL when the ring is full. A reservation that is not committed is
 * replaced by the next. */
MUST_CHECK void *ring_output_reserve(struct ring_output *output, enum ring_type type, uint32_t length);
void ring_output_commit(struct ring_output *output);
/* Reserve, copy, commit. False when the ring is full. */
MUST_CHECK bool ring_output_put(
    struct ring_output *output, enum ring_type type, const void *body, uint32_t length);
/* Wakes the workers that sleep: once after a batch of commits. */
void ring_output_wake(struct ring_output *output);
/* The worker of `slot` reads from the present tail on / does not count any more. */
void ring_output_attach(struct ring_output *output, unsigned slot);
void ring_output_detach(struct ring_output *output, unsigned slot);

#endif
