/*
 * Who may do what: the keys, the check of bearer tokens, the master token. One per worker; the master process opens one at the start too,
 * to say what is wrong with the configuration before any worker runs. Without keys everybody may do everything (open mode), as with
 * the reference.
 */
#ifndef OPALD_WORKER_AUTH_AUTH_H
#define OPALD_WORKER_AUTH_AUTH_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/config.h"
#include "worker/jose/token.h"
#include "worker/http/http_request.h"

struct auth;

/* `keys`: the descriptor of auth_keys_give, which stays open; 0: the keys are loaded from the configuration, and checked. 0, or -1 with one
 * line that names the option and what is wrong with it (never its value). `config` must outlive it. */
int auth_open(const struct config *config, int keys, struct auth **out, struct error *err);
void auth_close(struct auth *auth);

/* NULL is open mode in all of these. */
bool auth_is_on(const struct auth *auth);
/* The bearer token of a request. NULL: good, `*claims` has a reference for the caller (NULL in open mode). Otherwise the reason, in the
 * reference's words; static text. */
const char *auth_check_bearer(
    struct auth *auth, const struct http_request *request, struct token_claims **claims);
/* The master token, compared in constant time. NULL: good. Without one configured nobody passes, unless the options say otherwise. */
const char *auth_check_master(
    const struct auth *auth, const struct config *config, const struct http_request *request);
/* True when the claim peer_type is `type` ("datasource"); otherwise `reason` has the reference's words. Open mode: always. */
bool auth_check_peer_type(
    const struct auth *auth, const struct token_claims *claims, const char *type, struct text *reason);
/* The token of a header "bearer x", any case; absent when there is none. */
struct slice auth_bearer_token(const struct http_request *request);
/* What the JWKS route serves: {} in open mode. */
struct slice auth_jwks(const struct auth *auth);
/* Appends a signed token. Only when auth is on. */
int auth_sign(const struct auth *auth, struct slice payload, struct text *out, struct error *err);

#endif
