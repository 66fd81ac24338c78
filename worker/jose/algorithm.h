/*
 * Signatures of JSON Web Algorithms (RFC 7518, 8037) by OpenSSL: the asymmetric ones the reference can use
 * (RS, PS, ES, EdDSA). It names HS256, HS384, HS512 and none too and then can't start with them: its keys are
 * pairs, and none is no signature.
 */
#ifndef OPALD_WORKER_JOSE_ALGORITHM_H
#define OPALD_WORKER_JOSE_ALGORITHM_H

#include <stdbool.h>
#include <openssl/evp.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* static: never freed */
struct jose_algorithm;

/* NULL: not an algorithm that works with a pair of keys. */
MUST_CHECK const struct jose_algorithm *jose_algorithm_find(const char *name);
const char *jose_algorithm_name(const struct jose_algorithm *algorithm);
/* Whether the key is of the algorithm's kind and curve. -1 with what is wrong. */
MUST_CHECK int jose_algorithm_check_key(
    const struct jose_algorithm *algorithm, EVP_PKEY *key, struct error *err);
/* False for anything but a good signature by this algorithm. */
MUST_CHECK bool jose_verify(
    const struct jose_algorithm *algorithm, EVP_PKEY *key, struct slice signed_bytes, struct slice signature);
/* Appends the signature as JWS has it (ECDSA: r and s side by side). -1 when the key can't sign. */
MUST_CHECK int jose_sign(const struct jose_algorithm *algorithm, EVP_PKEY *key, struct slice bytes,
    struct text *out, struct error *err);

#endif
