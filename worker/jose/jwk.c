#include "worker/jose/jwk.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

#include "shm/common/text.h"
#include "worker/jose/base64url.h"

/* of RSA with 16384 bits, the most OpenSSL takes */
#define NUMBER_MAX 2048

static const struct {
    const char *openssl;
    const char *jwk;
    size_t coordinate;
} curves[] = {
    {.openssl = "prime256v1", .jwk = "P-256", .coordinate = 32},
    {.openssl = "secp384r1", .jwk = "P-384", .coordinate = 48},
    {.openssl = "secp521r1", .jwk = "P-521", .coordinate = 66},
    {.openssl = "secp256k1", .jwk = "secp256k1", .coordinate = 32},
};

static void add_base64url(cJSON *jwk, const char *name, const unsigned char *bytes, size_t length)
{
    struct text encoded = {0};
    base64url_encode(bytes, length, &encoded);
    cJSON_AddStringToObject(jwk, name, encoded.data);
    text_free(&encoded);
}

/* `length` 0: as long as the number needs. */
static bool add_number(cJSON *jwk, const char *name, EVP_PKEY *key, const char *parameter, size_t length)
{
    BIGNUM *number = NULL;
    unsigned char bytes[NUMBER_MAX];
    if (!EVP_PKEY_get_bn_param(key, parameter, &number))
        return false;
    size_t needed = length ? length : (size_t)BN_num_bytes(number);
    bool good = needed <= sizeof bytes && BN_bn2binpad(number, bytes, (int)needed) == (int)needed;
    if (good)
        add_base64url(jwk, name, bytes, needed);
    BN_free(number);
    return good;
}

static bool add_rsa(cJSON *jwk, EVP_PKEY *key)
{
    cJSON_AddStringToObject(jwk, "kty", "RSA");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(jwk, "key_ops"), cJSON_CreateString("verify"));
    return add_number(jwk, "n", key, OSSL_PKEY_PARAM_RSA_N, 0) &&
           add_number(jwk, "e", key, OSSL_PKEY_PARAM_RSA_E, 0);
}

static bool add_ec(cJSON *jwk, EVP_PKEY *key)
{
    char name[64];
    size_t length;
    if (!EVP_PKEY_get_group_name(key, name, sizeof name, &length))
        return false;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(curves[i].openssl, name) != 0)
            continue;
        cJSON_AddStringToObject(jwk, "kty", "EC");
        cJSON_AddStringToObject(jwk, "crv", curves[i].jwk);
        return add_number(jwk, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, curves[i].coordinate) &&
               add_number(jwk, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, curves[i].coordinate);
    }
    return false;
}

static bool add_okp(cJSON *jwk, EVP_PKEY *key, const char *curve)
{
    unsigned char raw[64];
    size_t length = sizeof raw;
    if (EVP_PKEY_get_raw_public_key(key, raw, &length) != 1)
        return false;
    add_base64url(jwk, "x", raw, length);
    cJSON_AddStringToObject(jwk, "kty", "OKP");
    cJSON_AddStringToObject(jwk, "crv", curve);
    return true;
}

static bool add_key(cJSON *jwk, EVP_PKEY *key)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        return add_rsa(jwk, key);
    case EVP_PKEY_EC:
        return add_ec(jwk, key);
    case EVP_PKEY_ED25519:
        return add_okp(jwk, key, "Ed25519");
    case EVP_PKEY_ED448:
        return add_okp(jwk, key, "Ed448");
    default:
        return false;
    }
}

cJSON *jwk_make(EVP_PKEY *key, struct error *err)
{
    cJSON *jwk = cJSON_CreateObject();
    bool good = add_key(jwk, key);
    ERR_clear_error();
    if (good)
        return jwk;
    cJSON_Delete(jwk);
    error_set(err, EINVAL, "the public key has no JWK form");
    return NULL;
}
