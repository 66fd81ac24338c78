/*
 * The certificate and key that are in force, in anonymous memory (memfd) that the workers inherit: a worker
 * that is started while the files on disk are broken serves the last good ones. Master writes, workers read
 * at their start and on HUP.
 *
 *   | active half: 8 bytes | half 0: certificate length, key length, bytes | half 1 |
 *
 * The half that is not active is filled, then made the active one.
 */
#ifndef OPALD_WORKER_NET_TLS_STORE_H
#define OPALD_WORKER_NET_TLS_STORE_H

#include "worker/net/tls.h"

/* The descriptor (close-on-exec), or -1. */
MUST_CHECK int tls_store_open(struct error *err);
MUST_CHECK int tls_store_write(int store, const struct tls_material *material, struct error *err);
MUST_CHECK int tls_store_read(int store, struct tls_material *material, struct error *err);

#endif
