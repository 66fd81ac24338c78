/*
 * Keys as the reference takes them: the path of a file, or the key itself; text without a line end has its
 * underscores for them.
 *   pem   private: PKCS#8, encrypted PKCS#8, PKCS#1, SEC 1; public: SubjectPublicKeyInfo, PKCS#1
 *   der   the same without the wrapping (in practice from a file)
 *   ssh   OpenSSH's private key file and one-line public keys; see ssh_key.h
 * What is returned is the caller's, for EVP_PKEY_free. Errors never hold any of the key.
 */
#ifndef OPALD_WORKER_JOSE_KEY_H
#define OPALD_WORKER_JOSE_KEY_H

#include <openssl/evp.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

enum jose_format { JOSE_PEM, JOSE_SSH, JOSE_DER };

/* "pem", "ssh" or "der"; anything else is JOSE_PEM (the options have checked it). */
enum jose_format jose_format_parse(const char *name);
/* `passphrase` may be NULL. A passphrase for a key that isn't encrypted is an error, as in the reference. */
MUST_CHECK EVP_PKEY *jose_load_private_key(
    const char *value, enum jose_format format, const char *passphrase, struct error *err);
MUST_CHECK EVP_PKEY *jose_load_public_key(const char *value, enum jose_format format, struct error *err);

#endif
