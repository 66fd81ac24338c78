/*
 * The bundles of the policy process. The builder (bundle_child.h) builds each (commit, paths, base) once,
 * however many clients ask for it at the same time. Built bundles are kept in memory while there is room.
 * Clients get a descriptor of sealed memory.
 *
 *   asked --known: answered at once
 *         '-new--> WAITING (a queue, bounded in number and time) --> BUILDING (one at a time)
 *                    BUILDING --> KEPT --> dropped, least recently used first
 *                    BUILDING --> an error: its askers get it, nothing is kept
 *
 * The queue is fair: the bundle of everything comes first, then one of each client, then the second ones.
 * When it is full, the client that waits for most makes room. Requests with a base that is no commit share
 * the bundle without a base.
 *
 * A new head drops what was built for the old one. A client that waits for a bundle of the old head still
 * gets it. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_STORE_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_STORE_H

#include <event2/event.h>
#include "shm/common/error.h"
#include "shm/common/text.h"
#include "server/policy/bundle/bundle_entry.h"

struct bundle_store;

enum bundle_count {
    BUNDLE_COUNT_BUILT,
    /* Answers with what is kept, or with a build that was under way. */
    BUNDLE_COUNT_SHARED,
    /* Kept ones that gave way to others. */
    BUNDLE_COUNT_DROPPED,
    /* No room in the queue, or too late: 503. */
    BUNDLE_COUNT_REFUSED,
    /* Too large, or a damaged repository: 500. */
    BUNDLE_COUNT_FAILED,
    /* Not UTF-8. */
    BUNDLE_COUNT_REPAIRED_FILES,
    BUNDLE_COUNT_BUILDERS_DIED,
};

struct bundle_answer {
    /* 200: the rest is there; else 404, 500 or 503 with the detail. */
    unsigned status;
    /* For the client. */
    struct slice detail;
    /* The store's: duplicate it (SCM_RIGHTS does) before returning. */
    int descriptor;
    uint64_t json_bytes;
    /* Behind the JSON. */
    uint64_t gzip_bytes;
    /* For an ETag: BUNDLE_TAG_LENGTH hexadecimal digits. */
    const char *tag;
    /* The commit that is in it. */
    const char *head;
    /* The base that was asked for is no commit of the repository: this is the bundle without one. */
    bool no_base;
};

struct bundle_store_settings {
    struct event_base *base;
    /* Of the bundles that are kept. */
    uint64_t cache_bytes;
    size_t waiting_max;
    /* From the question to the answer. */
    double build_seconds;
    /* Starts a builder on its end of a socket pair, which stays the store's. Returns a pid, or -1 with `err`:
     * bundle_child_start. */
    int (*start)(int socket, struct error *err);
    /* Once for each question, perhaps before bundle_store_ask returns. Must not call the store. */
    void (*answered)(void *context, struct bundle_asker asker, const struct bundle_answer *answer);
    /* May be NULL. */
    void (*count)(void *context, enum bundle_count what, uint64_t amount);
    void *context;
};

/* Never NULL. */
struct bundle_store *bundle_store_open(const struct bundle_store_settings *settings);
/* Does not answer the clients that wait. Ends the builder. */
void bundle_store_close(struct bundle_store *store);

/* The repository's folder and the commit that is served from now on, both copied; both NULL: there is none
 * (503). */
void bundle_store_set_head(struct bundle_store *store, const char *repository, const char *commit);

/* Asks for a bundle; paths and base as they came in the query. */
void bundle_store_ask(struct bundle_store *store, const struct slice *paths, size_t path_count,
    struct slice base, struct bundle_asker asker);

#endif
