/*
 * The messages of this server that the backbone has not acknowledged yet, oldest first:
 *
 *     oldest                                              newest
 *     | in flight: handed to a connection | waiting |
 *     ^ acknowledged from here            ^ next    ^ appended here
 *
 * Acknowledgements come in order, one message each. When the connection dies before them, `rewind` makes the
 * messages in flight wait again: they are sent once more (at least once, never out of order).
 *
 * Bounded by messages and bytes. A message that finds no room pushes out the oldest waiting one (the
 * reference's choice: what is newest matters most to a client that only wants the present state); one in
 * flight is never pushed out, or the acknowledgements would no longer match. Pure: no I/O, no log; the caller
 * counts and logs what is dropped.
 */
#ifndef OPALD_BROADCAST_RELAY_REPLAY_BUFFER_H
#define OPALD_BROADCAST_RELAY_REPLAY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct replay_buffer;

struct replay_buffer *replay_buffer_make(size_t max_messages, size_t max_bytes);
void replay_buffer_free(struct replay_buffer *buffer);
/* New bounds. What is there stays, also when it is more; the bounds count when something is appended. */
void replay_buffer_limit(struct replay_buffer *buffer, size_t max_messages, size_t max_bytes);

/* Copies `message`. A `control` message (heartbeat) goes ahead of all that waits and is not worth replaying:
 * rewind drops it. Returns how many older messages were dropped to make room in *dropped. False when there is
 * no room even so (everything is in flight, the message alone exceeds the bounds, or max_messages is 0): it
 * is not appended, and nothing was dropped for it. */
MUST_CHECK bool replay_buffer_append(
    struct replay_buffer *buffer, struct slice message, bool control, size_t *dropped);

/* Tokens: the caller's name for a message somebody asks after (0: nobody does). `dropped` is told those of
 * messages that append and clear throw away, from within these calls; it must not touch the buffer. */
typedef void replay_buffer_dropped(void *context, uint64_t token);
void replay_buffer_on_dropped(struct replay_buffer *buffer, replay_buffer_dropped *dropped, void *context);
/* Names the newest message: the one appended last. */
void replay_buffer_set_token(struct replay_buffer *buffer, uint64_t token);
/* The token of the message that `done` would take; 0 when it has none, or nothing is in flight. */
uint64_t replay_buffer_token_in_flight(const struct replay_buffer *buffer);

/* The oldest waiting message, if any (`control_only`: if it is a control message); valid until it is
 * acknowledged, refused or dropped. It stays waiting until `sent`. */
MUST_CHECK bool replay_buffer_next(
    const struct replay_buffer *buffer, bool control_only, struct slice *message);
/* The message of `next` is in flight now. */
void replay_buffer_sent(struct replay_buffer *buffer);
/* The oldest in flight is done (acknowledged or given up). False when nothing is in flight: the peer
 * acknowledged what it never got. `*control` says what kind it was. */
MUST_CHECK bool replay_buffer_done(struct replay_buffer *buffer, bool *control);
/* The message that `done` would take. */
MUST_CHECK bool replay_buffer_oldest_in_flight(const struct replay_buffer *buffer, struct slice *message);
/* Everything in flight waits again; control messages are dropped, in flight or waiting. */
void replay_buffer_rewind(struct replay_buffer *buffer);
/* Drops everything; returns how many real (not control) messages that were. */
size_t replay_buffer_clear(struct replay_buffer *buffer);

/* in flight and waiting, without control messages */
size_t replay_buffer_count(const struct replay_buffer *buffer);
/* all kinds */
size_t replay_buffer_in_flight(const struct replay_buffer *buffer);
size_t replay_buffer_bytes(const struct replay_buffer *buffer);
size_t replay_buffer_in_flight_bytes(const struct replay_buffer *buffer);

#endif
