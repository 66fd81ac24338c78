#include "broadcast/net/stream.h"

#include <event2/buffer.h>
#include <poll.h>
#include <stdlib.h>

#include "broadcast/net/stream_io.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define STREAM_MAGIC      0x7374726du
#define STREAM_READ_BYTES (64 * 1024)
/* reads in one turn of the loop */
#define STREAM_READ_BUDGET 8

enum stream_state { STREAM_CLOSED, STREAM_DIALLING, STREAM_HANDSHAKE, STREAM_OPEN };

struct stream {
    uint32_t magic;
    struct event_base *base;
    struct stream_callbacks callbacks;
    void *context;
    enum stream_state state;
    /* changes with each open and close: a callback may have closed what its caller works on */
    uint64_t generation;
    const struct stream_target *target;
    struct dial *dial;
    /* found at the start, reported from the loop */
    struct error failure;
    struct stream_io io;
    SSL_CTX *tls_context;
    bool reading;
    struct event *read_event;
    struct event *write_event;
    /* of the handshake, of a failure at the start */
    struct event *timer;
    /* more to read than the budget allowed, or bytes inside the TLS layer */
    struct event *again;
    struct evbuffer *output;
    /* STREAM_READ_BYTES */
    char *buffer;
};

static struct stream *stream_from(void *context)
{
    return object_cast(struct stream, STREAM_MAGIC, context);
}

/* ---- closing ---- */

static void stream_drop_socket(struct stream *stream)
{
    if (stream->read_event)
        event_free(stream->read_event);
    if (stream->write_event)
        event_free(stream->write_event);
    stream->read_event = stream->write_event = NULL;
    stream_io_close(&stream->io);
}

void stream_close(struct stream *stream)
{
    stream->generation++;
    stream->state = STREAM_CLOSED;
    stream_drop_socket(stream);
    SSL_CTX_free(stream->tls_context);
    stream->tls_context = NULL;
    dial_stop(stream->dial);
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
    bool want_write =
        stream->io.wants_write || (stream->state == STREAM_OPEN && evbuffer_get_length(stream->output));
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

static void stream_on_bytes(struct stream *stream)
{
    enum stream_io_result result = STREAM_IO_WAIT;
    uint64_t generation = stream->generation;
    size_t length = 0;
    bool any = false;
    for (int budget = STREAM_READ_BUDGET; stream->reading && budget > 0; budget--) {
        result = stream_io_receive(&stream->io, stream->buffer, STREAM_READ_BYTES, &length);
        if (result != STREAM_IO_DONE)
            break;
        any = true;
        if (!stream->callbacks.data(stream->context, stream->buffer, length))
            stream->reading = false;
        if (stream->generation != generation)
            return;
    }
    if (any)
        stream->callbacks.batch_end(stream->context);
    if (stream->generation != generation)
        return;
    if (result == STREAM_IO_FAILED) {
        stream_fail(stream, stream->io.why);
        return;
    }
    /* A socket with bytes left makes its event fire again; bytes that TLS has decrypted already don't. */
    if (stream->reading && stream_io_has_more(&stream->io))
        event_active(stream->again, EV_TIMEOUT, 0);
    stream_set_interest(stream);
}

void stream_flush(struct stream *stream)
{
    /* Left to the write event: a failure found here would be reported inside the caller's call. The event
     * fires at once when the socket takes bytes, so nothing is delayed beyond this turn. */
    if (stream->state == STREAM_OPEN)
        stream_set_interest(stream);
}

static void stream_on_writable(struct stream *stream)
{
    uint64_t generation = stream->generation;
    if (stream->io.wants_write) { /* a read that waited for this */
        stream->io.wants_write = false;
        stream_on_bytes(stream);
        if (stream->generation != generation)
            return;
    }
    if (stream_io_send(&stream->io, stream->output) == STREAM_IO_FAILED)
        stream_fail(stream, stream->io.why);
    else
        stream_set_interest(stream);
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

/* The handshake with this address failed. */
static void stream_handshake_failed(struct stream *stream, const char *why)
{
    struct error text = {0};
    error_set(
        &text, -1, "TLS handshake with %s:%d: %s", stream->target->to.host, stream->target->to.port, why);
    stream_drop_socket(stream);
    event_del(stream->timer);
    stream->state = STREAM_DIALLING;
    dial_next(stream->dial, text.text);
}

static void stream_handshake(struct stream *stream)
{
    switch (stream_io_handshake(&stream->io)) {
    case STREAM_IO_DONE:
        stream_opened(stream);
        break;
    case STREAM_IO_WAIT:
        stream_set_interest(stream);
        break;
    case STREAM_IO_FAILED:
        stream_handshake_failed(stream, stream->io.why);
        break;
    }
}

static void stream_do_io(struct stream *stream, bool readable, bool writable)
{
    uint64_t generation = stream->generation;
    switch (stream->state) {
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
    case STREAM_DIALLING:
        break;
    }
}

static void stream_on_event(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    stream_do_io(stream_from(context), what & EV_READ, what & EV_WRITE);
}

static void stream_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = stream_from(context);
    (void)descriptor;
    (void)what;
    if (stream->state == STREAM_OPEN)
        stream_on_bytes(stream);
}

static void stream_on_connected(void *context, int descriptor)
{
    struct stream *stream = stream_from(context);
    struct timeval limit = clock_timeval_ns(stream->target->to.connect_timeout_ns);
    stream->io.descriptor = descriptor;
    stream->read_event = event_new(stream->base, descriptor, EV_READ | EV_PERSIST, stream_on_event, stream);
    stream->write_event = event_new(stream->base, descriptor, EV_WRITE | EV_PERSIST, stream_on_event, stream);
    if (!stream->target->tls) {
        stream_opened(stream);
        return;
    }
    struct error err = {0};
    stream->io.tls = tls_client_session(
        stream->tls_context, stream->target->tls, descriptor, stream->target->to.host, &err);
    if (!stream->io.tls) {
        stream_fail(stream, err.text);
        return;
    }
    stream->state = STREAM_HANDSHAKE;
    event_add(stream->timer, &limit);
    stream_handshake(stream);
}

static void stream_on_dial_failed(void *context, const char *why)
{
    stream_fail(stream_from(context), why);
}

static void stream_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = stream_from(context);
    (void)descriptor;
    (void)what;
    if (stream->state == STREAM_HANDSHAKE)
        stream_handshake_failed(stream, "no answer in time");
    else
        stream_fail(stream, stream->failure.text);
}

