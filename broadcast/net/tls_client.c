#include "broadcast/net/tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

/* The first reason in OpenSSL's queue; the rest is thrown away. */
static const char *tls_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason ? reason : "unknown reason";
}

/* Without a callback OpenSSL would ask for a passphrase on the terminal. */
static int tls_password(char *buffer, int size, int writing, void *context)
{
    const char *password = context;
    (void)writing;
    if (!password)
        return 0;
    int length = (int)strnlen(password, (size_t)size);
    memcpy(buffer, password, (size_t)length);
    return length;
}

static int tls_load_trust(SSL_CTX *context, const struct tls_client_settings *settings, struct error *err)
{
    if (!settings->ca_file && !settings->ca_path) {
        if (SSL_CTX_set_default_verify_paths(context) != 1)
            return error_set(err, -1, "cannot load the system's CA certificates: %s", tls_reason());
        return 0;
    }
    if (settings->ca_file && SSL_CTX_load_verify_file(context, settings->ca_file) != 1)
        return error_set(err, -1, "cannot load the CA certificates %s: %s", settings->ca_file, tls_reason());
    if (settings->ca_path && SSL_CTX_load_verify_dir(context, settings->ca_path) != 1)
        return error_set(err, -1, "cannot use the CA folder %s: %s", settings->ca_path, tls_reason());
    return 0;
}

static int tls_load_own(SSL_CTX *context, const struct tls_client_settings *settings, struct error *err)
{
    const char *key = settings->key_file ? settings->key_file : settings->certificate_file;
    if (!settings->certificate_file)
        return 0;
    SSL_CTX_set_default_passwd_cb(context, tls_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)(size_t)settings->key_password);
    if (SSL_CTX_use_certificate_chain_file(context, settings->certificate_file) != 1)
        return error_set(
            err, -1, "cannot load the client certificate %s: %s", settings->certificate_file, tls_reason());
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return error_set(err, -1, "cannot load the client's key %s: %s", key, tls_reason());
    return 0;
}

SSL_CTX *tls_client_context(const struct tls_client_settings *settings, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) {
        error_set(err, -1, "cannot set up TLS: %s", tls_reason());
        return NULL;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, settings->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if ((settings->verify && tls_load_trust(context, settings, err) < 0) ||
        tls_load_own(context, settings, err) < 0) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

SSL *tls_client_session(SSL_CTX *context, const struct tls_client_settings *settings, int descriptor,
    const char *host, struct error *err)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool numeric = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    ERR_clear_error();
    SSL *session = SSL_new(context);
    bool ok = session && SSL_set_fd(session, descriptor) == 1;
    if (ok && !numeric) /* RFC 6066 3: no addresses in SNI */
        ok = SSL_set_tlsext_host_name(session, host) == 1;
    if (ok && settings->verify && settings->verify_host) {
        SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1
                     : SSL_set1_host(session, host) == 1;
    }
    if (!ok) {
        error_set(err, -1, "cannot set up TLS: %s", tls_reason());
        SSL_free(session);
        return NULL;
    }
    SSL_set_connect_state(session);
    return session;
}

void tls_client_explain(SSL *session, int result, char *out, size_t size)
{
    int saved_errno = errno;
    int kind = SSL_get_error(session, result);
    long verified = SSL_get_verify_result(session);
    if (verified != X509_V_OK && (SSL_get_verify_mode(session) & SSL_VERIFY_PEER)) {
        snprintf(out, size, "certificate verify failed: %s", X509_verify_cert_error_string(verified));
        ERR_clear_error();
    } else if (kind == SSL_ERROR_SYSCALL && !ERR_peek_error()) {
        snprintf(out, size, "%s", saved_errno ? strerror(saved_errno) : "connection closed by the other end");
    } else if (kind == SSL_ERROR_ZERO_RETURN) {
        snprintf(out, size, "connection closed by the other end");
    } else {
        snprintf(out, size, "%s", tls_reason());
    }
}
