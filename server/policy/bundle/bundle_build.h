/*
 * Makes the body of GET /policy from a local repository: all modules at a commit, or what changed since
 * another commit. The text is the reference's to the byte. It reads, and never writes; it may take seconds
 * and may wait for the git program. Bundle builder's process.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILD_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILD_H

#include <stdbool.h>
#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_output.h"
#include "server/policy/bundle/bundle_rules.h"

struct bundle_request {
    /* Folder: a clone, or a bare repository. */
    const char *repository;
    /* The commit that is served, 40 digits. */
    const char *head;
    /* As they came in the query; none: everything. */
    const struct slice *paths;
    size_t path_count;
    /* base_hash as it came; empty: a full bundle. */
    struct slice base;
};

/* A status of bundle_result: nothing was made, since `base` of the request is not the commit's own hash.
 * result->base is what to ask with: the full hash of the commit that was named, or nothing when there is
 * none. So one bundle is made however its base is spelled. */
#define BUNDLE_OTHER_BASE 300u

struct bundle_result {
    /* 200: `body` is there; else 404, 500 or BUNDLE_OTHER_BASE. */
    unsigned status;
    /* Of an error, for the client. */
    struct text detail;
    struct bundle_body body;
    /* The modules in it. */
    uint64_t files;
    /* Those of them that are not UTF-8: ill-formed bytes became U+FFFD. */
    uint64_t repaired;
    /* It is the difference from another commit. */
    bool diff;
    char base[BUNDLE_HASH_LENGTH + 1];
};

/* Keeps a repository open, and the tree of the last commit. */
struct bundle_builder;

/* What `rules` points to must outlive the builder. Never NULL. */
struct bundle_builder *bundle_builder_open(
    const struct bundle_rules *rules, const struct bundle_limits *limits);
void bundle_builder_close(struct bundle_builder *builder);
/* The caller zeroes `result` and frees its detail; the descriptor in a result of 200 is the caller's too. */
void bundle_builder_make(
    struct bundle_builder *builder, const struct bundle_request *request, struct bundle_result *result);

#endif
