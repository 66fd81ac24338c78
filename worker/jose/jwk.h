/*
 * Public keys as JSON Web Keys (RFC 7517, 7518 6, 8037), with the members and in the order of the reference's
 * library. Pure.
 */
#ifndef OPALD_WORKER_JOSE_JWK_H
#define OPALD_WORKER_JOSE_JWK_H

#include <openssl/evp.h>
#include "shm/common/document.h"
#include "shm/common/error.h"

/*
 * The public half of the key. The caller's, for cJSON_Delete. NULL with `err` for a key of a kind that has no
 * JWK.
 */
MUST_CHECK cJSON *jwk_make(EVP_PKEY *key, struct error *err);

#endif
