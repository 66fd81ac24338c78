#include "worker/jose/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/object.h"
#include "shm/common/pem_text.h"
#include "worker/jose/ssh_key.h"

#define KEY_MAX_BYTES (64 * 1024)

enum jose_format jose_format_parse(const char *name)
{
    if (strcmp(name, "ssh") == 0)
        return JOSE_SSH;
    return strcmp(name, "der") == 0 ? JOSE_DER : JOSE_PEM;
}

static void secret_free(struct text *text)
{
    if (text->data)
        OPENSSL_cleanse(text->data, text->capacity);
    text_free(text);
}

/* ---- the bytes: a file's, or the value's own ---- */

static int read_file(const char *path, struct text *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = 1;
    if (fd < 0)
        return error_set_errno(err, errno, "the file %s", path);
    while (count > 0 && out->length <= KEY_MAX_BYTES) {
        count = read(fd, text_reserve(out, KEY_MAX_BYTES + 1), KEY_MAX_BYTES + 1 - out->length);
        if (count > 0)
            out->length += (size_t)count;
    }
    int failure = errno;
    close(fd);
    if (count < 0)
        return error_set_errno(err, failure, "the file %s", path);
    if (out->length > KEY_MAX_BYTES)
        return error_set(err, EINVAL, "the file %s: more than %d bytes is no key", path, KEY_MAX_BYTES);
    return 0;
}

/*
 * An environment variable can't easily hold line ends: underscores stand for them. A key of one line has
 * none; what stands for one at its end is dropped.
 */
static void append_text(const char *value, bool one_line, struct text *out)
{
    bool lines = one_line || strchr(value, '\n');
    for (; *value; value++)
        text_append_char(out, !lines && *value == '_' ? '\n' : *value);
    while (one_line && out->length >= 2 &&
           (memcmp(out->data + out->length - 2, "\\n", 2) == 0 ||
               memcmp(out->data + out->length - 2, "\\r", 2) == 0))
        out->length -= 2;
    text_append_char(out, '\n');
}

/* PEM text with its line ends lost on the way gets them back. */
MUST_CHECK static int repair_pem(struct text *bytes, enum jose_format format, struct error *err)
{
    struct text repaired = {0};
    if (format == JOSE_DER || !pem_text_is(text_slice(bytes)))
        return 0;
    if (pem_text_repair(text_slice(bytes), &repaired, err) < 0) {
        secret_free(&repaired);
        return -1;
    }
    secret_free(bytes);
    *bytes = repaired;
    return 0;
}

static int read_value(const char *value, bool one_line, struct text *out, struct error *err)
{
    struct stat status;
    struct text path = {0};
    const char *home = value[0] == '~' && (value[1] == '/' || !value[1]) ? getenv("HOME") : NULL;
    text_append_format(&path, "%s%s", home ? home : "", home ? value + 1 : value);
    int result = 0;
    if (stat(path.data, &status) == 0 && S_ISREG(status.st_mode))
        result = read_file(path.data, out, err);
    else if ((value[0] == '/' || value[0] == '~' || value[0] == '.') && !strchr(value, '\n'))
        result = error_set(err, ENOENT, "there is no file %s", path.data);
    else
        append_text(value, one_line, out);
    secret_free(&path);
    return result;
}

/* ---- PEM and DER ---- */

struct passphrase {
    /* NULL: none */
    const char *text;
    /* the key is encrypted */
    bool asked;
};

static int give_passphrase(char *out, int size, int writing, void *context)
{
    struct passphrase *passphrase = context;
    (void)writing;
    passphrase->asked = true;
    size_t length = passphrase->text ? strlen(passphrase->text) : 0;
    if (!length || length > (size_t)size)
        return -1;
    memcpy(out, passphrase->text, length);
    return (int)length;
}

static EVP_PKEY *read_der_private(BIO *bio, struct passphrase *passphrase)
{
    EVP_PKEY *key = d2i_PKCS8PrivateKey_bio(bio, NULL, give_passphrase, passphrase);
    if (key || passphrase->asked)
        return key;
    if (BIO_reset(bio) < 0)
        return NULL;
    return d2i_PrivateKey_bio(bio, NULL);
}

