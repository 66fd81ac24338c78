/*
 * A non-blocking byte stream to host and port, plain or TLS: dialled (dial.h), an address where the handshake
 * fails counts as one that does not answer; then reading and writing. libevent's bufferevents would do most
 * of it, but they can't be driven without their loop, and what is queued must be sent at the end when the
 * loop has stopped (stream_wait).
 *
 * The object outlives its connections: open, close, open again. Any callback may close it. Main thread only.
 */
#ifndef OPALD_BROADCAST_NET_STREAM_H
#define OPALD_BROADCAST_NET_STREAM_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "broadcast/net/dial.h"
#include "broadcast/net/tls_client.h"

struct stream;

struct stream_callbacks {
    void (*open)(void *context);
    /* Bytes came. False: stop reading (stream_read(true) goes on); the bytes are taken in either case. */
    bool (*data)(void *context, const char *bytes, size_t length);
    /* after the data calls of one turn */
    void (*batch_end)(void *context);
    /* The attempt failed or the connection ended. The stream is closed already. */
    void (*lost)(void *context, const char *why);
};

struct stream_target {
    /* its connect timeout is that of the TLS handshake, too */
    struct dial_target to;
    /* NULL: plain */
    const struct tls_client_settings *tls;
};

struct stream *stream_make(struct event_base *base, const struct stream_callbacks *callbacks, void *context);
void stream_free(struct stream *stream);
/* `target` and what it points to must live until the stream is closed or lost. Callbacks come from the loop,
 * never inside this call. */
void stream_open(struct stream *stream, const struct stream_target *target);
void stream_close(struct stream *stream);
bool stream_is_open(const struct stream *stream);
/* Queues bytes; stream_flush tries to write them now. */
void stream_write(struct stream *stream, const void *bytes, size_t length);
void stream_flush(struct stream *stream);
size_t stream_unwritten(const struct stream *stream);
void stream_read(struct stream *stream, bool on);
/* Without the loop: waits at most timeout_ms for the connection and does what the loop would have done. */
void stream_wait(struct stream *stream, int timeout_ms);

#endif
