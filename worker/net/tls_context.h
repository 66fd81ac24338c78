/* Certificate, key and settings as an OpenSSL context; for the tls*.c beside it. */
#ifndef OPALD_WORKER_NET_TLS_CONTEXT_H
#define OPALD_WORKER_NET_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include "worker/net/tls.h"

/* NULL with `err`. The caller frees it. */
MUST_CHECK SSL_CTX *tls_context_make(
    const struct config *config, const struct tls_material *material, struct error *err);

#endif
