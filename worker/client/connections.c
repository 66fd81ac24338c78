#include "worker/client/connection_internal.h"

#include <stdlib.h>
#include "shm/common/memory.h"
#include "shm/worker_table.h"

#define CONNECTIONS_MAGIC     UINT32_C(0xa11c0225)
#define CONNECTION_CACHE_LINE 64

static void connections_settle(struct connections *connections)
{
    struct connection *list = connections->settle;
    connections->settle =
        NULL; /* what comes while it is worked through has its turn in the loop's next round */
    while (list) {
        struct connection *connection = list;
        list = connection->next_settle;
        connection->settling = false;
        if (connection->state == CONNECTION_UP && operations_of(connection)->settle)
            operations_of(connection)->settle(connection);
        if (connection->read_armed && connection->transport.has_input)
            connection_read(connection);
        if (connection->state == CONNECTION_DEAD && !connection->settling)
            connection_free(connection);
    }
}

static void connections_on_settle(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    connections_settle(object_cast(struct connections, CONNECTIONS_MAGIC, argument));
}

struct connections *connections_open(const struct connections_settings *settings, struct error *err)
{
    struct poller *poller = poller_open(settings->base, connection_ready, err);
    if (!poller)
        return NULL;
    struct connections *connections = memory_allocate(sizeof *connections);
    connections->magic = CONNECTIONS_MAGIC;
    connections->settings = *settings;
    connections->poller = poller;
    connections->pool = pool_open(sizeof(struct connection), CONNECTION_CACHE_LINE);
    connections->deadlines = deadlines_open(settings->base, connection_deadline_expired, connections);
    connections->settle_event = event_new(settings->base, -1, 0, connections_on_settle, connections);
    if (!connections->settle_event)
        abort(); /* only out of memory */
    return connections;
}

void connections_close(struct connections *connections)
{
    if (!connections)
        return;
    for (struct connection *at = connections->first; at; at = at->next)
        connection_kill(at);
    connections_settle(connections);
    event_free(connections->settle_event);
    deadlines_close(connections->deadlines);
    pool_close(connections->pool);
    poller_close(connections->poller);
    connections->magic = 0;
    free(connections);
}

struct deadlines *connections_deadlines(struct connections *connections)
{
    return connections->deadlines;
}

struct connection *connections_add(struct connections *connections, int fd)
{
    const struct worker_counters *counters = &connections->settings.counters;
    struct connection *connection = pool_allocate(connections->pool);
    connection->magic = CONNECTION_MAGIC;
    connection->owner = connections;
    transport_open(&connection->transport, fd);
    connection->delivery_first = connection->delivery_last = CONNECTION_NO_DELIVERY;
    connection->next = connections->first;
    if (connections->first)
        connections->first->previous = connection;
    connections->first = connection;
    worker_table_set_connections(counters->segment, counters->slot, ++connections->count);
    return connection;
}

struct connection *connections_first(const struct connections *connections)
{
    return connections->first;
}

uint32_t connections_count(const struct connections *connections)
{
    return connections->count;
}

uint64_t connections_turn(const struct connections *connections)
{
    return poller_turn(connections->poller);
}

void connections_drain(struct connections *connections)
{
    connections->draining = true;
    for (struct connection *at = connections->first; at; at = at->next)
        if (at->state == CONNECTION_UP && operations_of(at)->drain)
            operations_of(at)->drain(at);
}

bool connections_are_draining(const struct connections *connections)
{
    return connections->draining;
}

void connections_stop(struct connections *connections)
{
    for (struct connection *at = connections->first; at; at = at->next)
        if (at->state == CONNECTION_UP && operations_of(at)->stop)
            operations_of(at)->stop(at);
}
