/*
 * The topic index of one worker: topic -> its subscriptions. The cost of an event is independent of how many
 * topics there are, and dropping a client costs only its own subscriptions. The hash is keyed with a random
 * number, so that a client cannot choose topics that collide. Worker's loop only.
 */
#ifndef OPALD_WORKER_TOPICS_SUBSCRIPTIONS_H
#define OPALD_WORKER_TOPICS_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/text.h"

struct topic;
struct subscriptions;

/* One (channel, topic, call): subscribing twice makes two. Read-only for users of this header. */
struct subscription {
    struct identity id;
    struct topic *topic;
    /* the connection */
    void *owner;
    /* in the topic: a ring in subscription order, turned by topic_turn */
    struct subscription *next;
    struct subscription *previous;
    struct subscription *next_of_owner;
};

/* What one owner has; embedded in it, zero-initialised. */
struct subscription_set {
    /* newest first */
    struct subscription *first;
    uint32_t count;
};

/* `*ledger` goes up and down with the memory of topics and outlives the index. */
struct subscriptions *subscriptions_open(uint64_t *ledger);
/* All sets must be empty. */
void subscriptions_close(struct subscriptions *index);

/* Adds one; `name`, the topic's, is any UTF-8, also empty. */
struct subscription *subscriptions_add(
    struct subscriptions *index, struct subscription_set *set, void *owner, struct slice name);
/* Removes all of the set's for this topic; returns how many. */
unsigned subscriptions_remove(struct subscriptions *index, struct subscription_set *set, struct slice name);
void subscriptions_remove_all(struct subscriptions *index, struct subscription_set *set);

/* NULL without a subscription to it. Valid until the next removal. */
struct topic *subscriptions_find(const struct subscriptions *index, struct slice name);
/* The first subscription; walk with `next` until it comes round again. `*count` gets their number. */
struct subscription *topic_subscriptions(const struct topic *topic, uint32_t *count);
/* Lets the next event start with the second subscription, so that no client is always first or last. */
void topic_turn(struct topic *topic);
struct slice topic_name(const struct topic *topic);
/* The name as a JSON string with its quotes, as the notify envelope has it. */
struct slice topic_json(const struct topic *topic);

/* The owner's part of what the ledger counts, in bytes: a topic that several subscribed to is shared out. */
size_t subscription_set_held(const struct subscription_set *set);
size_t subscriptions_topic_count(const struct subscriptions *index);
size_t subscriptions_count(const struct subscriptions *index);

#endif
