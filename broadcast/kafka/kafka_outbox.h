/* Messages that wait to be sent (again), sorted by their number. Bytes are copied in. One owner, no locks. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_OUTBOX_H
#define OPALD_BROADCAST_KAFKA_KAFKA_OUTBOX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "shm/common/text.h"

struct kafka_outbox_item {
    TAILQ_ENTRY(kafka_outbox_item) link;
    uint64_t number;
    size_t length;
    char bytes[];
};

struct kafka_outbox {
    TAILQ_HEAD(kafka_outbox_list, kafka_outbox_item) items;
    size_t count;
};

void kafka_outbox_init(struct kafka_outbox *outbox);
void kafka_outbox_put(struct kafka_outbox *outbox, uint64_t number, struct slice message);
/* The item with the lowest number, NULL when empty. */
struct kafka_outbox_item *kafka_outbox_first(struct kafka_outbox *outbox);
void kafka_outbox_drop_first(struct kafka_outbox *outbox);
void kafka_outbox_clear(struct kafka_outbox *outbox);

#endif
