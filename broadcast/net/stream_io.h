/* Bytes in and out of a connected socket, plain or TLS: one call each, non-blocking, no loop. */
#ifndef OPALD_BROADCAST_NET_STREAM_IO_H
#define OPALD_BROADCAST_NET_STREAM_IO_H

#include <event2/buffer.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include "shm/common/object.h"

#define STREAM_IO_WHY_MAX 300

enum stream_io_result {
    /* done; of a receive: *length bytes are there */
    STREAM_IO_DONE,
    /* nothing more just now: call again when the socket is readable, or writable if `wants_write` */
    STREAM_IO_WAIT,
    /* the connection is of no use; `why` says why */
    STREAM_IO_FAILED,
};

struct stream_io {
    /* -1: none */
    int descriptor;
    /* NULL: plain */
    SSL *tls;
    /* the handshake, or a read, waits for the socket to take bytes */
    bool wants_write;
    /* of the last failure */
    char why[STREAM_IO_WHY_MAX];
};

/* Closes the descriptor and frees the session; allowed on one that is closed. */
void stream_io_close(struct stream_io *io);
/* TLS only. */
MUST_CHECK enum stream_io_result stream_io_handshake(struct stream_io *io);
MUST_CHECK enum stream_io_result stream_io_receive(
    struct stream_io *io, char *buffer, size_t size, size_t *length);
/* Writes and drains `output`. */
MUST_CHECK enum stream_io_result stream_io_send(struct stream_io *io, struct evbuffer *output);
/* Bytes are inside the TLS layer already: the socket does not say so. */
bool stream_io_has_more(const struct stream_io *io);

#endif
