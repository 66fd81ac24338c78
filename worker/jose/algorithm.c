#include "worker/jose/algorithm.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#include "worker/jose/base64url.h"

#define SIGNATURE_MAX 2048 /* of RSA with 16384 bits, the most OpenSSL takes */

enum jose_kind { JOSE_RSA, JOSE_PSS, JOSE_ECDSA, JOSE_EDDSA };

struct jose_algorithm {
    const char *name;
    enum jose_kind kind;
    const char *digest;
    /* OpenSSL's name */
    const char *curve;
    /* bytes of r and of s */
    size_t coordinate;
};

static const struct jose_algorithm algorithms[] = {
    {.name = "RS256", .kind = JOSE_RSA, .digest = "SHA256"},
    {.name = "RS384", .kind = JOSE_RSA, .digest = "SHA384"},
    {.name = "RS512", .kind = JOSE_RSA, .digest = "SHA512"},
    {.name = "PS256", .kind = JOSE_PSS, .digest = "SHA256"},
    {.name = "PS384", .kind = JOSE_PSS, .digest = "SHA384"},
    {.name = "PS512", .kind = JOSE_PSS, .digest = "SHA512"},
    {.name = "ES256", .kind = JOSE_ECDSA, .digest = "SHA256", .curve = "prime256v1", .coordinate = 32},
    {.name = "ES256K", .kind = JOSE_ECDSA, .digest = "SHA256", .curve = "secp256k1", .coordinate = 32},
    {.name = "ES384", .kind = JOSE_ECDSA, .digest = "SHA384", .curve = "secp384r1", .coordinate = 48},
    {.name = "ES512", .kind = JOSE_ECDSA, .digest = "SHA512", .curve = "secp521r1", .coordinate = 66},
    /* PyJWT's old name for it */
    {.name = "ES521", .kind = JOSE_ECDSA, .digest = "SHA512", .curve = "secp521r1", .coordinate = 66},
    {.name = "EdDSA", .kind = JOSE_EDDSA},
};

const struct jose_algorithm *jose_algorithm_find(const char *name)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

const char *jose_algorithm_name(const struct jose_algorithm *algorithm)
{
    return algorithm->name;
}

int jose_algorithm_check_key(const struct jose_algorithm *algorithm, EVP_PKEY *key, struct error *err)
{
    int type = EVP_PKEY_get_base_id(key);
    char curve[64];
    size_t length;
    switch (algorithm->kind) {
    case JOSE_RSA:
    case JOSE_PSS:
        if (type != EVP_PKEY_RSA)
            return error_set(err, EINVAL, "%s needs an RSA key", algorithm->name);
        return 0;
    case JOSE_EDDSA:
        if (type != EVP_PKEY_ED25519 && type != EVP_PKEY_ED448)
            return error_set(err, EINVAL, "EdDSA needs an Ed25519 or Ed448 key");
        return 0;
    case JOSE_ECDSA:
        if (type != EVP_PKEY_EC)
            return error_set(
                err, EINVAL, "%s needs an elliptic curve key (%s)", algorithm->name, algorithm->curve);
        if (!EVP_PKEY_get_group_name(key, curve, sizeof curve, &length))
            return error_set(
                err, EINVAL, "%s needs a key on the curve %s by name", algorithm->name, algorithm->curve);
        if (strcmp(curve, algorithm->curve) != 0)
            return error_set(err, EINVAL, "%s needs a key on the curve %s, this one is on %s",
                algorithm->name, algorithm->curve, curve);
        return 0;
    }
    return -1;
}

static bool set_padding(const struct jose_algorithm *algorithm, EVP_PKEY_CTX *parameters)
{
    return algorithm->kind != JOSE_PSS ||
           (EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) > 0 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST) > 0);
}

/* r and s side by side -> DER. 0: not a signature of that curve. */
static size_t ecdsa_to_der(struct slice raw, size_t coordinate, unsigned char *der, size_t size)
{
    if (raw.length != 2 * coordinate)
        return 0;
    const unsigned char *bytes = (const unsigned char *)raw.data;
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, (int)coordinate, NULL);
    BIGNUM *s = BN_bin2bn(bytes + coordinate, (int)coordinate, NULL);
    int length = 0;
    if (signature && r && s && ECDSA_SIG_set0(signature, r, s)) {
        r = s = NULL; /* its own now */
        length = i2d_ECDSA_SIG(signature, NULL);
        if (length > 0 && (size_t)length <= size)
            length = i2d_ECDSA_SIG(signature, &der);
        else
            length = 0;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(signature);
    return length > 0 ? (size_t)length : 0;
}

static bool ecdsa_from_der(const unsigned char *der, size_t length, size_t coordinate, struct text *out)
{
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)length);
    unsigned char *raw = (unsigned char *)text_reserve(out, 2 * coordinate);
    bool good =
        signature && BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw, (int)coordinate) == (int)coordinate &&
        BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw + coordinate, (int)coordinate) == (int)coordinate;
    if (good) {
        out->length += 2 * coordinate;
        out->data[out->length] = '\0';
    }
    ECDSA_SIG_free(signature);
    return good;
}

bool jose_verify(
    const struct jose_algorithm *algorithm, EVP_PKEY *key, struct slice signed_bytes, struct slice signature)
{
    unsigned char der[SIGNATURE_MAX];
    const unsigned char *bytes = (const unsigned char *)signature.data;
    size_t length = signature.length;
    if (algorithm->kind == JOSE_ECDSA) {
        length = ecdsa_to_der(signature, algorithm->coordinate, der, sizeof der);
        bytes = der;
    }
    EVP_PKEY_CTX *parameters = NULL;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = length && context &&
                EVP_DigestVerifyInit_ex(context, &parameters, algorithm->digest, NULL, NULL, key, NULL) > 0 &&
                set_padding(algorithm, parameters) &&
                EVP_DigestVerify(context, bytes, length, (const unsigned char *)signed_bytes.data,
                    signed_bytes.length) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good;
}

int jose_sign(const struct jose_algorithm *algorithm, EVP_PKEY *key, struct slice bytes, struct text *out,
    struct error *err)
{
    unsigned char signature[SIGNATURE_MAX];
    size_t length = sizeof signature;
    EVP_PKEY_CTX *parameters = NULL;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good =
        context &&
        EVP_DigestSignInit_ex(context, &parameters, algorithm->digest, NULL, NULL, key, NULL) > 0 &&
        set_padding(algorithm, parameters) &&
        EVP_DigestSign(context, signature, &length, (const unsigned char *)bytes.data, bytes.length) == 1;
    if (good && algorithm->kind == JOSE_ECDSA)
        good = ecdsa_from_der(signature, length, algorithm->coordinate, out);
    else if (good)
        text_append(out, signature, length);
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good ? 0 : error_set(err, EINVAL, "this key can't sign with %s", algorithm->name);
}