static EVP_PKEY *parse_private(
    struct slice bytes, enum jose_format format, const char *text, struct error *err)
{
    struct passphrase passphrase = {.text = text};
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.length);
    EVP_PKEY *key = format == JOSE_DER ? read_der_private(bio, &passphrase)
                                       : PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &passphrase);
    BIO_free(bio);
    ERR_clear_error();
    if (!key && passphrase.asked && !text)
        error_set(err, EINVAL, "the key is encrypted, and no passphrase is set");
    else if (!key && passphrase.asked)
        error_set(err, EINVAL, "the passphrase is wrong for this key");
    else if (!key)
        error_set(err, EINVAL, "not a private key in %s format%s", format == JOSE_DER ? "der" : "pem",
            memmem(bytes.data, bytes.length, "BEGIN OPENSSH", 13) ? ": it is OpenSSH's own, format ssh" : "");
    else if (text && !passphrase.asked)
        error_set(err, EINVAL, "the key is not encrypted, but a passphrase is set");
    else
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *read_der_public(const unsigned char *bytes, size_t length, bool pkcs1)
{
    const unsigned char *at = bytes;
    EVP_PKEY *key =
        pkcs1 ? d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, (long)length) : d2i_PUBKEY(NULL, &at, (long)length);
    if (key && at != bytes + length) { /* something follows it */
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

static EVP_PKEY *read_pem_public(struct slice bytes)
{
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.length);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long length = 0;
    EVP_PKEY *key = NULL;
    while (!key && PEM_read_bio(bio, &name, &header, &der, &length) == 1) {
        if (strcmp(name, PEM_STRING_PUBLIC) == 0 || strcmp(name, PEM_STRING_RSA_PUBLIC) == 0)
            key = read_der_public(der, (size_t)length, strcmp(name, PEM_STRING_RSA_PUBLIC) == 0);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
        name = header = NULL;
        der = NULL;
    }
    BIO_free(bio);
    return key;
}

static EVP_PKEY *parse_public(struct slice bytes, enum jose_format format, struct error *err)
{
    EVP_PKEY *key = NULL;
    if (format == JOSE_SSH && pem_text_is(bytes))
        error_set(err, EINVAL, "the key is PEM: its format must be set to pem");
    else if (format == JOSE_SSH)
        key = ssh_public_key_parse(bytes, err);
    if (format == JOSE_SSH)
        return key;
    if (format == JOSE_PEM) {
        key = read_pem_public(bytes);
    } else {
        key = read_der_public((const unsigned char *)bytes.data, bytes.length, false);
        if (!key)
            key = read_der_public((const unsigned char *)bytes.data, bytes.length, true);
    }
    ERR_clear_error();
    if (!key)
        error_set(err, EINVAL, "not a public key in %s format", format == JOSE_DER ? "der" : "pem");
    return key;
}

EVP_PKEY *jose_load_private_key(
    const char *value, enum jose_format format, const char *passphrase, struct error *err)
{
    struct text bytes = {0};
    EVP_PKEY *key = NULL;
    if (read_value(value, false, &bytes, err) == 0 && repair_pem(&bytes, format, err) == 0)
        key = format == JOSE_SSH ? ssh_private_key_parse(text_slice(&bytes), passphrase, err)
                                 : parse_private(text_slice(&bytes), format, passphrase, err);
    secret_free(&bytes);
    return key;
}

EVP_PKEY *jose_load_public_key(const char *value, enum jose_format format, struct error *err)
{
    struct text bytes = {0};
    EVP_PKEY *key = NULL;
    if (read_value(value, format == JOSE_SSH, &bytes, err) == 0 && repair_pem(&bytes, format, err) == 0)
        key = parse_public(text_slice(&bytes), format, err);
    secret_free(&bytes);
    return key;
}
