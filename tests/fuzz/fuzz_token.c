/*
 * Everything of a JWT that comes from outside, and OpenSSH's key formats. The first byte says what the
 * rest is: a token as it stands, a payload to be signed first (so that the claims are reached), a public
 * key line, a private key file's inside.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "worker/jose/base64url.h"
#include "worker/jose/ssh_key.h"
#include "worker/jose/token.h"
#include "tests/fuzz/fuzz.h"

#define NOW 1795516119.5

static struct token_rules rules = {.audience = "https://api.opal.ac/v1/", .issuer = "https://opal.ac/"};
static EVP_PKEY *key;

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    rules.algorithm = jose_algorithm_find("EdDSA");
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    rules.key = key;
    return 0;
}

static void check_token(struct slice token)
{
    struct token_claims *claims = NULL;
    enum token_verdict verdict = token_verify(&rules, token, NOW, &claims);
    if ((verdict == TOKEN_GOOD) != (claims != NULL))
        abort();
    if (!claims)
        return;
    if ((double)claims->expires <= NOW || !memchr(token.data, '.', token.length))
        abort();
    bool permitted = token_permits_topic(claims, SLICE_LITERAL("a"));
    (void)permitted; /* either is right; it must not crash */
    token_claims_drop(token_claims_keep(claims));
    token_claims_drop(claims);
}

static void check_payload(struct slice payload)
{
    struct text token = {0};
    struct error err = {0};
    if (token_sign(rules.algorithm, key, payload, &token, &err) < 0)
        abort();
    check_token(text_slice(&token));
    text_free(&token);
}

/* What decodes encodes to the same text again. */
static void check_base64(struct slice text)
{
    struct text bytes = {0}, again = {0};
    if (base64url_decode(text, &bytes)) {
        size_t length = text.length;
        while (length && text.data[length - 1] == '=')
            length--;
        base64url_encode(bytes.data, bytes.length, &again);
        if (!slice_equals(text_slice(&again), (struct slice){text.data, length}))
            abort();
    }
    text_free(&bytes);
    text_free(&again);
}

static void check_private_key(struct slice inside)
{
    struct text file = {0};
    struct error err = {0};
    unsigned char *encoded = memory_allocate(inside.length * 2 + 16);
    int length = EVP_EncodeBlock(encoded, (const unsigned char *)inside.data, (int)inside.length);
    text_append_string(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    text_append(&file, encoded, (size_t)length);
    text_append_string(&file, "\n-----END OPENSSH PRIVATE KEY-----\n");
    EVP_PKEY_free(ssh_private_key_parse(text_slice(&file), NULL, &err));
    free(encoded);
    text_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    if (size < 1 || size > 65536)
        return 0;
    /* a copy of its exact size: an over-read is seen */
    char *copy = size > 1 ? memcpy(malloc(size - 1), data + 1, size - 1) : NULL;
    struct slice input = {copy ? copy : "", size - 1};
    switch (data[0]) {
    case 't':
        check_token(input);
        break;
    case 'p':
        check_payload(input);
        break;
    case 'k':
        EVP_PKEY_free(ssh_public_key_parse(input, &err));
        break;
    case 's':
        check_private_key(input);
        break;
    default:
        check_base64(input);
        break;
    }
    free(copy);
    return 0;
}
