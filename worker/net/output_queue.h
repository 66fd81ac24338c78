/*
 * What a socket refused: frames waiting for one slow client. A frame is bytes of its own (head, small
 * payload, tail) with at most one large payload in between, which lies in a counted block shared by all slow
 * clients of the worker; the client keeps its place in it. Frames go out whole and in order; when a client is
 * given up, the frames that were not begun can be dropped without tearing one. Worker's loop only.
 */
#ifndef OPALD_WORKER_NET_OUTPUT_QUEUE_H
#define OPALD_WORKER_NET_OUTPUT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"
#include "worker/net/transport.h"

/* Immutable bytes that go to one or many clients: a copy of a payload, or memory of somebody who is told at
 * the end. */
struct output_block;
/* With one reference. `ledger` counts the memory: more by its size now, less when it is freed; it must live
 * as long. */
struct output_block *output_block_make(struct slice bytes, uint64_t *ledger);
/* The same without copying: `release` is called with its last reference. */
struct output_block *output_block_borrow(struct slice bytes, void (*release)(void *owner), void *owner);
struct slice output_block_bytes(const struct output_block *block);
struct output_block *output_block_take(struct output_block *block);
void output_block_drop(struct output_block *block);

/* Zero-initialise; output_queue_clear at the end. Empty queues own no memory. */
struct output_queue {
    struct output_frame *first;
    struct output_frame *last;
    /* still to be sent */
    size_t bytes;
    /* set by the owner before the first frame: counts the frames' own memory, without blocks */
    uint64_t *ledger;
};

struct output_parts {
    struct slice head;
    /* NULL, or a reference that the queue takes over */
    struct output_block *block;
    struct slice tail;
    /* bytes of head + block + tail that are out already */
    size_t sent;
    /* a notify frame: counted when it is dropped */
    bool delivery;
};

/* Copies head and tail. */
void output_queue_append(struct output_queue *queue, const struct output_parts *parts);

enum output_result {
    /* nothing is queued, and nothing is held by the transport */
    OUTPUT_DONE,
    OUTPUT_AGAIN,
    /* errno is set; the peer is gone */
    OUTPUT_ERROR,
};

/* Sends what the transport takes. `*sent` gets the number of bytes, of which TLS may hold the last ones
 * still; `*calls` goes up by the system calls made. */
MUST_CHECK enum output_result output_queue_flush(
    struct output_queue *queue, struct transport *transport, size_t *sent, uint64_t *calls);

/* Drops every frame that was not begun; returns how many deliveries were among them. */
size_t output_queue_drop_unsent(struct output_queue *queue);
/* Drops everything; returns the deliveries that were not sent whole. */
size_t output_queue_clear(struct output_queue *queue);

#endif
