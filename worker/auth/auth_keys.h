/*
 * The pair of keys: loaded and checked once, by the master, and handed to each worker through a descriptor. A
 * worker that starts later must have the keys of the others, whatever has become of the files they came from:
 * half a server with other keys would refuse the other half's tokens.
 */
#ifndef OPALD_WORKER_AUTH_AUTH_KEYS_H
#define OPALD_WORKER_AUTH_AUTH_KEYS_H

#include <openssl/evp.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/jose/algorithm.h"

/* Zero-initialise; auth_keys_free when done. Without keys in the configuration everything is NULL. */
struct auth_keys {
    const struct jose_algorithm *algorithm;
    EVP_PKEY *private_key;
    EVP_PKEY *public_key;
};

/*
 * From the configuration, with all that can be wrong: one line that names the option (never its value). 0 or
 * -1.
 */
MUST_CHECK int auth_keys_load(struct auth_keys *keys, const struct config *config, struct error *err);
void auth_keys_free(struct auth_keys *keys);
/*
 * Master: a sealed memory file with the keys, close-on-exec, the caller's to close; 0 when there are none; -1
 * with `err`.
 */
MUST_CHECK int auth_keys_give(const struct auth_keys *keys, struct error *err);
/* Worker: reads that file; the descriptor stays open. */
MUST_CHECK int auth_keys_take(
    struct auth_keys *keys, int descriptor, const struct config *config, struct error *err);

#endif