/* ---- the outside ---- */

void stream_open(struct stream *stream, const struct stream_target *target)
{
    struct timeval now = {0, 0};
    stream_close(stream);
    stream->target = target;
    stream->state = STREAM_DIALLING;
    if (target->tls) {
        /* Read anew each time: certificates are replaced while a server runs. */
        stream->tls_context = tls_client_context(target->tls, &stream->failure);
        if (!stream->tls_context) {
            event_add(stream->timer, &now);
            return;
        }
    }
    dial_start(stream->dial, &target->to);
}

bool stream_is_open(const struct stream *stream)
{
    return stream->state == STREAM_OPEN;
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
    if (on && stream->io.tls)
        event_active(stream->again, EV_TIMEOUT, 0);
}

void stream_wait(struct stream *stream, int timeout_ms)
{
    if (!stream_is_open(stream))
        return;
    struct pollfd poll_one = {.fd = stream->io.descriptor, .events = POLLIN};
    if (evbuffer_get_length(stream->output) || stream->io.wants_write)
        poll_one.events |= POLLOUT;
    if (poll(&poll_one, 1, timeout_ms) <= 0)
        return;
    stream_do_io(stream, poll_one.revents & (POLLIN | POLLERR | POLLHUP), poll_one.revents & POLLOUT);
}

struct stream *stream_make(struct event_base *base, const struct stream_callbacks *callbacks, void *context)
{
    static const struct dial_callbacks dial_callbacks = {
        .connected = stream_on_connected, .failed = stream_on_dial_failed};
    struct stream *stream = memory_allocate(sizeof *stream);
    stream->magic = STREAM_MAGIC;
    stream->base = base;
    stream->callbacks = *callbacks;
    stream->context = context;
    stream->io.descriptor = -1;
    stream->dial = dial_make(base, &dial_callbacks, stream);
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
    dial_free(stream->dial);
    event_free(stream->timer);
    event_free(stream->again);
    evbuffer_free(stream->output);
    free(stream->buffer);
    stream->magic = 0;
    free(stream);
}
