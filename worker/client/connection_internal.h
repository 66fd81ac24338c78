/* What connection.c and connections.c share; for these two only. */
#ifndef OPALD_WORKER_CLIENT_CONNECTION_INTERNAL_H
#define OPALD_WORKER_CLIENT_CONNECTION_INTERNAL_H

#include "worker/client/connection.h"
#include "worker/client/connections.h"
#include "worker/net/poller.h"
#include "worker/net/pool.h"

#define CONNECTION_READ_BUFFER (64 * 1024)

struct connections {
    uint32_t magic;
    struct connections_settings settings;
    struct poller *poller;
    struct deadlines *deadlines;
    struct pool *pool;
    /* all of them, newest first */
    struct connection *first;
    uint32_t count;
    bool draining;
    struct connection *settle;
    struct event *settle_event;
    /* for one read at a time */
    char read_buffer[CONNECTION_READ_BUFFER];
};

static inline const struct connection_stage_operations *operations_of(const struct connection *connection)
{
    return connection->stage->operations;
}

/* For the poller. */
void connection_ready(void *argument, bool readable, bool writable);
/* For the deadlines. */
void connection_deadline_expired(void *context, enum deadline_class which, struct deadline *deadline);
/* Reads once, if reading is armed. */
void connection_read(struct connection *connection);
/* Only one that is dead. */
void connection_free(struct connection *connection);

#endif
