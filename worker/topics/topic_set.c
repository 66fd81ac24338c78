#include "worker/topics/topic_set.h"

#include <stdlib.h>

#include "shm/common/memory.h"

void topic_set_free(struct topic_set *set)
{
    text_free(&set->bytes);
    free(set->extents);
    free(set->buckets);
    *set = (struct topic_set){0};
}

struct slice topic_set_item(const struct topic_set *set, uint32_t index)
{
    const char *bytes = set->bytes.data ? set->bytes.data : "";
    return (struct slice){bytes + set->extents[index].start, set->extents[index].length};
}

/* FNV-1a with a last mix: the set is bounded by an option, so that chosen collisions cost little. */
static uint32_t hash(struct slice topic)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < topic.length; i++)
        value = (value ^ (uint8_t)topic.data[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(value ^ (value >> 32));
}

/* The bucket that holds `topic`, or the empty one where it belongs. */
static uint32_t find_bucket(const struct topic_set *set, struct slice topic)
{
    uint32_t mask = set->bucket_count - 1;
    uint32_t bucket = hash(topic) & mask;
    while (set->buckets[bucket] && !slice_equals(topic_set_item(set, set->buckets[bucket] - 1), topic))
        bucket = (bucket + 1) & mask;
    return bucket;
}

static void grow(struct topic_set *set)
{
    uint32_t bucket_count = set->bucket_count ? 2 * set->bucket_count : 16;
    free(set->buckets);
    set->buckets = memory_allocate(bucket_count * sizeof *set->buckets);
    set->bucket_count = bucket_count;
    set->extents = memory_resize(set->extents, bucket_count / 2 * sizeof *set->extents);
    for (uint32_t i = 0; i < set->count; i++)
        set->buckets[find_bucket(set, topic_set_item(set, i))] = i + 1;
}

void topic_set_add(struct topic_set *set, struct slice topic)
{
    if (2 * set->count >= set->bucket_count)
        grow(set);
    uint32_t bucket = find_bucket(set, topic);
    if (set->buckets[bucket])
        return;
    set->extents[set->count] = (struct topic_extent){set->bytes.length, topic.length};
    text_append_slice(&set->bytes, topic);
    set->buckets[bucket] = ++set->count;
}
