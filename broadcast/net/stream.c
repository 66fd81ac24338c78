#include "broadcast/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broadcast/net/resolver.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"

#define STREAM_MAGIC       0x7374726du
#define STREAM_READ_BYTES  (64 * 1024)
#define STREAM_READ_BUDGET 8           /* reads in one turn of the loop */
#define STREAM_WRITE_BYTES (64 * 1024) /* made contiguous for one TLS write */
#define STREAM_WHY_MAX     300
/* Keepalive probes as the reference's Postgres defaults have them: noticed after 30 + 3 * 10 seconds of silence. */
#define STREAM_KEEPALIVE_IDLE     30
#define STREAM_KEEPALIVE_INTERVAL 10
#define STREAM_KEEPALIVE_COUNT    3

enum stream_state { STREAM_CLOSED, STREAM_RESOLVING, STREAM_CONNECTING, STREAM_HANDSHAKE, STREAM_OPEN };

struct stream {
    uint32_t magic;
    struct event_base *base;
    struct stream_callbacks callbacks;
    void *context;
    enum stream_state state;
    uint64_t
        generation; /* changes with each open and close: a callback may have closed what its caller works on */
    const struct stream_target *target;
    struct resolver *resolver;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;
    struct error failure; /* of the last address that failed */
    int descriptor;       /* -1: none */
    SSL_CTX *tls_context;
    SSL *tls;
    bool tls_wants_write; /* the handshake, or a read, waits for the socket to take bytes */
    bool reading;
    struct event *read_event;
    struct event *write_event;
    struct event *timer; /* of the attempt */
    struct event *again; /* more to read than the budget allowed, or bytes inside the TLS layer */
    struct evbuffer *output;
    char *buffer; /* STREAM_READ_BYTES */
};

static void stream_try_next_address(struct stream *stream);
static void stream_handshake(struct stream *stream);

/* ---- closing ---- */

static void stream_drop_socket(struct stream *stream)
{
    if (stream->read_event)
        event_free(stream->read_event);
    if (stream->write_event)
        event_free(stream->write_event);
    stream->read_event = stream->write_event = NULL;
    SSL_free(stream->tls);
    stream->tls = NULL;
    stream->tls_wants_write = false;
    if (stream->descriptor >= 0)
        close(stream->descriptor);
    stream->descriptor = -1;
}

void stream_close(struct stream *stream)
{
    stream->generation++;
    stream->state = STREAM_CLOSED;
    stream_drop_socket(stream);
    SSL_CTX_free(stream->tls_context);
    stream->tls_context = NULL;
    resolver_cancel(stream->resolver);
    stream->resolver = NULL;
    event_del(stream->timer);
    event_del(stream->again);
    evbuffer_drain(stream->output, evbuffer_get_length(stream->output));
}

static void stream_fail(struct stream *stream, const char *why)
{
    struct error copy = {0};
    error_set(&copy, -1, "%s", why); /* `why` may be changed by what is called from here */
    stream_close(stream);
    stream->callbacks.lost(stream->context, copy.text);
}

/* ---- events ---- */

static void stream_set_interest(struct stream *stream)
{
    bool want_read = stream->state == STREAM_HANDSHAKE || (stream->state == STREAM_OPEN && stream->reading);
    bool want_write = stream->state == STREAM_CONNECTING || stream->tls_wants_write ||
                      (stream->state == STREAM_OPEN && evbuffer_get_length(stream->output));
    if (!stream->read_event)
        return;
    if (want_read)
        event_add(stream->read_event, NULL);
    else
        event_del(stream->read_event);
    if (want_write)
        event_add(stream->write_event, NULL);
    else
        event_del(stream->write_event);
}

/* -1 and `why` on a dead connection, 0 when nothing is there just now, else the number of bytes. */
static ssize_t stream_receive(struct stream *stream, char *why, size_t size)
{
    if (!stream->tls) {
        ssize_t got = recv(stream->descriptor, stream->buffer, STREAM_READ_BYTES, 0);
        if (got > 0)
            return got;
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        snprintf(why, size, "%s", got == 0 ? "connection closed by the other end" : strerror(errno));
        return -1;
    }
    ERR_clear_error();
    errno = 0;
    int got = SSL_read(stream->tls, stream->buffer, STREAM_READ_BYTES);
    if (got > 0)
        return got;
    int kind = SSL_get_error(stream->tls, got);
    if (kind == SSL_ERROR_WANT_READ)
        return 0;
    if (kind == SSL_ERROR_WANT_WRITE) {
        stream->tls_wants_write = true;
        return 0;
    }
    tls_client_explain(stream->tls, got, why, size);
    return -1;
}

