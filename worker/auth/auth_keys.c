#include "worker/auth/auth_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/text.h"
#include "worker/jose/key.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* ---- from the configuration ---- */

/* The two belong together when one verifies what the other has signed. */
static int check_pair(const struct auth_keys *keys, struct error *err)
{
    struct slice probe = SLICE_LITERAL("opald looks whether its keys match");
    struct text signature = {0};
    int result = jose_sign(keys->algorithm, keys->private_key, probe, &signature, err);
    if (result == 0 && !jose_verify(keys->algorithm, keys->public_key, probe, text_slice(&signature)))
        result = error_set(err, EINVAL,
            "OPAL_AUTH_PRIVATE_KEY and OPAL_AUTH_PUBLIC_KEY don't belong together: the public key does not "
            "verify what the private key signs");
    text_free(&signature);
    return result;
}

static int load_pair(struct auth_keys *keys, const struct config *config, struct error *err)
{
    keys->private_key = jose_load_private_key(config->auth_private_key,
        jose_format_parse(config->auth_private_key_format), config->auth_private_key_passphrase, err);
    if (!keys->private_key)
        return error_prefix(
            err, "OPAL_AUTH_PRIVATE_KEY (OPAL_AUTH_PRIVATE_KEY_FORMAT=%s)", config->auth_private_key_format);
    keys->public_key =
        jose_load_public_key(config->auth_public_key, jose_format_parse(config->auth_public_key_format), err);
    if (!keys->public_key)
        return error_prefix(
            err, "OPAL_AUTH_PUBLIC_KEY (OPAL_AUTH_PUBLIC_KEY_FORMAT=%s)", config->auth_public_key_format);
    if (jose_algorithm_check_key(keys->algorithm, keys->private_key, err) < 0)
        return error_prefix(err, "OPAL_AUTH_PRIVATE_KEY does not fit OPAL_AUTH_JWT_ALGORITHM");
    if (jose_algorithm_check_key(keys->algorithm, keys->public_key, err) < 0)
        return error_prefix(err, "OPAL_AUTH_PUBLIC_KEY does not fit OPAL_AUTH_JWT_ALGORITHM");
    return check_pair(keys, err);
}

static int find_algorithm(struct auth_keys *keys, const struct config *config, struct error *err)
{
    keys->algorithm = jose_algorithm_find(config->auth_jwt_algorithm);
    if (keys->algorithm)
        return 0;
    return error_set(err, EINVAL,
        "OPAL_AUTH_JWT_ALGORITHM=%s: must be an algorithm for a pair of keys (RS..., PS..., ES..., EdDSA)",
        config->auth_jwt_algorithm);
}

int auth_keys_load(struct auth_keys *keys, const struct config *config, struct error *err)
{
    bool has_private = config->auth_private_key, has_public = config->auth_public_key;
    if (has_private && has_public)
        return find_algorithm(keys, config, err) < 0 ? -1 : load_pair(keys, config, err);
    if (!has_private && !has_public)
        return 0;
    return error_set(err, EINVAL,
        "%s is set, but %s is not: must be both, or none for running without authentication",
        has_private ? "OPAL_AUTH_PRIVATE_KEY" : "OPAL_AUTH_PUBLIC_KEY",
        has_private ? "OPAL_AUTH_PUBLIC_KEY" : "OPAL_AUTH_PRIVATE_KEY");
}

void auth_keys_free(struct auth_keys *keys)
{
    EVP_PKEY_free(keys->private_key);
    EVP_PKEY_free(keys->public_key);
    *keys = (struct auth_keys){0};
}

/* ---- from process to process: the private key as PKCS#8, then the public key, both DER ---- */

static bool write_keys(const struct auth_keys *keys, BIO *out)
{
    return i2d_PKCS8PrivateKey_bio(out, keys->private_key, NULL, NULL, 0, NULL, NULL) == 1 &&
           i2d_PUBKEY_bio(out, keys->public_key) == 1;
}

int auth_keys_give(const struct auth_keys *keys, struct error *err)
{
    char *bytes = NULL;
    if (!keys->private_key)
        return 0;
    BIO *out = BIO_new(BIO_s_secmem());
    if (!out || !write_keys(keys, out)) {
        BIO_free(out);
        ERR_clear_error();
        return error_set(err, EINVAL, "the keys can't be handed to the workers");
    }
    long length = BIO_get_mem_data(out, &bytes);
    int fd = memfd_create("opald-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (write(fd, bytes, (size_t)length) != length || fcntl(fd, F_ADD_SEALS, SEALS) < 0)) {
        close(fd);
        fd = -1;
    }
    int failure = errno;
    BIO_free(out);
    return fd < 0 ? error_set_errno(err, failure, "the keys can't be handed to the workers") : fd;
}

int auth_keys_take(struct auth_keys *keys, int descriptor, const struct config *config, struct error *err)
{
    struct stat status;
    void *bytes = MAP_FAILED;
    if (find_algorithm(keys, config, err) < 0)
        return -1;
    if (fstat(descriptor, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (bytes == MAP_FAILED)
        return error_set_errno(err, errno, "the master's keys");
    const unsigned char *at = bytes;
    const unsigned char *end = at + status.st_size;
    keys->private_key = d2i_AutoPrivateKey(NULL, &at, (long)(end - at));
    if (keys->private_key)
        keys->public_key = d2i_PUBKEY(NULL, &at, (long)(end - at));
    munmap(bytes, (size_t)status.st_size);
    ERR_clear_error();
    return keys->public_key ? 0 : error_set(err, EINVAL, "the master's keys can't be read");
}
