#include "worker/topics/subscriptions.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "shm/common/memory.h"
#include "worker/net/pool.h"

#define SUBSCRIPTIONS_BUCKETS_MIN 64

struct topic {
    /* in its bucket */
    struct topic *next;
    struct subscription *first;
    uint64_t hash;
    uint32_t count;
    uint32_t name_length;
    uint32_t json_length;
    /* name, then its JSON form */
    char bytes[];
};

struct subscriptions {
    struct topic **buckets;
    /* a power of two */
    size_t bucket_count;
    size_t topics;
    size_t subscriptions;
    uint64_t key[2];
    uint64_t *ledger;
    /* of struct subscription */
    struct pool *pool;
};

struct subscriptions *subscriptions_open(uint64_t *ledger)
{
    struct subscriptions *index = memory_allocate(sizeof *index);
    index->ledger = ledger;
    index->bucket_count = SUBSCRIPTIONS_BUCKETS_MIN;
    index->buckets = memory_allocate(index->bucket_count * sizeof(struct topic *));
    index->pool = pool_open(sizeof(struct subscription), sizeof(void *));
    /* at most 256 bytes never come short (getrandom(2)) */
    if (getrandom(index->key, sizeof index->key, 0) != (ssize_t)sizeof index->key)
        abort();
    return index;
}

void subscriptions_close(struct subscriptions *index)
{
    pool_close(index->pool);
    free(index->buckets);
    free(index);
}