static void stream_on_bytes(struct stream *stream)
{
    char why[STREAM_WHY_MAX];
    uint64_t generation = stream->generation;
    int budget = STREAM_READ_BUDGET;
    ssize_t got = 0;
    bool any = false;
    while (stream->reading && budget-- > 0 && (got = stream_receive(stream, why, sizeof why)) > 0) {
        any = true;
        if (!stream->callbacks.data(stream->context, stream->buffer, (size_t)got))
            stream->reading = false;
        if (stream->generation != generation)
            return;
    }
    if (any)
        stream->callbacks.batch_end(stream->context);
    if (stream->generation != generation)
        return;
    if (got < 0) {
        stream_fail(stream, why);
        return;
    }
    /* A socket with bytes left makes its event fire again; bytes that TLS has decrypted already don't. */
    if (stream->reading && stream->tls && SSL_pending(stream->tls) > 0)
        event_active(stream->again, EV_TIMEOUT, 0);
    stream_set_interest(stream);
}

/* False when the connection is gone. */
static bool stream_send(struct stream *stream)
{
    char why[STREAM_WHY_MAX];
    while (evbuffer_get_length(stream->output)) {
        if (!stream->tls) {
            if (evbuffer_write(stream->output, stream->descriptor) >= 0)
                continue;
            if (errno == EAGAIN || errno == EINTR)
                return true;
            snprintf(why, sizeof why, "%s", strerror(errno));
        } else {
            size_t length = evbuffer_get_length(stream->output);
            if (length > STREAM_WRITE_BYTES)
                length = STREAM_WRITE_BYTES;
            ERR_clear_error();
            errno = 0;
            int sent =
                SSL_write(stream->tls, evbuffer_pullup(stream->output, (ev_ssize_t)length), (int)length);
            if (sent > 0) {
                evbuffer_drain(stream->output, (size_t)sent);
                continue;
            }
            int kind = SSL_get_error(stream->tls, sent);
            if (kind == SSL_ERROR_WANT_WRITE || kind == SSL_ERROR_WANT_READ)
                return true;
            tls_client_explain(stream->tls, sent, why, sizeof why);
        }
        stream_fail(stream, why);
        return false;
    }
    return true;
}

void stream_flush(struct stream *stream)
{
    /* Left to the write event: a failure found here would be reported inside the caller's call. The event fires at once when the socket takes
     * bytes, so nothing is delayed beyond this turn. */
    if (stream->state == STREAM_OPEN)
        stream_set_interest(stream);
}

static void stream_on_writable(struct stream *stream)
{
    bool had = evbuffer_get_length(stream->output) != 0;
    uint64_t generation = stream->generation;
    if (stream->tls_wants_write) { /* a read that waited for this */
        stream->tls_wants_write = false;
        stream_on_bytes(stream);
        if (stream->generation != generation)
            return;
    }
    if (!stream_send(stream))
        return;
    stream_set_interest(stream);
    if (had && !evbuffer_get_length(stream->output) && stream->callbacks.drained)
        stream->callbacks.drained(stream->context);
}

/* ---- connecting ---- */

static void stream_opened(struct stream *stream)
{
    event_del(stream->timer);
    stream->state = STREAM_OPEN;
    stream->reading = true;
    stream_set_interest(stream);
    stream->callbacks.open(stream->context);
}

static void stream_address_failed(struct stream *stream, const char *doing, const char *why)
{
    error_set(&stream->failure, -1, "%s %s:%d: %s", doing, stream->target->host, stream->target->port, why);
    stream_drop_socket(stream);
    stream_try_next_address(stream);
}

