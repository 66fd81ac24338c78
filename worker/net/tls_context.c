#include "worker/net/tls_context.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <unistd.h>

#define MATERIAL_MAX (512 * 1024) /* of one file */

/* ---- reading ---- */

static int read_file(const char *option, const char *path, struct text *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno(err, errno, "%s: cannot read %s", option, path);
    ssize_t length;
    do {
        length = read(fd, text_reserve(out, MATERIAL_MAX / 16), MATERIAL_MAX / 16);
        if (length > 0)
            out->length += (size_t)length;
    } while ((length > 0 && out->length <= MATERIAL_MAX) || (length < 0 && errno == EINTR));
    int saved = errno;
    close(fd);
    if (length < 0)
        return error_set_errno(err, saved, "%s: cannot read %s", option, path);
    if (out->length > MATERIAL_MAX)
        return error_set(err, EFBIG, "%s: %s is larger than %d bytes", option, path, MATERIAL_MAX);
    return 0;
}

static int material_read(const struct config *config, struct tls_material *material, struct error *err)
{
    const char *key = config->tls_key ? config->tls_key : config->tls_certificate;
    *material = (struct tls_material){0};
    if (read_file("OPAL_TLS_CERTIFICATE", config->tls_certificate, &material->certificate, err) == 0 &&
        read_file("OPAL_TLS_KEY", key, &material->key, err) == 0)
        return 0;
    tls_material_free(material);
    return -1;
}

void tls_material_free(struct tls_material *material)
{
    if (material->key.data)
        OPENSSL_cleanse(material->key.data, material->key.capacity);
    text_free(&material->key);
    text_free(&material->certificate);
}

/* ---- building ---- */

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    return reason ? reason : "unknown error";
}

static int password_copy(char *out, int size, int writing, void *password)
{
    const char *text = password;
    size_t length = text ? strlen(text) : 0;
    (void)writing;
    if (length > (size_t)size)
        return -1;
    if (length > 0)
        memcpy(out, text, length);
    return (int)length;
}

static int use_certificate(SSL_CTX *context, const struct text *pem, struct error *err)
{
    BIO *bio = BIO_new_mem_buf(pem->data ? pem->data : "", (int)pem->length);
    X509 *leaf = bio ? PEM_read_bio_X509_AUX(bio, NULL, password_copy, NULL) : NULL;
    X509 *next = NULL;
    int result = -1;
    if (!leaf)
        error_set(err, EINVAL, "OPAL_TLS_CERTIFICATE: no certificate in PEM form (%s)", openssl_reason());
    else if (SSL_CTX_use_certificate(context, leaf) != 1)
        error_set(err, EINVAL, "OPAL_TLS_CERTIFICATE: not usable: %s", openssl_reason());
    else
        result = 0;
    X509_free(leaf);
    while (result == 0 && (next = PEM_read_bio_X509(bio, NULL, password_copy, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            X509_free(next);
            result =
                error_set(err, EINVAL, "OPAL_TLS_CERTIFICATE: the chain is not usable: %s", openssl_reason());
        }
    }
    /* "no start line" is the end of the file; anything else is a chain that would be served cut short */
    if (result == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        result = error_set(err, EINVAL, "OPAL_TLS_CERTIFICATE: the chain is broken: %s", openssl_reason());
    BIO_free(bio);
    return result;
}

static int use_key(
    SSL_CTX *context, const struct text *pem, const char *password, bool own_file, struct error *err)
{
    const char *option = own_file ? "OPAL_TLS_KEY" : "OPAL_TLS_KEY (not set: OPAL_TLS_CERTIFICATE)";
    BIO *bio = BIO_new_mem_buf(pem->data ? pem->data : "", (int)pem->length);
    EVP_PKEY *key =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, password_copy, (void *)(uintptr_t)password) : NULL;
    int result = 0;
    if (!key)
        result = error_set(err, EINVAL, "%s: no private key that can be read%s (%s)", option,
            password ? " with OPAL_TLS_KEY_PASSWORD" : "", openssl_reason());
    else if (SSL_CTX_use_PrivateKey(context, key) != 1 || SSL_CTX_check_private_key(context) != 1)
        result = error_set(
            err, EINVAL, "%s does not belong to OPAL_TLS_CERTIFICATE (%s)", option, openssl_reason());
    EVP_PKEY_free(key);
    BIO_free(bio);
    return result;
}

/* HTTP/1.1 is what is spoken here, whatever else the client would like; one that names only others gets
 * no_application_protocol (RFC 7301). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
    const unsigned char *offered, unsigned offered_length, void *argument)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    (void)ssl;
    (void)argument;
    if (SSL_select_next_proto(&chosen, out_length, ours, sizeof ours - 1, offered, offered_length) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void set_modes(SSL_CTX *context)
{
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_read_ahead(context, 1); /* one read(2) for what a client sent, not two a record */
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
}

static int use_settings(SSL_CTX *context, const struct config *config, struct error *err)
{
    bool newest = config->tls_min_version && strcmp(config->tls_min_version, "1.3") == 0;
    if (SSL_CTX_set_min_proto_version(context, newest ? TLS1_3_VERSION : TLS1_2_VERSION) != 1)
        return error_set(err, EINVAL, "OPAL_TLS_MIN_VERSION: %s", openssl_reason());
    if (config->tls_ciphers && SSL_CTX_set_cipher_list(context, config->tls_ciphers) != 1)
        return error_set(err, EINVAL, "OPAL_TLS_CIPHERS='%s': %s", config->tls_ciphers, openssl_reason());
    return 0;
}

SSL_CTX *tls_context_make(const struct config *config, const struct tls_material *material, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context) {
        error_set(err, ENOMEM, "OpenSSL gives no context: %s", openssl_reason());
        return NULL;
    }
    set_modes(context);
    if (use_settings(context, config, err) < 0 || use_certificate(context, &material->certificate, err) < 0 ||
        use_key(context, &material->key, config->tls_key_password, config->tls_key != NULL, err) < 0) {
        SSL_CTX_free(context);
        context = NULL;
    }
    ERR_clear_error();
    return context;
}

int tls_material_load(const struct config *config, struct tls_material *material, struct error *err)
{
    if (material_read(config, material, err) < 0)
        return -1;
    SSL_CTX *context = tls_context_make(config, material, err);
    SSL_CTX_free(context);
    if (context)
        return 0;
    tls_material_free(material);
    return -1;
}
