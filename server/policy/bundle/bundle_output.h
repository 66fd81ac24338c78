/*
 * Where a bundle is written: a memfd that holds the JSON body and behind it the same gzipped, with a hash of
 * the body for its ETag. It is written once, front to back, and then sealed: a process that gets the
 * descriptor may map it, and it never shrinks or changes.
 *
 *   | JSON body (json_bytes) | gzip of it (gzip_bytes; 0 when it would not be smaller) |
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_OUTPUT_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* Hexadecimal digits. */
#define BUNDLE_TAG_LENGTH 32

struct bundle_output;

struct bundle_body {
    /* Of the sealed memfd; close-on-exec; the receiver's. */
    int descriptor;
    uint64_t json_bytes;
    uint64_t gzip_bytes;
    /* Of the JSON body: equal bodies have equal tags, on any server. */
    char tag[BUNDLE_TAG_LENGTH + 1];
};

/* `bytes_max`: of the whole JSON body. NULL with `err` when there is no memory for it. */
MUST_CHECK struct bundle_output *bundle_output_open(size_t bytes_max, struct error *err);
/* Takes what the caller has in `text` and empties it. Errors stick and come out of bundle_output_finish; the
 * return is -1 from then on. */
int bundle_output_take(struct bundle_output *output, struct text *text);
/* Seals and gives the body. -1 with `err`: nothing to give (E2BIG: above bytes_max). Frees the output in any
 * case. */
MUST_CHECK int bundle_output_finish(
    struct bundle_output *output, struct bundle_body *body, struct error *err);
/* Throws it away. */
void bundle_output_abandon(struct bundle_output *output);

#endif