static void stream_handshake(struct stream *stream)
{
    char why[STREAM_WHY_MAX];
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(stream->tls);
    if (result == 1) {
        stream->tls_wants_write = false;
        stream_opened(stream);
        return;
    }
    int kind = SSL_get_error(stream->tls, result);
    stream->tls_wants_write = kind == SSL_ERROR_WANT_WRITE;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        stream_set_interest(stream);
        return;
    }
    tls_client_explain(stream->tls, result, why, sizeof why);
    stream_address_failed(stream, "TLS handshake with", why);
}

static void stream_connected(struct stream *stream)
{
    int failure = 0;
    socklen_t length = sizeof failure;
    if (getsockopt(stream->descriptor, SOL_SOCKET, SO_ERROR, &failure, &length) < 0)
        failure = errno;
    if (failure) {
        stream_address_failed(stream, "cannot connect to", strerror(failure));
        return;
    }
    if (!stream->target->tls) {
        stream_opened(stream);
        return;
    }
    struct error err = {0};
    stream->tls = tls_client_session(
        stream->tls_context, stream->target->tls, stream->descriptor, stream->target->host, &err);
    if (!stream->tls) {
        stream_fail(stream, err.text);
        return;
    }
    stream->state = STREAM_HANDSHAKE;
    stream_handshake(stream);
}

static void stream_do_io(struct stream *stream, bool readable, bool writable)
{
    uint64_t generation = stream->generation;
    switch (stream->state) {
    case STREAM_CONNECTING:
        if (writable)
            stream_connected(stream);
        break;
    case STREAM_HANDSHAKE:
        stream_handshake(stream);
        break;
    case STREAM_OPEN:
        if (writable)
            stream_on_writable(stream);
        if (readable && stream->generation == generation)
            stream_on_bytes(stream);
        break;
    case STREAM_CLOSED:
    case STREAM_RESOLVING:
        break;
    }
}

static void stream_on_event(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    stream_do_io(context, what & EV_READ, what & EV_WRITE);
}

static void stream_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = context;
    assert(stream->magic == STREAM_MAGIC);
    (void)descriptor;
    (void)what;
    if (stream->state == STREAM_OPEN)
        stream_on_bytes(stream);
}

static void stream_set_options(const struct stream *stream)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, STREAM_KEEPALIVE_IDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL, STREAM_KEEPALIVE_INTERVAL},
        {IPPROTO_TCP, TCP_KEEPCNT, STREAM_KEEPALIVE_COUNT},
    };
    unsigned user_timeout = (unsigned)(stream->target->user_timeout_ns / CLOCK_MILLISECOND);
    /* Each is a help, none is needed: failures are of no interest. */
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(stream->descriptor, options[i].level, options[i].name, &options[i].value, sizeof(int));
    if (user_timeout)
        setsockopt(stream->descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
}

static void stream_arm_timer(struct stream *stream)
{
    uint64_t ns = stream->target->connect_timeout_ns;
    struct timeval after = clock_timeval_ns(ns);
    event_add(stream->timer, &after);
}

static void stream_try_next_address(struct stream *stream)
{
    while (stream->address_next < stream->address_count) {
        const struct resolver_address *address = &stream->addresses[stream->address_next++];
        stream->descriptor =
            socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
        if (stream->descriptor < 0) {
            error_set(&stream->failure, -1, "cannot make a socket: %s", strerror(errno));
            continue;
        }
        stream_set_options(stream);
        if (connect(stream->descriptor, (const struct sockaddr *)&address->address, address->length) < 0 &&
            errno != EINPROGRESS) {
            error_set(&stream->failure, -1, "cannot connect to %s:%d: %s", stream->target->host,
                stream->target->port, strerror(errno));
            stream_drop_socket(stream);
            continue;
        }
        stream->state = STREAM_CONNECTING;
        stream->read_event =
            event_new(stream->base, stream->descriptor, EV_READ | EV_PERSIST, stream_on_event, stream);
        stream->write_event =
            event_new(stream->base, stream->descriptor, EV_WRITE | EV_PERSIST, stream_on_event, stream);
        stream_arm_timer(stream);
        stream_set_interest(stream);
        return;
    }
    stream_fail(stream, stream->failure.text);
}

