/* TLS for the client side of a stream: OpenSSL contexts with the certificate and the host name verified. */
#ifndef OPALD_BROADCAST_NET_TLS_CLIENT_H
#define OPALD_BROADCAST_NET_TLS_CLIENT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

/* NULL strings: not given. Without ca_file and ca_path the system's certificates are trusted. */
struct tls_client_settings {
    const char *ca_file;
    const char *ca_path;
    /* the client's own */
    const char *certificate_file;
    /* NULL: in certificate_file */
    const char *key_file;
    const char *key_password;
    /* the certificate's chain */
    bool verify;
    /* and that it is for the host */
    bool verify_host;
};

/* Reads the files; NULL with `err` set. Free with SSL_CTX_free. TLS 1.2 or later. */
MUST_CHECK SSL_CTX *tls_client_context(const struct tls_client_settings *settings, struct error *err);
/* A session for `host` (name or address) on a connected descriptor, which the caller keeps owning. NULL with
 * `err` set. */
MUST_CHECK SSL *tls_client_session(SSL_CTX *context, const struct tls_client_settings *settings,
    int descriptor, const char *host, struct error *err);
/* What went wrong in the last call on `session` that returned `result`; empties OpenSSL's error queue. */
void tls_client_explain(SSL *session, int result, char *out, size_t size);

#endif
