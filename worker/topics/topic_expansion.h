/*
 * A topic stands for its ancestors too: "a/b/c" is published as a, a/b and a/b/c. With a colon only what
 * follows the last one is split: "data:p/u" gives data:p and data:p/u. Every result is a piece of the topic
 * itself, nothing is copied. (An empty prefix is lost, as in the reference: ":x/y" gives x and x/y.)
 */
#ifndef OPALD_WORKER_TOPICS_TOPIC_EXPANSION_H
#define OPALD_WORKER_TOPICS_TOPIC_EXPANSION_H

#include <stdbool.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct topic_expansion {
    /* from where the results begin */
    struct slice topic;
    /* where the search for the next slash goes on */
    size_t next;
    bool finished;
};

struct topic_expansion topic_expansion_start(struct slice topic);
/* The next result, shortest first; false at the end. There is at least one, also for an empty topic. */
MUST_CHECK bool topic_expansion_next(struct topic_expansion *expansion, struct slice *expanded);

#endif
