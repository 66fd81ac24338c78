/*
 * A bundle in memory that all processes of the host share: this worker's mapping of it. Counted: the cache
 * holds it, and so does each reply that is still being sent. Worker's loop only.
 */
#ifndef OPALD_WORKER_POLICY_BUNDLE_COPY_H
#define OPALD_WORKER_POLICY_BUNDLE_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/link/bundle_link.h"
#include "worker/net/output_queue.h"

/* Read-only for users of this header. */
struct bundle_copy {
    uint32_t magic;
    uint32_t references;
    /* mapped: the JSON, then the gzip */
    char *bytes;
    size_t mapped_bytes;
    size_t json_bytes;
    /* 0: none */
    size_t gzip_bytes;
    char tag[BUNDLE_LINK_TAG_BYTES];
    char head[POLICY_HASH_LENGTH + 1];
};

/* Takes the descriptor over (-1: none came). NULL: it does not hold what the answer says. One reference. */
MUST_CHECK struct bundle_copy *bundle_copy_map(const struct bundle_link_answer *answer, int descriptor);
struct bundle_copy *bundle_copy_keep(struct bundle_copy *copy);
/* NULL is fine. */
void bundle_copy_drop(struct bundle_copy *copy);
/* The JSON or (if there is one) the gzip, to be sent; holds the copy until it is dropped. */
MUST_CHECK struct output_block *bundle_copy_block(struct bundle_copy *copy, bool gzip);

#endif
