/*
 * Bundles of the policy process: each (commit, paths, base) is built once by the builder (bundle_child.h), whoever asks and however
 * many ask at the same time, and is kept in memory while there is room. What is handed out is a descriptor of sealed memory.
 *
 *   asked --known: answered at once
 *         '-new--> WAITING (a queue, bounded in number and time) --> BUILDING (one at a time) --> KEPT --> dropped: least recently used
 *                                                                          '--> an error: its askers get it, nothing is kept
 *
 * A new head drops what was built for the old one; who waits for that still gets the bundle of the head he asked at. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_STORE_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_STORE_H

#include <event2/event.h>
#include "server/policy/bundle/bundle_wire.h"

struct bundle_store;

enum bundle_count {
    BUNDLE_COUNT_BUILT,
    BUNDLE_COUNT_SHARED,         /* answers with what is kept or with a build that was under way */
    BUNDLE_COUNT_DROPPED,        /* kept ones that gave way to others */
    BUNDLE_COUNT_REFUSED,        /* no room in the queue, or too late: 503 */
    BUNDLE_COUNT_FAILED,         /* too large, a damaged repository: 500 */
    BUNDLE_COUNT_REPAIRED_FILES, /* not UTF-8 */
    BUNDLE_COUNT_BUILDERS_DIED,
};

/* Who asks: handed back with the answer, means nothing here. */
struct bundle_asker {
    uint64_t peer;
    uint64_t id;
};

struct bundle_answer {
    unsigned status;     /* 200: the rest is there; else 404, 500, 503 with the detail */
    struct slice detail; /* for the client */
    int descriptor;      /* the store's: duplicate it (SCM_RIGHTS does) before returning */
    uint64_t json_bytes;
    uint64_t gzip_bytes; /* behind the JSON */
    const char *tag;     /* for an ETag: BUNDLE_TAG_LENGTH hexadecimal digits */
    const char *head;    /* the commit that is in it */
};

struct bundle_store_settings {
    struct event_base *base;
    uint64_t cache_bytes;
    size_t waiting_max;
    double build_seconds;
    /* Starts a builder on its end of a socket pair, which stays the store's; returns a pid or -1: bundle_child_start. */
    int (*start)(int socket, struct error *err);
    /* Once for each question, perhaps before bundle_store_ask returns. Must not call the store. */
    void (*answered)(void *context, struct bundle_asker asker, const struct bundle_answer *answer);
    void (*count)(void *context, enum bundle_count what, uint64_t amount); /* may be NULL */
    void *context;
};

struct bundle_store *bundle_store_open(const struct bundle_store_settings *settings);
/* Without answering who waits. Ends the builder. */
void bundle_store_close(struct bundle_store *store);

/* The repository's folder and the commit that is served from now on; both NULL: there is none (503). Copied. */
void bundle_store_set_head(struct bundle_store *store, const char *repository, const char *commit);

/* Asks for a bundle: paths and base as they came in the query. */
void bundle_store_ask(struct bundle_store *store, const struct slice *paths, size_t path_count,
    struct slice base, struct bundle_asker asker);

#endif
