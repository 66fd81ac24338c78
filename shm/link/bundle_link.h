/*
 * What a worker and the policy process say about bundles: the bodies of BUNDLE_REQUEST and BUNDLE_ANSWER
 * (policy_link.h).
 *
 *   request: peer NUL base NUL path NUL path NUL ...
 *            peer: the address of the client that asks (builds are shared out by it); base and paths as they
 *            came in the query (the worker refuses a NUL in one of them)
 *   answer:  | struct bundle_link_answer | detail |, with the descriptor of a sealed memfd (bundle_output.h)
 *            when the status is 200
 */
#ifndef OPALD_SHM_LINK_BUNDLE_LINK_H
#define OPALD_SHM_LINK_BUNDLE_LINK_H

#include <stdint.h>
#include "shm/common/text.h"
#include "shm/link/policy_link.h"

#define BUNDLE_LINK_TAG_BYTES 33 /* 32 hexadecimal digits and a NUL */

/* The base is no commit of the repository: this is the bundle without a base. */
#define BUNDLE_LINK_NO_BASE (1u << 0)

struct bundle_link_answer {
    /* 200, 404, 500, 503 */
    uint32_t status;
    /* BUNDLE_LINK_... */
    uint32_t flags;
    uint64_t json_bytes;
    /* behind them; 0: there is no gzip */
    uint64_t gzip_bytes;
    /* of the JSON, for the ETag */
    char tag[BUNDLE_LINK_TAG_BYTES];
    /* the commit it was made of */
    char head[POLICY_HASH_LENGTH + 1];
};

#endif
