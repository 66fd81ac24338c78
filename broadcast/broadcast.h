/*
 * The backbone that links servers, behind one small interface. The master opens one; it knows nothing of
 * workers or websockets. Everything is non-blocking and driven by the event base given; callbacks
 * (broadcast/backend/backend.h) come from that loop, in the master's main thread.
 */
#ifndef OPALD_BROADCAST_BROADCAST_H
#define OPALD_BROADCAST_BROADCAST_H

#include "broadcast/backend/backend.h"

struct broadcast;

/* Checks scheme and URI without connecting; -1 with a text that lists the schemes. */
MUST_CHECK int broadcast_check_uri(const char *uri, struct error *err);
/* As above, and whether these settings can work at all; connects to nothing. -1 with the reason. */
MUST_CHECK int broadcast_check_settings(const struct broadcast_settings *settings, struct error *err);
/* Starts connecting; NULL with `err` set when the settings can't work. `settings` and what it points to
 * must outlive the broadcast. */
MUST_CHECK struct broadcast *broadcast_open(struct event_base *base,
    const struct broadcast_settings *settings, const struct broadcast_callbacks *callbacks, void *context,
    struct error *err);
/* Hands one event, one message per topic, to the backbone: queued in memory (bounded), sent in order, retried
 * until acknowledged. -1 with errno ENOBUFS when the queue is full, EMSGSIZE when it can't be carried; the
 * backend has logged and counted it. `token`: 0, or the caller's name for the message, reported by
 * callbacks.acknowledged (several may share one); not after a -1. */
MUST_CHECK int broadcast_publish(
    struct broadcast *broadcast, struct slice topic, struct slice data, uint64_t token);
/* After an event callback returned false. */
void broadcast_resume(struct broadcast *broadcast);
/* The largest event that the backbone takes, in bytes (UINT64_MAX when unknown). To be compared with the size
 * of an event with its websocket envelope, which is longer than any backbone's. When it changes,
 * callbacks.state is called with the present state. */
uint64_t broadcast_message_max(const struct broadcast *broadcast);
/* Sends what is queued, for at most `grace_ms`, then closes and frees. Returns the number of messages that
 * could not be sent. */
size_t broadcast_close(struct broadcast *broadcast, int grace_ms);

#endif
