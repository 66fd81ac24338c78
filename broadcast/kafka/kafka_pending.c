#include "broadcast/kafka/kafka_pending.h"

#include <stdlib.h>

#include "shm/common/memory.h"

void kafka_pending_init(struct kafka_pending *pending)
{
    *pending = (struct kafka_pending){0};
    TAILQ_INIT(&pending->items);
}

struct kafka_pending_item *kafka_pending_add(
    struct kafka_pending *pending, uint64_t number, uint64_t token, size_t length, uint64_t now_ns)
{
    struct kafka_pending_item *item = memory_allocate(sizeof *item);
    item->magic = KAFKA_PENDING_MAGIC;
    item->number = number;
    item->token = token;
    item->entered_ns = now_ns;
    item->length = length;
    TAILQ_INSERT_TAIL(&pending->items, item, link);
    pending->count++;
    pending->bytes += length;
    return item;
}

void kafka_pending_wait(struct kafka_pending *pending, struct kafka_pending_item *item, struct slice message)
{
    if (item->bytes)
        return;
    item->bytes = memory_copy(message.data, message.length);
    pending->waiting++;
}

void kafka_pending_go(struct kafka_pending *pending, struct kafka_pending_item *item)
{
    if (!item->bytes)
        return;
    free(item->bytes);
    item->bytes = NULL;
    pending->waiting--;
}

void kafka_pending_remove(struct kafka_pending *pending, struct kafka_pending_item *item)
{
    kafka_pending_go(pending, item);
    TAILQ_REMOVE(&pending->items, item, link);
    pending->count--;
    pending->bytes -= item->length;
    item->magic = 0;
    free(item);
}

void kafka_pending_clear(struct kafka_pending *pending)
{
    while (pending->count)
        kafka_pending_remove(pending, TAILQ_FIRST(&pending->items));
}

struct kafka_pending_item *kafka_pending_first(const struct kafka_pending *pending)
{
    return TAILQ_FIRST(&pending->items);
}

size_t kafka_pending_in_flight(const struct kafka_pending *pending)
{
    return pending->count - pending->waiting;
}

uint64_t kafka_pending_oldest_ns(const struct kafka_pending *pending)
{
    return pending->count ? TAILQ_FIRST(&pending->items)->entered_ns : 0;
}
