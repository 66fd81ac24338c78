/*
 * How the bytes of a connection travel: plain, or over TLS. The owner of a socket embeds a struct transport
 * and calls it through its table of operations; no other code asks which of the two it is. Worker's loop
 * only.
 */
#ifndef OPALD_WORKER_NET_TRANSPORT_H
#define OPALD_WORKER_NET_TRANSPORT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "shm/common/object.h"
#include "worker/net/tls.h"

struct transport;

struct transport_operations {
    ssize_t (*send)(struct transport *transport, const struct iovec *vector, size_t count, uint64_t *calls);
    ssize_t (*receive)(struct transport *transport, void *buffer, size_t size);
    int (*push)(struct transport *transport);
};

/* The flags are kept up to date by the operations; for the owner they are read-only. */
struct transport {
    const struct transport_operations *operations;
    /* NULL: there is none */
    struct tls *tls;
    int fd;
    /* Bytes that count as sent wait here for the socket: transport_push has to be called when it takes
     * more. */
    bool holding;
    /* Besides output of the owner, the transport itself waits for the socket to take bytes. */
    bool wants_write;
    /* Bytes are here already, for which the socket does not become readable again. */
    bool has_input;
};

/* Takes over `fd`, which does not block. Plain until transport_start_tls. */
void transport_open(struct transport *transport, int fd);
/* From now on over TLS, in the server's part: transport_handshake comes next. */
void transport_start_tls(struct transport *transport, struct tls_server *server);
/* TLS_AGAIN: call it again when the socket is ready. TLS_FAILED: `*why` says why in a few words. */
MUST_CHECK enum tls_result transport_handshake(struct transport *transport, const char **why);

/* After -1: the socket takes (or has) nothing now, and says when it does; any other error is the connection's
 * end. */
static inline bool transport_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* As sendmsg(2) without blocking: the number of bytes, or -1 with errno. Bytes that TLS has encrypted count
 * as sent, see `holding`. `*calls` goes up by the system calls made. */
MUST_CHECK static inline ssize_t transport_send(
    struct transport *transport, const struct iovec *vector, size_t count, uint64_t *calls)
{
    return transport->operations->send(transport, vector, count, calls);
}

/* As recv(2) without blocking: 0 at the end of input, -1 with errno. */
MUST_CHECK static inline ssize_t transport_receive(struct transport *transport, void *buffer, size_t size)
{
    return transport->operations->receive(transport, buffer, size);
}

/* Sends what is held: 0 when nothing is left, -1 with errno. */
MUST_CHECK static inline int transport_push(struct transport *transport)
{
    return transport->operations->push(transport);
}

/* Memory for what is held, in bytes. */
size_t transport_held_bytes(const struct transport *transport);
/* The connection is given up: what is held is not counted any more, and nothing more can be sent. */
void transport_forget_held(struct transport *transport);
/* Nothing more is sent: TLS says goodbye if the socket takes it. Input is from now on what the socket gives,
 * which only the end of input is worth reading for: nothing is decrypted any more. */
void transport_end(struct transport *transport);
/* Closes the socket. */
void transport_close(struct transport *transport);

#endif
