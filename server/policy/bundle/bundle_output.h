/*
 * Where a bundle is written: a memfd that holds the JSON body and behind it the same gzipped, with a hash of the body for its ETag.
 * Written once, front to back, then sealed: whoever gets the descriptor may map it and need not fear that it shrinks or changes.
 *
 *   | JSON body (json_bytes) | gzip of it (gzip_bytes; 0 when it would not be smaller) |
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_OUTPUT_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/text.h"

#define BUNDLE_TAG_LENGTH 32 /* hexadecimal digits */

struct bundle_output;

struct bundle_body {
    int descriptor; /* of the sealed memfd; close-on-exec; the receiver's */
    uint64_t json_bytes;
    uint64_t gzip_bytes;
    char tag[BUNDLE_TAG_LENGTH + 1]; /* of the JSON body: equal bodies have equal tags, on any server */
};

/* NULL with `err` when there is no memory for it. */
struct bundle_output *bundle_output_open(size_t bytes_max, struct error *err);
/* Takes what the caller has in `text` and empties it. Errors stick and come out of bundle_output_finish; the return is -1 from then on. */
int bundle_output_take(struct bundle_output *output, struct text *text);
/* Seals and gives the body. -1: nothing to give (E2BIG: above bytes_max). Frees the output in any case. */
int bundle_output_finish(struct bundle_output *output, struct bundle_body *body, struct error *err);
/* Throws it away. */
void bundle_output_abandon(struct bundle_output *output);

#endif
