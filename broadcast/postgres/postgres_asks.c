#include "broadcast/postgres/postgres_asks.h"

#include <assert.h>

bool postgres_asks_have_room(const struct postgres_asks *asks)
{
    return asks->count + 2 <= POSTGRES_ASKS_MAX;
}

void postgres_asks_push(struct postgres_asks *asks, struct postgres_ask ask)
{
    assert(asks->count < POSTGRES_ASKS_MAX);
    asks->items[(asks->first + asks->count++) % POSTGRES_ASKS_MAX] = ask;
    asks->rows += ask.kind == POSTGRES_ASK_ROW;
}

struct postgres_ask postgres_asks_front(const struct postgres_asks *asks)
{
    assert(asks->count);
    return asks->items[asks->first];
}

struct postgres_ask postgres_asks_pop(struct postgres_asks *asks)
{
    struct postgres_ask ask = postgres_asks_front(asks);
    asks->first = (asks->first + 1) % POSTGRES_ASKS_MAX;
    asks->count--;
    asks->rows -= ask.kind == POSTGRES_ASK_ROW;
    return ask;
}

void postgres_asks_clear(struct postgres_asks *asks)
{
    asks->first = asks->count = asks->rows = 0;
}
