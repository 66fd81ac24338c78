#include "broadcast/net/stream_io.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broadcast/net/tls_client.h"

/* made contiguous for one TLS write */
#define STREAM_IO_WRITE_BYTES ((size_t)64 * 1024)

void stream_io_close(struct stream_io *io)
{
    SSL_free(io->tls);
    if (io->descriptor >= 0)
        close(io->descriptor);
    *io = (struct stream_io){.descriptor = -1};
}

/* What a call of OpenSSL that returned `result` comes to. */
static enum stream_io_result stream_io_tls_result(struct stream_io *io, int result)
{
    int kind = SSL_get_error(io->tls, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        io->wants_write = kind == SSL_ERROR_WANT_WRITE;
        return STREAM_IO_WAIT;
    }
    tls_client_explain(io->tls, result, io->why, sizeof io->why);
    return STREAM_IO_FAILED;
}

static void stream_io_tls_begin(void)
{
    ERR_clear_error();
    errno = 0;
}

enum stream_io_result stream_io_handshake(struct stream_io *io)
{
    stream_io_tls_begin();
    int result = SSL_do_handshake(io->tls);
    if (result != 1)
        return stream_io_tls_result(io, result);
    io->wants_write = false;
    return STREAM_IO_DONE;
}

static enum stream_io_result stream_io_receive_plain(
    struct stream_io *io, char *buffer, size_t size, size_t *length)
{
    ssize_t got = recv(io->descriptor, buffer, size, 0);
    if (got > 0) {
        *length = (size_t)got;
        return STREAM_IO_DONE;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return STREAM_IO_WAIT;
    snprintf(
        io->why, sizeof io->why, "%s", got == 0 ? "connection closed by the other end" : strerror(errno));
    return STREAM_IO_FAILED;
}

enum stream_io_result stream_io_receive(struct stream_io *io, char *buffer, size_t size, size_t *length)
{
    if (!io->tls)
        return stream_io_receive_plain(io, buffer, size, length);
    stream_io_tls_begin();
    int result = SSL_read_ex(io->tls, buffer, size, length);
    return result == 1 ? STREAM_IO_DONE : stream_io_tls_result(io, result);
}

static enum stream_io_result stream_io_send_plain(struct stream_io *io, struct evbuffer *output)
{
    while (evbuffer_get_length(output)) {
        if (evbuffer_write(output, io->descriptor) >= 0)
            continue;
        if (errno == EAGAIN || errno == EINTR)
            return STREAM_IO_WAIT;
        snprintf(io->why, sizeof io->why, "%s", strerror(errno));
        return STREAM_IO_FAILED;
    }
    return STREAM_IO_DONE;
}

enum stream_io_result stream_io_send(struct stream_io *io, struct evbuffer *output)
{
    if (!io->tls)
        return stream_io_send_plain(io, output);
    for (size_t length; (length = evbuffer_get_length(output)) > 0;) {
        size_t sent = 0;
        bool wanted_write = io->wants_write; /* of a read: a write that waits does not change it */
        if (length > STREAM_IO_WRITE_BYTES)
            length = STREAM_IO_WRITE_BYTES;
        stream_io_tls_begin();
        int result = SSL_write_ex(io->tls, evbuffer_pullup(output, (ev_ssize_t)length), length, &sent);
        if (result != 1) {
            enum stream_io_result failed = stream_io_tls_result(io, result);
            io->wants_write = wanted_write;
            return failed;
        }
        evbuffer_drain(output, sent);
    }
    return STREAM_IO_DONE;
}

bool stream_io_has_more(const struct stream_io *io)
{
    return io->tls && SSL_pending(io->tls) > 0;
}
