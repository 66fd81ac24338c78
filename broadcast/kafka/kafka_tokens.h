/*
 * Which of the producer's messages somebody asks after: number of the message -> the token that broadcast_publish was given. Only those
 * with a token are here, so it costs nothing when nobody asks. Messages are mostly done in the order of their numbers, so the
 * search from the oldest ends at once. Bounded by the messages that are pending. One owner, no locks.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_TOKENS_H
#define OPALD_BROADCAST_KAFKA_KAFKA_TOKENS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct kafka_token;

struct kafka_tokens {
    TAILQ_HEAD(kafka_token_list, kafka_token) items;
    size_t count;
};

void kafka_tokens_init(struct kafka_tokens *tokens);
/* Numbers must rise from call to call; a token of 0 is not kept. */
void kafka_tokens_put(struct kafka_tokens *tokens, uint64_t number, uint64_t token);
/* The token of that message, which is forgotten; 0 when there is none. */
uint64_t kafka_tokens_take(struct kafka_tokens *tokens, uint64_t number);
void kafka_tokens_clear(struct kafka_tokens *tokens);

#endif
