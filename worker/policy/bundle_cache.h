/*
 * A worker's side of GET /policy: what it has asked the policy process for and what it got, so that a bundle
 * that many clients ask for crosses the link once and is sent from one mapping of shared memory.
 *
 *   asked --held, of the commit that is served: answered at once
 *         '-else--> PENDING (the same question joins) --answer--> HELD --> dropped: new commit, no room
 *                      '--> time is over: 503
 *
 * A question whose base is no commit is answered with the bundle without a base, and only that one is held.
 * The bundle of everything is never dropped for others. When too many questions are pending, a client that
 * has the most of them makes room for one that has fewer.
 *
 * The policy process may be replaced: until the next one has its clone, what is held is served, and what is
 * pending waits to be asked again. Worker's loop only.
 */
#ifndef OPALD_WORKER_POLICY_BUNDLE_CACHE_H
#define OPALD_WORKER_POLICY_BUNDLE_CACHE_H

#include <stdint.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

struct bundle_cache;
struct bundle_copy;
struct policy_client;

struct bundle_outcome {
    /* 200, or 404, 500, 503 with the detail */
    unsigned status;
    /* of 200; the cache's: use bundle_copy_block while the call lasts */
    struct bundle_copy *copy;
    struct slice detail;
};
typedef void bundle_arrived(void *context, const struct bundle_outcome *outcome);

/*
 * Uses, and sets the hooks of, the worker's one policy_client, which it opens (`address` as in
 * worker_descriptors).
 */
struct bundle_cache *bundle_cache_open(
    struct event_base *base, const struct config *config, const char *policy_address);
void bundle_cache_close(struct bundle_cache *cache);
struct policy_client *bundle_cache_client(const struct bundle_cache *cache);

/*
 * `question` is the body of a BUNDLE_REQUEST without the peer; `peer` is the address of the client that asks,
 * without NUL. 0: `arrived` was called. Else a ticket: it will be called from the loop, unless cancelled.
 */
MUST_CHECK uint64_t bundle_cache_ask(struct bundle_cache *cache, struct slice peer, struct slice question,
    bundle_arrived *arrived, void *context);
void bundle_cache_cancel(struct bundle_cache *cache, uint64_t ticket);

#endif
