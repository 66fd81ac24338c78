/*
 * What comes before the first byte of HTTP: the PROXY header of a trusted load balancer, then the TLS handshake. Both together have
 * OPAL_TLS_HANDSHAKE_TIMEOUT. A connection that needs neither never comes here.
 *
 * Signing is what a handshake costs (a millisecond with RSA): in one turn of the loop only so many are begun, so that a fleet which
 * reconnects does not hold up the deliveries. The others are still readable, and have their turn in the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/client/connection.h"
#include "worker/client/context.h"
#include "worker/net/poller.h"
#include "worker/net/proxy_header.h"
#include "worker/net/tls.h"

#define ENTRANCE_HANDSHAKES_PER_TURN 8

struct connection_entrance {
    bool proxy; /* its header is still to come */
    uint16_t used;
    uint8_t begun[PROXY_HEADER_MAX]; /* a header that comes in pieces */
};

static void entrance_end(struct connection *connection)
{
    free(connection->entrance);
    connection->entrance = NULL;
}

void connection_entrance_free(struct connection *connection)
{
    entrance_end(connection);
}

void connection_entrance_open(struct connection *connection)
{
    struct worker *worker = connection->worker;
    bool proxy = network_list_has(&worker->proxies, connection_http_address(connection));
    if (!proxy && !worker->tls)
        return;
    connection->entrance =
        memory_allocate(proxy ? sizeof *connection->entrance : offsetof(struct connection_entrance, begun));
    connection->entrance->proxy = proxy;
    deadline_set(worker->deadlines, &connection->deadline, DEADLINE_ENTRANCE);
}

static bool entrance_refuse(
    struct connection *connection, enum counter counter, const char *what, const char *why)
{
    struct worker *worker = connection->worker;
    worker_count(worker, counter, 1);
    log_write_limited(&worker->limit_entrance, LOG_WARNING, LOGGER_WORKER, "%s: refused: %s: %s",
        connection_http_peer(connection), what, why);
    entrance_end(connection);
    connection_http_end_of_input(connection);
    return false;
}

static bool proxy_refuse(struct connection *connection, const char *why)
{
    return entrance_refuse(connection, COUNTER_PROXY_HEADERS_REFUSED, "PROXY header", why);
}

/* Takes the header from the socket and not a byte more: what follows belongs to TLS or HTTP. */
static bool proxy_read(struct connection *connection)
{
    struct connection_entrance *entrance = connection->entrance;
    uint8_t *fresh = entrance->begun + entrance->used;
    struct proxy_header header;
    ssize_t length = recv(
        connection->transport.fd, fresh, sizeof entrance->begun - entrance->used, MSG_PEEK | MSG_DONTWAIT);
    if (length < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
                   ? false
                   : proxy_refuse(connection, "the connection broke");
    if (length == 0)
        return proxy_refuse(connection, "the connection ended");
    size_t seen = entrance->used + (size_t)length;
    enum proxy_header_result result = proxy_header_parse(entrance->begun, seen, &header);
    if (result == PROXY_HEADER_WRONG)
        return proxy_refuse(connection, header.wrong);
    size_t take = (result == PROXY_HEADER_MORE ? seen : header.length) - entrance->used;
    if (recv(connection->transport.fd, fresh, take, MSG_DONTWAIT) != (ssize_t)take)
        return proxy_refuse(connection, "the connection broke");
    entrance->used = (uint16_t)(entrance->used + take);
    if (result == PROXY_HEADER_MORE)
        return false;
    if (header.has_source) {
        connection->proxied = memory_copy(&header.source, sizeof header.source);
        connection_http_set_address(connection, &header.source);
    }
    entrance->proxy = false;
    return true;
}

static bool handshake(struct connection *connection)
{
    struct worker *worker = connection->worker;
    const char *why = "";
    uint64_t turn = poller_turn(worker->poller);
    if (worker->handshake_turn != turn) {
        worker->handshake_turn = turn;
        worker->handshakes = 0;
    }
    if (worker->handshakes >= ENTRANCE_HANDSHAKES_PER_TURN)
        return false;
    worker->handshakes++;
    if (!connection->transport.tls)
        transport_start_tls(&connection->transport, worker->tls);
    switch (transport_handshake(&connection->transport, &why)) {
    case TLS_AGAIN:
        return false;
    case TLS_FAILED:
        return entrance_refuse(connection, COUNTER_TLS_HANDSHAKES_FAILED, "TLS handshake", why);
    default:
        worker_count(worker, COUNTER_TLS_HANDSHAKES, 1);
        return true;
    }
}

bool connection_enter(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->state != CONNECTION_HTTP) {
        entrance_end(connection);
        return true;
    }
    if ((connection->entrance->proxy && !proxy_read(connection)) || (worker->tls && !handshake(connection))) {
        connection_update_events(connection);
        return false;
    }
    entrance_end(connection);
    deadline_set(
        worker->deadlines, &connection->deadline, worker->draining ? DEADLINE_FRESH : DEADLINE_HTTP_HEAD);
    return true;
}

void connection_entrance_late(struct connection *connection)
{
    if (connection->entrance->proxy)
        proxy_refuse(connection, "did not come in time");
    else
        entrance_refuse(connection, COUNTER_TLS_HANDSHAKES_FAILED, "TLS handshake", "did not end in time");
}
