/* What the sender has asked and Postgres has not answered yet, oldest first: answers come in this order.
 * Pure. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_ASKS_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_ASKS_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"

#define POSTGRES_ASKS_MAX 512

enum postgres_ask_kind {
    /* pg_notify, with or without a row; part of a batch */
    POSTGRES_ASK_MESSAGE,
    /* the sync that ends a batch: committed, or not */
    POSTGRES_ASK_BATCH,
    /* with a sync of its own, like the next one */
    POSTGRES_ASK_ROW,
    POSTGRES_ASK_CLEAN,
};

struct postgres_ask {
    enum postgres_ask_kind kind;
    uint64_t row;
};

/* Zero-initialise. */
struct postgres_asks {
    struct postgres_ask items[POSTGRES_ASKS_MAX];
    unsigned first;
    unsigned count;
    /* of kind POSTGRES_ASK_ROW */
    unsigned rows;
};

/* There is room for one more, and for the sync of a batch behind it. */
MUST_CHECK bool postgres_asks_have_room(const struct postgres_asks *asks);
void postgres_asks_push(struct postgres_asks *asks, struct postgres_ask ask);
/* The oldest; there must be one. */
struct postgres_ask postgres_asks_front(const struct postgres_asks *asks);
struct postgres_ask postgres_asks_pop(struct postgres_asks *asks);
void postgres_asks_clear(struct postgres_asks *asks);

#endif
