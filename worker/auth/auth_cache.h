/*
 * Verdicts on tokens that were seen before, by the token's SHA-256: a signature costs a hundred times what
 * the hash costs, and clients send the same token with every request. Fixed size; a newcomer takes the place
 * of whoever sits in its slot. Good tokens and refused ones have slots of their own, so that a flood of bad
 * tokens can't push the good ones out. Worker's loop only.
 */
#ifndef OPALD_WORKER_AUTH_AUTH_CACHE_H
#define OPALD_WORKER_AUTH_AUTH_CACHE_H

#include "shm/common/object.h"
#include "worker/jose/token.h"

struct auth_cache;

struct auth_cache *auth_cache_open(void);
void auth_cache_close(struct auth_cache *cache);
/* token_verify with a memory. `now`: Unix time in seconds. */
MUST_CHECK enum token_verdict auth_cache_verify(struct auth_cache *cache, const struct token_rules *rules,
    struct slice token, double now, struct token_claims **claims);

#endif
