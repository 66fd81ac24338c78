/*
 * What a worker and the policy process say about bundles: the bodies of BUNDLE_REQUEST and BUNDLE_ANSWER (policy_link.h).
 *
 *   request: base NUL path NUL path NUL ... as they came in the query (a NUL in one of them is for the worker to refuse)
 *   answer:  | struct bundle_link_answer | detail |, with the descriptor of a sealed memfd (bundle_output.h) when the status is 200
 */
#ifndef OPALD_SHM_LINK_BUNDLE_LINK_H
#define OPALD_SHM_LINK_BUNDLE_LINK_H

#include <stdint.h>
#include "shm/common/text.h"
#include "shm/link/policy_link.h"

#define BUNDLE_LINK_TAG_BYTES 33 /* 32 hexadecimal digits and a NUL */

struct bundle_link_answer {
    uint32_t status; /* 200, 404, 500, 503 */
    uint32_t reserved;
    uint64_t json_bytes;
    uint64_t gzip_bytes;               /* behind them; 0: there is no gzip */
    char tag[BUNDLE_LINK_TAG_BYTES];   /* of the JSON, for the ETag */
    char head[POLICY_HASH_LENGTH + 1]; /* the commit it was made of */
};

#endif
