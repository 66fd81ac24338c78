/* OpenSSH's own key formats: RSA, ECDSA on the NIST curves, Ed25519. Pure: bytes in, key out. */
#ifndef OPALD_WORKER_JOSE_SSH_KEY_H
#define OPALD_WORKER_JOSE_SSH_KEY_H

#include <openssl/evp.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* "ssh-rsa AAAA... comment" (RFC 4253 6.6). */
MUST_CHECK EVP_PKEY *ssh_public_key_parse(struct slice line, struct error *err);
/*
 * "-----BEGIN OPENSSH PRIVATE KEY-----" (openssh-key-v1, OpenSSH's PROTOCOL.key). Encrypted ones are refused:
 * their key derivation (bcrypt) is in no library here, and the reference can't read them either.
 */
MUST_CHECK EVP_PKEY *ssh_private_key_parse(struct slice text, const char *passphrase, struct error *err);

#endif
