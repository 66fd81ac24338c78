/*
 * JSON Web Tokens (RFC 7519, compact form) as the reference's library judges them: the same tokens are good,
 * and the others fail for the same reason, because the reason is what clients are told. The algorithm is the
 * one of the configuration; a token's own header can only disagree with it. Pure: no I/O, the time is given.
 */
#ifndef OPALD_WORKER_JOSE_TOKEN_H
#define OPALD_WORKER_JOSE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/json.h"
#include "shm/common/object.h"
#include "worker/jose/algorithm.h"

enum token_verdict {
    TOKEN_GOOD,
    /* no JWT, or its signature is bad */
    TOKEN_UNDECODABLE,
    TOKEN_EXPIRED,
    TOKEN_AUDIENCE,
    TOKEN_ISSUER,
    /* another algorithm, a claim missing or of the wrong kind */
    TOKEN_UNKNOWN,
    /* of the future: the one verdict besides TOKEN_GOOD that time changes for the better */
    TOKEN_EARLY,
    /* sub is no UUID */
    TOKEN_SUBJECT,
};

struct token_rules {
    const struct jose_algorithm *algorithm;
    /* public */
    EVP_PKEY *key;
    const char *audience;
    const char *issuer;
};

#define TOKEN_NEVER INT64_MAX

/* What a good token says. Immutable, counted; freed with the last reference. One thread. */
struct token_claims {
    unsigned references;
    /* Unix seconds, TOKEN_NEVER without exp */
    int64_t expires;
    struct text payload;
    /* of the payload; token 0 is an object */
    struct json_document document;
};

/* TOKEN_GOOD sets `*claims`, with one reference that is the caller's. `now`: Unix time in seconds. */
MUST_CHECK enum token_verdict token_verify(
    const struct token_rules *rules, struct slice token, double now, struct token_claims **claims);
/* One more reference; NULL stays NULL. */
struct token_claims *token_claims_keep(struct token_claims *claims);
/* NULL is fine. */
void token_claims_drop(struct token_claims *claims);
/* The value of a claim, JSON_ABSENT when there is none. */
uint32_t token_claim(const struct token_claims *claims, const char *name);
/*
 * True without a claim permitted_topics; else only for a topic in its list (a claim that is no list permits
 * nothing). An item that ends in an asterisk permits every topic that begins with what is before it.
 */
MUST_CHECK bool token_permits_topic(const struct token_claims *claims, struct slice topic);

/* Appends the token for a payload (JSON text). -1 when the key can't sign. */
MUST_CHECK int token_sign(const struct jose_algorithm *algorithm, EVP_PKEY *private_key, struct slice payload,
    struct text *out, struct error *err);

#endif
