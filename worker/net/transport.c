#include "worker/net/transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- plain ---- */

#define PLAIN_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)

/* Apart from plain_send, so that the vector costs nothing where there is none. */
static __attribute__((noinline)) ssize_t plain_send_vector(
    const struct transport *transport, const struct iovec *vector, size_t count)
{
    const struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)vector, .msg_iovlen = count};
    return sendmsg(transport->fd, &message, PLAIN_FLAGS);
}

/* Each delivery comes through here: the one piece that it nearly always is goes without a msghdr. */
static ssize_t plain_send(
    struct transport *transport, const struct iovec *vector, size_t count, uint64_t *calls)
{
    ++*calls;
    if (count == 1)
        return send(transport->fd, vector->iov_base, vector->iov_len, PLAIN_FLAGS);
    return plain_send_vector(transport, vector, count);
}

static ssize_t plain_receive(struct transport *transport, void *buffer, size_t size)
{
    return recv(transport->fd, buffer, size, MSG_DONTWAIT);
}

static int plain_push(struct transport *transport)
{
    (void)transport;
    return 0;
}

static const struct transport_operations plain = {
    .send = plain_send,
    .receive = plain_receive,
    .push = plain_push,
};

/* ---- over TLS ---- */

static void tls_note(struct transport *transport)
{
    transport->holding = tls_is_holding(transport->tls);
    transport->wants_write = tls_wants_write(transport->tls);
    transport->has_input = tls_has_input(transport->tls);
}

static ssize_t over_tls_send(
    struct transport *transport, const struct iovec *vector, size_t count, uint64_t *calls)
{
    ssize_t sent = tls_send(transport->tls, vector, count, calls);
    int saved = errno;
    tls_note(transport);
    errno = saved;
    return sent;
}

static ssize_t over_tls_receive(struct transport *transport, void *buffer, size_t size)
{
    ssize_t length = tls_receive(transport->tls, buffer, size);
    int saved = errno;
    tls_note(transport);
    errno = saved;
    return length;
}

static int over_tls_push(struct transport *transport)
{
    enum tls_result result = tls_push(transport->tls);
    tls_note(transport);
    if (result == TLS_DONE)
        return 0;
    errno = result == TLS_AGAIN ? EAGAIN : EPIPE;
    return -1;
}

static const struct transport_operations over_tls = {
    .send = over_tls_send,
    .receive = over_tls_receive,
    .push = over_tls_push,
};

void transport_start_tls(struct transport *transport, struct tls_server *server)
{
    transport->tls = tls_open(server, transport->fd);
    transport->operations = &over_tls;
}

enum tls_result transport_handshake(struct transport *transport, const char **why)
{
    enum tls_result result = tls_handshake(transport->tls, why);
    tls_note(transport);
    return result;
}

/* ---- both ---- */

void transport_open(struct transport *transport, int fd)
{
    *transport = (struct transport){.operations = &plain, .fd = fd};
}

size_t transport_held_bytes(const struct transport *transport)
{
    return transport->holding ? tls_held_bytes(transport->tls) : 0;
}

void transport_forget_held(struct transport *transport)
{
    if (!transport->tls)
        return;
    tls_forget_held(transport->tls);
    tls_note(transport);
}

void transport_end(struct transport *transport)
{
    if (!transport->tls)
        return;
    tls_end(transport->tls);
    transport->operations = &plain;
    transport->wants_write = transport->has_input = false;
}

void transport_close(struct transport *transport)
{
    tls_free(transport->tls);
    close(transport->fd);
    *transport = (struct transport){.fd = -1};
}
