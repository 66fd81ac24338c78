#include "worker/auth/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define DIGEST_BYTES 32

bool secret_equals(struct slice given, struct slice wanted)
{
    unsigned char digests[2][EVP_MAX_MD_SIZE];
    return EVP_Digest(given.data, given.length, digests[0], NULL, EVP_sha256(), NULL) == 1 &&
           EVP_Digest(wanted.data, wanted.length, digests[1], NULL, EVP_sha256(), NULL) == 1 &&
           CRYPTO_memcmp(digests[0], digests[1], DIGEST_BYTES) == 0;
}