/* SipHash-1-3 (Aumasson, Bernstein): a keyed hash that is made for tables with names from outside. */
#define ROTATE(word, bits) ((word) << (bits) | (word) >> (64 - (bits)))

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = ROTATE(v[1], 13) ^ v[0];
    v[0] = ROTATE(v[0], 32);
    v[2] += v[3];
    v[3] = ROTATE(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = ROTATE(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = ROTATE(v[1], 17) ^ v[2];
    v[2] = ROTATE(v[2], 32);
}

static uint64_t topic_hash(const uint64_t key[2], struct slice topic)
{
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    size_t whole = topic.length & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word;
        memcpy(&word, topic.data + i, sizeof word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)topic.length << 56;
    if (topic.length > whole)
        memcpy(&last, topic.data + whole, topic.length - whole);
    last |= (uint64_t)topic.length << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct topic **bucket_of(const struct subscriptions *index, uint64_t hash)
{
    return &index->buckets[hash & (index->bucket_count - 1)];
}

static struct topic *topic_lookup(const struct subscriptions *index, struct slice name, uint64_t hash)
{
    for (struct topic *topic = *bucket_of(index, hash); topic; topic = topic->next)
        if (topic->hash == hash && slice_equals(topic_name(topic), name))
            return topic;
    return NULL;
}

static void index_resize(struct subscriptions *index, size_t bucket_count)
{
    struct topic **old = index->buckets;
    size_t old_count = index->bucket_count;
    index->buckets = memory_allocate(bucket_count * sizeof(struct topic *));
    index->bucket_count = bucket_count;
    for (size_t i = 0; i < old_count; i++) {
        for (struct topic *topic = old[i]; topic;) {
            struct topic *next = topic->next;
            struct topic **bucket = bucket_of(index, topic->hash);
            topic->next = *bucket;
            *bucket = topic;
            topic = next;
        }
    }
    free(old);
}

static size_t topic_memory(const struct topic *topic)
{
    return sizeof *topic + topic->name_length + topic->json_length;
}

static struct topic *topic_make(struct subscriptions *index, struct slice name, uint64_t hash)
{
    struct text json = {0};
    text_append_json_ascii(&json, name);
    struct topic *topic = memory_allocate(sizeof *topic + name.length + json.length);
    topic->hash = hash;
    topic->name_length = (uint32_t)name.length;
    topic->json_length = (uint32_t)json.length;
    memcpy(topic->bytes, name.data, name.length);
    memcpy(topic->bytes + name.length, json.data, json.length);
    text_free(&json);
    if (index->topics >= index->bucket_count)
        index_resize(index, index->bucket_count * 2);
    struct topic **bucket = bucket_of(index, hash);
    topic->next = *bucket;
    *bucket = topic;
    index->topics++;
    *index->ledger += topic_memory(topic);
    return topic;
}

static void topic_free(struct subscriptions *index, struct topic *topic)
{
    struct topic **link = bucket_of(index, topic->hash);
    while (*link != topic)
        link = &(*link)->next;
    *link = topic->next;
    index->topics--;
    *index->ledger -= topic_memory(topic);
    free(topic);
    if (index->bucket_count > SUBSCRIPTIONS_BUCKETS_MIN && index->topics < index->bucket_count / 8)
        index_resize(index, index->bucket_count / 2);
}

struct subscription *subscriptions_add(
    struct subscriptions *index, struct subscription_set *set, void *owner, struct slice name)
{
    uint64_t hash = topic_hash(index->key, name);
    struct topic *topic = topic_lookup(index, name, hash);
    if (!topic)
        topic = topic_make(index, name, hash);
    struct subscription *subscription = pool_allocate(index->pool);
    subscription->id = identity_make();
    subscription->topic = topic;
    subscription->owner = owner;
    if (!topic->first) {
        subscription->next = subscription->previous = subscription;
        topic->first = subscription;
    } else {
        struct subscription *last = topic->first->previous;
        subscription->next = topic->first;
        subscription->previous = last;
        last->next = subscription;
        topic->first->previous = subscription;
    }
    topic->count++;
    subscription->next_of_owner = set->first;
    set->first = subscription;
    set->count++;
    index->subscriptions++;
    return subscription;
}

/* Takes it out of its topic and frees it; the owner's list is the caller's business. */
static void subscription_free(struct subscriptions *index, struct subscription *subscription)
{
    struct topic *topic = subscription->topic;
    index->subscriptions--;
    if (--topic->count == 0) {
        topic_free(index, topic);
    } else {
        subscription->previous->next = subscription->next;
        subscription->next->previous = subscription->previous;
        if (topic->first == subscription)
            topic->first = subscription->next;
    }
    pool_free(index->pool, subscription);
}

unsigned subscriptions_remove(struct subscriptions *index, struct subscription_set *set, struct slice name)
{
    unsigned removed = 0;
    const struct topic *topic = subscriptions_find(index, name);
    if (!topic)
        return 0;
    for (struct subscription **link = &set->first; *link;) {
        struct subscription *subscription = *link;
        if (subscription->topic != topic) {
            link = &subscription->next_of_owner;
            continue;
        }
        *link = subscription->next_of_owner;
        set->count--;
        removed++;
        bool last = topic->count == 1; /* the topic goes with it */
        subscription_free(index, subscription);
        if (last)
            break;
    }
    return removed;
}

void subscriptions_remove_all(struct subscriptions *index, struct subscription_set *set)
{
    while (set->first) {
        struct subscription *subscription = set->first;
        set->first = subscription->next_of_owner;
        subscription_free(index, subscription);
    }
    set->count = 0;
}

struct topic *subscriptions_find(const struct subscriptions *index, struct slice name)
{
    return topic_lookup(index, name, topic_hash(index->key, name));
}

struct subscription *topic_subscriptions(const struct topic *topic, uint32_t *count)
{
    *count = topic->count;
    return topic->first;
}

void topic_turn(struct topic *topic)
{
    topic->first = topic->first->next;
}

struct slice topic_name(const struct topic *topic)
{
    return (struct slice){topic->bytes, topic->name_length};
}

struct slice topic_json(const struct topic *topic)
{
    return (struct slice){topic->bytes + topic->name_length, topic->json_length};
}

size_t subscription_set_held(const struct subscription_set *set)
{
    size_t held = 0;
    for (const struct subscription *at = set->first; at; at = at->next_of_owner)
        held += topic_memory(at->topic) / at->topic->count;
    return held;
}

size_t subscriptions_topic_count(const struct subscriptions *index)
{
    return index->topics;
}

size_t subscriptions_count(const struct subscriptions *index)
{
    return index->subscriptions;
}
