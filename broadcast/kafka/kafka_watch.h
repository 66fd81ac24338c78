/*
 * A librdkafka queue in the event loop. librdkafka's threads write an eventfd when something comes into a
 * queue that was empty; the loop then calls `ready`, which must take from the queue until it is empty, or
 * call kafka_watch_again.
 *
 * No wake-up is lost: librdkafka clears its "already told" mark under the queue's lock whenever somebody
 * takes from the queue, also when it finds it empty; whatever comes after that look writes the eventfd again.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_WATCH_H
#define OPALD_BROADCAST_KAFKA_KAFKA_WATCH_H

#include <event2/event.h>
#include <librdkafka/rdkafka.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

#define KAFKA_WATCH_MAGIC 0x6b776174u

struct kafka_watch {
    /* Set while open. */
    uint32_t magic;
    rd_kafka_queue_t *queue;
    /* NULL: not open */
    struct event *event;
    int descriptor;
    void (*ready)(void *context);
    void *context;
};

/* Takes over `queue` (also when it fails). The watch must not move while open. */
int kafka_watch_open(struct kafka_watch *watch, struct event_base *base, rd_kafka_queue_t *queue,
    void (*ready)(void *context), void *context, struct error *err) MUST_CHECK;
/* Calls `ready` in the next turn of the loop. */
void kafka_watch_again(struct kafka_watch *watch);
/* To be called before the queue's owner is destroyed. A zeroed or closed watch is fine. */
void kafka_watch_close(struct kafka_watch *watch);

#endif
