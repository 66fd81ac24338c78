/*
 * One connection to Redis: connect, authenticate, choose the database, subscribe or say PING, then replies
 * one by one (RESP2). What the replies mean after that is the caller's business. Opens again and again; any
 * callback may close it. Main thread only.
 */
#ifndef OPALD_BROADCAST_REDIS_REDIS_CONNECTION_H
#define OPALD_BROADCAST_REDIS_REDIS_CONNECTION_H

#include <event2/event.h>
#include <stdbool.h>
#include "broadcast/redis/redis_reply.h"
#include "broadcast/redis/redis_uri.h"
#include "broadcast/net/stream.h"

struct redis_connection;

struct redis_connection_callbacks {
    /* every step of the start was answered well */
    void (*live)(void *context);
    /* False: keep the next replies until redis_connection_read(true). */
    bool (*reply)(void *context, const struct redis_reply *reply);
    void (*batch_end)(void *context);
    /* closed already */
    void (*lost)(void *context, const char *why);
};

/* `uri` and `subscribe_to` (NULL: a connection for sending) must outlive the connection. */
struct redis_connection *redis_connection_make(struct event_base *base, const struct redis_uri *uri,
    const char *subscribe_to, uint64_t user_timeout_ns, size_t reply_max_bytes,
    const struct redis_connection_callbacks *callbacks, void *context);
void redis_connection_free(struct redis_connection *connection);
void redis_connection_open(struct redis_connection *connection);
void redis_connection_close(struct redis_connection *connection);
/* Queues a command; redis_connection_flush has it written. */
void redis_connection_command(struct redis_connection *connection, int count, const struct slice *arguments);
void redis_connection_flush(struct redis_connection *connection);
size_t redis_connection_unwritten(const struct redis_connection *connection);
void redis_connection_read(struct redis_connection *connection, bool on);
void redis_connection_wait(struct redis_connection *connection, int timeout_ms);

#endif
