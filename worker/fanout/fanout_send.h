/* Builds the notify frames due to one client and hands them to its socket in as few calls as it takes.
 * Worker's loop only. */
#ifndef OPALD_WORKER_FANOUT_FANOUT_SEND_H
#define OPALD_WORKER_FANOUT_FANOUT_SEND_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"
#include "worker/client/connection.h"
#include "worker/net/output_queue.h"

/* One event of the batch. `data` lies in the ring; `block` is made when the first slow client needs the
 * data after the batch. */
struct fanout_event {
    struct slice data;
    uint64_t entered_ns;
    struct output_block *block;
};

struct fanout_sender;

/* `topic_json_max`: the longest topic a client may have subscribed to, as JSON. */
struct fanout_sender *fanout_sender_open(
    const struct worker_counters *counters, struct memory_ledger *ledger, size_t topic_json_max);
void fanout_sender_close(struct fanout_sender *sender);

/* For one client: begin, add each delivery in order, end. After `end` the client may be in any state. */
void fanout_sender_begin(struct fanout_sender *sender, struct connection *connection);
void fanout_sender_add(
    struct fanout_sender *sender, const struct subscription *subscription, struct fanout_event *event);
void fanout_sender_end(struct fanout_sender *sender);
/* The whole of a client's share when it is `count` events in a row for one subscription, as it nearly always
 * is. The frames are the same for all such clients but for three ids, so they are built once in a batch and
 * addressed anew for each. */
void fanout_sender_run(struct fanout_sender *sender, struct connection *connection,
    const struct subscription *subscription, struct fanout_event *events, uint32_t count);
/* Ends the batch: the events' data may go. Adds what was sent since the last call to the counters. */
void fanout_sender_end_batch(struct fanout_sender *sender);

#endif
