/*
 * Makes the body of GET /policy from a local repository: all modules at a commit, or what changed since another one. The text is
 * the reference's to the byte. Reads, never writes; may take seconds and may wait for the git program: bundle builder's process.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILD_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILD_H

#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_output.h"
#include "server/policy/bundle/bundle_rules.h"

struct bundle_request {
    const char *repository;    /* folder: a clone, or a bare repository */
    const char *head;          /* the commit served, 40 hexadecimal digits */
    const struct slice *paths; /* as they came in the query; none: everything */
    size_t path_count;
    struct slice base; /* base_hash as it came; empty: a full bundle */
};

/* A status of bundle_result: nothing was made, since `base` of the request is not the hash itself. result->base is what to ask with: the full
 * hash of the commit that was named, or nothing when there is none. So one bundle is made however its base is spelled. */
#define BUNDLE_OTHER_BASE 300u

struct bundle_result {
    unsigned status;    /* 200: `body` is there; else 404, 500 or BUNDLE_OTHER_BASE */
    struct text detail; /* of an error, for the client */
    struct bundle_body body;
    uint64_t files;    /* modules in it */
    uint64_t repaired; /* of them, not UTF-8: ill-formed bytes stand as U+FFFD */
    bool diff;
    char base[BUNDLE_HASH_LENGTH + 1];
};

struct bundle_builder; /* keeps a repository open, and the tree of the last commit */

struct bundle_builder *bundle_builder_open(
    const struct bundle_rules *rules, const struct bundle_limits *limits);
void bundle_builder_close(struct bundle_builder *builder);
/* `result` is zeroed by the caller, who frees its detail; the descriptor in a result of 200 is the caller's too. */
void bundle_builder_make(
    struct bundle_builder *builder, const struct bundle_request *request, struct bundle_result *result);

#endif