static void stream_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = context;
    assert(stream->magic == STREAM_MAGIC);
    (void)descriptor;
    (void)what;
    if (stream->state == STREAM_RESOLVING) {
        error_set(
            &stream->failure, -1, "no answer from the name service for '%s' in time", stream->target->host);
        stream_fail(stream, stream->failure.text);
    } else if (stream->state == STREAM_CONNECTING) {
        stream_address_failed(stream, "cannot connect to", "no answer in time");
    } else if (stream->state == STREAM_HANDSHAKE) {
        stream_address_failed(stream, "TLS handshake with", "no answer in time");
    } else if (stream->state == STREAM_OPEN && stream->address_count == 0) {
        stream_fail(stream, stream->failure.text); /* found at the start, told from the loop */
    }
}

static void stream_on_resolved(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure)
{
    struct stream *stream = context;
    assert(stream->magic == STREAM_MAGIC);
    stream->resolver = NULL; /* frees itself */
    if (failure) {
        error_set(&stream->failure, -1, "cannot resolve '%s': %s", stream->target->host, failure);
        stream_fail(stream, stream->failure.text);
        return;
    }
    memcpy(stream->addresses, addresses, count * sizeof *addresses);
    stream->address_count = count;
    stream->address_next = 0;
    stream_try_next_address(stream);
}

/* ---- the outside ---- */

void stream_open(struct stream *stream, const struct stream_target *target)
{
    struct error err = {0};
    struct timeval now = {0, 0};
    stream_close(stream);
    stream->target = target;
    stream->address_count = 0;
    stream->failure = (struct error){0};
    if (target->tls) {
        /* Read anew each time: certificates are replaced while a server runs. */
        stream->tls_context = tls_client_context(target->tls, &err);
        if (!stream->tls_context) {
            error_set(&stream->failure, -1, "%s", err.text);
            stream->state = STREAM_OPEN;
            event_add(stream->timer, &now);
            return;
        }
    }
    stream->state = STREAM_RESOLVING;
    stream_arm_timer(stream);
    stream->resolver = resolver_start(stream->base, target->host, target->port, stream_on_resolved, stream);
}

bool stream_is_open(const struct stream *stream)
{
    return stream->state == STREAM_OPEN && stream->descriptor >= 0;
}

void stream_write(struct stream *stream, const void *bytes, size_t length)
{
    if (stream->state == STREAM_OPEN)
        evbuffer_add(stream->output, bytes, length);
}

size_t stream_unwritten(const struct stream *stream)
{
    return evbuffer_get_length(stream->output);
}

void stream_read(struct stream *stream, bool on)
{
    if (stream->reading == on)
        return;
    stream->reading = on;
    if (stream->state != STREAM_OPEN)
        return;
    stream_set_interest(stream);
    if (on && stream->tls)
        event_active(stream->again, EV_TIMEOUT, 0);
}

void stream_wait(struct stream *stream, int timeout_ms)
{
    if (!stream_is_open(stream))
        return;
    struct pollfd poll_one = {.fd = stream->descriptor, .events = POLLIN};
    if (evbuffer_get_length(stream->output) || stream->tls_wants_write)
        poll_one.events |= POLLOUT;
    if (poll(&poll_one, 1, timeout_ms) <= 0)
        return;
    stream_do_io(stream, poll_one.revents & (POLLIN | POLLERR | POLLHUP), poll_one.revents & POLLOUT);
}

struct stream *stream_make(struct event_base *base, const struct stream_callbacks *callbacks, void *context)
{
    struct stream *stream = memory_allocate(sizeof *stream);
    stream->magic = STREAM_MAGIC;
    stream->base = base;
    stream->callbacks = *callbacks;
    stream->context = context;
    stream->descriptor = -1;
    stream->output = evbuffer_new();
    stream->buffer = memory_allocate(STREAM_READ_BYTES);
    stream->timer = event_new(base, -1, 0, stream_on_timer, stream);
    stream->again = event_new(base, -1, 0, stream_on_again, stream);
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    stream_close(stream);
    event_free(stream->timer);
    event_free(stream->again);
    evbuffer_free(stream->output);
    free(stream->buffer);
    stream->magic = 0;
    free(stream);
}
