#include "broadcast/kafka/kafka_tokens.h"

#include <stdlib.h>

#include "shm/common/memory.h"

struct kafka_token {
    TAILQ_ENTRY(kafka_token) link;
    uint64_t number;
    uint64_t token;
};

void kafka_tokens_init(struct kafka_tokens *tokens)
{
    TAILQ_INIT(&tokens->items);
    tokens->count = 0;
}

void kafka_tokens_put(struct kafka_tokens *tokens, uint64_t number, uint64_t token)
{
    if (!token)
        return;
    struct kafka_token *item = memory_allocate(sizeof *item);
    item->number = number;
    item->token = token;
    TAILQ_INSERT_TAIL(&tokens->items, item, link);
    tokens->count++;
}

static uint64_t tokens_remove(struct kafka_tokens *tokens, struct kafka_token *item)
{
    uint64_t token = item->token;
    TAILQ_REMOVE(&tokens->items, item, link);
    tokens->count--;
    free(item);
    return token;
}

uint64_t kafka_tokens_take(struct kafka_tokens *tokens, uint64_t number)
{
    struct kafka_token *item = TAILQ_FIRST(&tokens->items);
    for (; item; item = TAILQ_NEXT(item, link)) {
        if (item->number == number)
            return tokens_remove(tokens, item);
        if (item->number > number)
            break;
    }
    return 0;
}

void kafka_tokens_clear(struct kafka_tokens *tokens)
{
    while (tokens->count)
        tokens_remove(tokens, TAILQ_FIRST(&tokens->items));
}
