/* Topics, each once, in the order in which they were first added. Owns copies of them. One thread. */
#ifndef OPALD_WORKER_TOPICS_TOPIC_SET_H
#define OPALD_WORKER_TOPICS_TOPIC_SET_H

#include <stdint.h>
#include "shm/common/text.h"

struct topic_extent {
    size_t start;
    size_t length;
};

/* Zero-initialise; topic_set_free when done. */
struct topic_set {
    struct text bytes;
    struct topic_extent *extents;
    /* index + 1; 0: empty; power of two, at most half full */
    uint32_t *buckets;
    uint32_t count;
    uint32_t bucket_count;
};

void topic_set_free(struct topic_set *set);
void topic_set_add(struct topic_set *set, struct slice topic);
/* Valid until the next topic_set_add. */
struct slice topic_set_item(const struct topic_set *set, uint32_t index);

#endif
