/*
 * Who may do what: the keys, the check of bearer tokens, the master token. One per worker; the master process
 * opens one at the start too, to say what is wrong with the configuration before any worker runs. Without
 * keys everybody may do everything (open mode), as with the reference.
 */
#ifndef OPALD_WORKER_AUTH_AUTH_H
#define OPALD_WORKER_AUTH_AUTH_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/jose/token.h"

struct auth;

/*
 * `keys`: the descriptor of auth_keys_give, which stays open; 0: the keys are loaded from the configuration,
 * and checked. 0, or -1 with one line that names the option and what is wrong with it (never its value).
 * `config` must outlive it.
 */
MUST_CHECK int auth_open(const struct config *config, int keys, struct auth **out, struct error *err);
void auth_close(struct auth *auth);

/*
 * In all of these, `auth` may be NULL: open mode. `authorization` is the value of the request's Authorization
 * header, an absent slice when it has none.
 */
bool auth_is_on(const struct auth *auth);
/*
 * Checks the bearer token. NULL: it is good, and `*claims` has a reference that is the caller's (NULL in open
 * mode). Otherwise the reason, in the reference's words; static text.
 */
MUST_CHECK const char *auth_check_bearer(
    struct auth *auth, struct slice authorization, struct token_claims **claims);
/*
 * Compares the master token in constant time. NULL: it is good. Without a configured master token no request
 * passes, unless the options say otherwise.
 */
MUST_CHECK const char *auth_check_master(
    const struct auth *auth, const struct config *config, struct slice authorization);
/*
 * True when the claim peer_type is `type` ("datasource"); otherwise `reason` has the reference's words. Open
 * mode: always.
 */
MUST_CHECK bool auth_check_peer_type(
    const struct auth *auth, const struct token_claims *claims, const char *type, struct text *reason);
/*
 * The token x of "bearer x" (the scheme in any case); absent when there is none. A view into `authorization`.
 */
struct slice auth_bearer_token(struct slice authorization);
/* What the JWKS route serves: {} in open mode. */
struct slice auth_jwks(const struct auth *auth);
/* Appends a signed token. Only when auth is on. */
MUST_CHECK int auth_sign(const struct auth *auth, struct slice payload, struct text *out, struct error *err);

#endif
