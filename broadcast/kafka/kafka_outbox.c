#include "broadcast/kafka/kafka_outbox.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

void kafka_outbox_init(struct kafka_outbox *outbox)
{
    TAILQ_INIT(&outbox->items);
    outbox->count = 0;
}

void kafka_outbox_put(struct kafka_outbox *outbox, uint64_t number, struct slice message)
{
    struct kafka_outbox_item *item = memory_allocate(sizeof *item + message.length);
    item->number = number;
    item->length = message.length;
    if (message.length)
        memcpy(item->bytes, message.data, message.length);
    outbox->count++;
    /* What comes back comes in order, mostly behind what is here: look from the end. */
    struct kafka_outbox_item *before = TAILQ_LAST(&outbox->items, kafka_outbox_list);
    while (before && before->number > number)
        before = TAILQ_PREV(before, kafka_outbox_list, link);
    if (before)
        TAILQ_INSERT_AFTER(&outbox->items, before, item, link);
    else
        TAILQ_INSERT_HEAD(&outbox->items, item, link);
}

struct kafka_outbox_item *kafka_outbox_first(struct kafka_outbox *outbox)
{
    return TAILQ_FIRST(&outbox->items);
}

void kafka_outbox_drop_first(struct kafka_outbox *outbox)
{
    struct kafka_outbox_item *item = TAILQ_FIRST(&outbox->items);
    TAILQ_REMOVE(&outbox->items, item, link);
    outbox->count--;
    free(item);
}

void kafka_outbox_clear(struct kafka_outbox *outbox)
{
    while (outbox->count)
        kafka_outbox_drop_first(outbox);
}
