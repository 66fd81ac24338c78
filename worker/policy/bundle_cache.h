/*
 * A worker's side of GET /policy: what it has asked the policy process for and what it got, so that a bundle that many clients
 * ask for crosses the link once and is sent from one mapping of shared memory.
 *
 *   asked --held, of the commit that is served: answered at once
 *         '-else--> PENDING (everybody who asks for the same joins) --answer--> HELD --> given up: new commit, no room
 *                                      '--> time is over: 503
 *
 * The policy process may be replaced: until the next one has its clone, what is held is served, and what is pending waits to be asked
 * again. Worker's loop only.
 */
#ifndef OPALD_WORKER_POLICY_BUNDLE_CACHE_H
#define OPALD_WORKER_POLICY_BUNDLE_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/bundle_link.h"
#include "worker/net/output_queue.h"

struct bundle_cache;
struct policy_client;

/* A bundle in memory that is shared by all processes of the host. Counted. */
struct bundle_copy {
    uint32_t references;
    char *bytes; /* mapped: the JSON, then the gzip */
    size_t mapped_bytes;
    size_t json_bytes;
    size_t gzip_bytes; /* 0: none */
    char tag[BUNDLE_LINK_TAG_BYTES];
    char head[POLICY_HASH_LENGTH + 1];
};
/* The JSON or (when there is one) the gzip, to be sent; holds the copy until it is dropped. */
struct output_block *bundle_copy_block(struct bundle_copy *copy, bool gzip);

struct bundle_outcome {
    unsigned status;          /* 200, or 404, 500, 503 with the detail */
    struct bundle_copy *copy; /* of 200; the cache's: bundle_copy_block while the call lasts */
    struct slice detail;
};
typedef void bundle_arrived(void *context, const struct bundle_outcome *outcome);

/* Uses, and sets the hooks of, the worker's one policy_client, which it opens (`address` as in worker_descriptors). */
struct bundle_cache *bundle_cache_open(
    struct event_base *base, const struct config *config, const char *policy_address);
void bundle_cache_close(struct bundle_cache *cache);
struct policy_client *bundle_cache_client(const struct bundle_cache *cache);

/* `question` is the body of a BUNDLE_REQUEST. 0: `arrived` was called. Else a ticket: it will be called from the loop, unless cancelled. */
uint64_t bundle_cache_ask(
    struct bundle_cache *cache, struct slice question, bundle_arrived *arrived, void *context);
void bundle_cache_cancel(struct bundle_cache *cache, uint64_t ticket);

#endif
