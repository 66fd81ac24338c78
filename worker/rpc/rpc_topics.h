/* The `topics` argument of subscribe, unsubscribe and publish, with the reference's differences between the
 * three. Pure. */
#ifndef OPALD_WORKER_RPC_RPC_TOPICS_H
#define OPALD_WORKER_RPC_RPC_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/config.h"
#include "shm/common/json.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

#define RPC_ALL_TOPICS "__EventNotifier_ALL_TOPICS__"

enum rpc_topics_use { RPC_TOPICS_SUBSCRIBE, RPC_TOPICS_UNSUBSCRIBE, RPC_TOPICS_PUBLISH };

enum rpc_topics_verdict {
    RPC_TOPICS_GOOD,
    /* the reference raises: the connection is closed */
    RPC_TOPICS_VIOLATION,
    /* the call answers false; `reason` says why */
    RPC_TOPICS_REFUSED,
};

/* The topics read. Memory is reused; zero-initialise, rpc_topics_free at the end. */
struct rpc_topics {
    /* views into `text`: valid until the next read */
    struct slice *items;
    size_t count;
    /* static text */
    const char *reason;
    struct text text;
    size_t *offsets;
    size_t capacity;
};

void rpc_topics_free(struct rpc_topics *topics);
/* `token` is JSON_ABSENT when the argument is missing. */
MUST_CHECK enum rpc_topics_verdict rpc_topics_read(struct rpc_topics *topics,
    const struct json_document *document, uint32_t token, enum rpc_topics_use use,
    const struct event_limits *limits);

#endif
