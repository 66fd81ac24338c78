#include "worker/auth/auth.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "worker/auth/auth_cache.h"
#include "worker/auth/auth_keys.h"
#include "worker/auth/secret.h"
#include "worker/jose/jwk.h"

#define PEER_TYPE_LOGGED 256

struct auth {
    const struct config *config;
    struct auth_keys keys;
    struct token_rules rules;
    struct auth_cache *cache;
    struct text jwks;
};

/* ---- opening ---- */

/* The key set that GET /.well-known/jwks.json serves. */
static int write_jwks(struct auth *auth, struct error *err)
{
    cJSON *jwk = jwk_make(auth->keys.public_key, err);
    if (!jwk)
        return error_prefix(err, "OPAL_AUTH_PUBLIC_KEY");
    cJSON *set = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(set, "keys"), jwk);
    document_write_python(set, &auth->jwks);
    cJSON_Delete(set);
    return 0;
}

static int set_up(struct auth *auth, struct error *err)
{
    const struct config *config = auth->config;
    auth->rules = (struct token_rules){.algorithm = auth->keys.algorithm,
        .key = auth->keys.public_key,
        .audience = config->auth_jwt_audience,
        .issuer = config->auth_jwt_issuer};
    auth->cache = auth_cache_open();
    return write_jwks(auth, err);
}

int auth_open(const struct config *config, int keys, struct auth **out, struct error *err)
{
    struct auth *auth = memory_allocate(sizeof *auth);
    auth->config = config;
    int result =
        keys > 0 ? auth_keys_take(&auth->keys, keys, config, err) : auth_keys_load(&auth->keys, config, err);
    if (result == 0 && auth->keys.public_key)
        result = set_up(auth, err);
    if (result < 0) {
        auth_close(auth);
        auth = NULL;
    }
    *out = auth;
    return result;
}

void auth_close(struct auth *auth)
{
    if (!auth)
        return;
    auth_cache_close(auth->cache);
    auth_keys_free(&auth->keys);
    text_free(&auth->jwks);
    free(auth);
}

bool auth_is_on(const struct auth *auth)
{
    return auth && auth->keys.public_key;
}

/* ---- bearer tokens ---- */

struct slice auth_bearer_token(struct slice authorization)
{
    const char *space = authorization.length ? memchr(authorization.data, ' ', authorization.length) : NULL;
    if (!space || space - authorization.data != 6 || strncasecmp(authorization.data, "bearer", 6) != 0)
        return (struct slice){0};
    space++;
    size_t length = (size_t)(authorization.data + authorization.length - space);
    return length ? (struct slice){space, length} : (struct slice){0};
}

static const char *verdict_reason(enum token_verdict verdict)
{
    switch (verdict) {
    case TOKEN_GOOD:
        return NULL;
    case TOKEN_UNDECODABLE:
        return "Could not decode access token";
    case TOKEN_EXPIRED:
        return "Access token is expired";
    case TOKEN_AUDIENCE:
        return "Invalid access token: invalid audience claim";
    case TOKEN_ISSUER:
        return "Invalid access token: invalid issuer claim";
    case TOKEN_SUBJECT:
        return "invalid sub claim";
    case TOKEN_UNKNOWN:
    case TOKEN_EARLY:
        break;
    }
    return "Unknown JWT error";
}

const char *auth_check_bearer(struct auth *auth, struct slice authorization, struct token_claims **claims)
{
    struct timespec now;
    *claims = NULL;
    if (!auth_is_on(auth))
        return NULL;
    struct slice token = auth_bearer_token(authorization);
    if (!token.data)
        return "access token was not provided";
    if (token.length > auth->config->auth_token_max_bytes)
        return verdict_reason(TOKEN_UNDECODABLE);
    clock_gettime(CLOCK_REALTIME, &now);
    return verdict_reason(auth_cache_verify(
        auth->cache, &auth->rules, token, (double)now.tv_sec + (double)now.tv_nsec / 1e9, claims));
}

const char *auth_check_master(
    const struct auth *auth, const struct config *config, struct slice authorization)
{
    if (!config->auth_master_token) {
        bool open = !auth_is_on(auth) || config->auth_token_without_master;
        return open ? NULL
                    : "no master token is configured (OPAL_AUTH_MASTER_TOKEN): no tokens are given out";
    }
    if (!authorization.data)
        return "Authorization header is required!";
    struct slice token = auth_bearer_token(authorization);
    bool good = token.data && secret_equals(token, slice_from_string(config->auth_master_token));
    return good ? NULL : "unauthorized to access this endpoint!";
}

bool auth_check_peer_type(
    const struct auth *auth, const struct token_claims *claims, const char *type, struct text *reason)
{
    static const char *const types[] = {"client", "datasource", "listener"};
    if (!auth_is_on(auth))
        return true;
    uint32_t token = claims ? token_claim(claims, "peer_type") : JSON_ABSENT;
    if (token == JSON_ABSENT || claims->document.tokens[token].type == JSON_NULL) {
        text_append_string(reason, "Missing 'peer_type' claim for OPAL jwt token");
        return false;
    }
    bool is_string = claims->document.tokens[token].type == JSON_STRING;
    for (size_t i = 0; is_string && i < sizeof types / sizeof *types; i++) {
        if (!json_string_equals(&claims->document, token, slice_from_string(types[i])))
            continue;
        if (strcmp(types[i], type) == 0)
            return true;
        text_append_format(reason,
            "Incorrect 'peer_type' claim for OPAL jwt token: PeerType.%s, expected: PeerType.%s", types[i],
            type);
        return false;
    }
    text_append_string(reason, "Invalid 'peer_type' claim for OPAL jwt token: ");
    if (is_string)
        json_string_decode(&claims->document, token, reason);
    else
        python_append_value(reason, &claims->document, token, PEER_TYPE_LOGGED);
    return false;
}

struct slice auth_jwks(const struct auth *auth)
{
    return auth_is_on(auth) ? text_slice(&auth->jwks) : SLICE_LITERAL("{}");
}

int auth_sign(const struct auth *auth, struct slice payload, struct text *out, struct error *err)
{
    return token_sign(auth->keys.algorithm, auth->keys.private_key, payload, out, err);
}
