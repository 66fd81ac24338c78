/*
 * TLS on a client's connection, by OpenSSL. A connection without it does not know of this module.
 *
 * What is sent: frames are gathered into records of up to 16 KiB. What was encrypted but not taken by the
 * socket counts as sent and is held here ("held"), because a record has to go out whole once it is begun; the
 * owner keeps waiting for the socket until tls_push has it out.
 *
 * There is no resumption, neither by ticket nor by session id: the clients of this server (Python's
 * websockets and aiohttp) never resume, so a key shared by the workers would cost forward secrecy and gain
 * nothing, and a ticket is work and memory for each handshake.
 *
 * Worker's loop only; tls_material_load and tls_material_free are for the master and check-config too.
 */
#ifndef OPALD_WORKER_NET_TLS_H
#define OPALD_WORKER_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

#define TLS_RECORD_MAX 16384

/* Certificate chain and private key, both PEM, as the files have them. */
struct tls_material {
    struct text certificate;
    struct text key;
};
/* Reads OPAL_TLS_CERTIFICATE and OPAL_TLS_KEY and makes sure that a server can be made of them (blocks: start
 * and reload in the master, and check-config). -1 with `err` set and nothing to free. */
MUST_CHECK int tls_material_load(
    const struct config *config, struct tls_material *material, struct error *err);
/* Wipes the key. */
void tls_material_free(struct tls_material *material);

/* ---- the server's side: one per worker ---- */

struct tls_server;
/* NULL with `err` when the material is not usable. `config` must outlive it, and `ledger`, which counts the
 * memory of what is held. */
MUST_CHECK struct tls_server *tls_server_open(
    const struct config *config, const struct tls_material *material, uint64_t *ledger, struct error *err);
/* New connections get the new certificate; open ones go on as they are. On -1 everything is as before. */
MUST_CHECK int tls_server_reload(
    struct tls_server *server, const struct tls_material *material, struct error *err);
void tls_server_close(struct tls_server *server);

/* ---- one connection ---- */

struct tls;
/* `fd` stays the caller's. */
struct tls *tls_open(struct tls_server *server, int fd);
void tls_free(struct tls *tls);

/* What the socket said. */
enum tls_result {
    TLS_DONE,
    /* wait for the socket: see tls_wants_write */
    TLS_AGAIN,
    /* `*why` says it in a few words */
    TLS_FAILED,
};
MUST_CHECK enum tls_result tls_handshake(struct tls *tls, const char **why);
/* The handshake is done. */
bool tls_is_open(const struct tls *tls);
/* While the handshake runs: whether it waits for the socket to take bytes. */
bool tls_wants_write(const struct tls *tls);

/* As recv(2) without blocking: 0 at the end of input, -1 with errno. */
MUST_CHECK ssize_t tls_receive(struct tls *tls, void *buffer, size_t size);
/* Bytes that are here already, for which the socket will not become readable again. */
bool tls_has_input(const struct tls *tls);
/* As sendmsg(2) without blocking; bytes that were encrypted count as sent. `*calls` is increased by the
 * records written. */
MUST_CHECK ssize_t tls_send(struct tls *tls, const struct iovec *vector, size_t count, uint64_t *calls);
/* Encrypted bytes wait for the socket. */
bool tls_is_holding(const struct tls *tls);
/* Memory for it, 0 when nothing is held. */
size_t tls_held_bytes(const struct tls *tls);
/* For a connection that is given up: what is held is not counted any more, and nothing more can be sent. */
void tls_forget_held(struct tls *tls);
/* Sends what is held: TLS_DONE when nothing is left. */
MUST_CHECK enum tls_result tls_push(struct tls *tls);
/* Says goodbye (close_notify) if the socket takes it; the caller shuts the socket down then. */
void tls_end(struct tls *tls);

#endif
