/*
 * Signing is what a handshake costs (a millisecond with RSA): in one turn of the loop only so many are begun,
 * so that a fleet which reconnects does not hold up the deliveries. The others are still readable, and have
 * their turn in the next.
 */
#include "worker/client/preamble.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "worker/client/peer_address.h"
#include "worker/net/proxy_header.h"

#define PREAMBLE_STAGE_MAGIC         UINT32_C(0x92ea3b1e)
#define PREAMBLE_HANDSHAKES_PER_TURN 8

struct preamble_stage {
    struct connection_stage stage;
    struct preamble_settings settings;
    /* who has to send a PROXY header */
    struct network_list proxies;
    uint64_t handshake_turn;
    /* begun in this turn */
    unsigned handshakes;
    struct log_limiter limit_refused;
};

/* One connection's. */
struct preamble {
    /* the PROXY header is still to come */
    bool proxy;
    uint16_t used;
    /* a header that comes in pieces; there only if one comes at all */
    uint8_t begun[PROXY_HEADER_MAX];
};

static struct preamble_stage *stage_of(const struct connection *connection)
{
    return object_cast(struct preamble_stage, PREAMBLE_STAGE_MAGIC, connection->stage);
}

static void preamble_free(struct connection *connection)
{
    free(connection->preamble);
    connection->preamble = NULL;
}

static void preamble_end(struct connection *connection)
{
    struct preamble_stage *stage = stage_of(connection);
    preamble_free(connection);
    connection_http_begin(stage->settings.next, connection);
}

static void preamble_refuse(
    struct connection *connection, enum counter counter, const char *what, const char *why)
{
    struct preamble_stage *stage = stage_of(connection);
    char peer[PEER_ADDRESS_TEXT];
    struct network_address address;
    peer_address_read(connection, &address);
    worker_count(&stage->settings.counters, counter, 1);
    log_write_limited(&stage->limit_refused, LOG_WARNING, LOGGER_WORKER, "%s: refused: %s: %s",
        peer_address_format(&address, peer), what, why);
    connection_finish(connection);
}

/* ---- PROXY header ---- */

static bool proxy_refuse(struct connection *connection, const char *why)
{
    preamble_refuse(connection, COUNTER_PROXY_HEADERS_REFUSED, "PROXY header", why);
    return false;
}

/* Takes the header from the socket and not a byte more: what follows belongs to TLS or HTTP. */
static bool proxy_read(struct connection *connection)
{
    struct preamble *preamble = connection->preamble;
    int fd = connection->transport.fd;
    uint8_t *fresh = preamble->begun + preamble->used;
    struct proxy_header header;
    ssize_t length = recv(fd, fresh, sizeof preamble->begun - preamble->used, MSG_PEEK | MSG_DONTWAIT);
    if (length < 0)
        return transport_would_block(errno) ? false : proxy_refuse(connection, "the connection broke");
    if (length == 0)
        return proxy_refuse(connection, "the connection ended");
    size_t seen = preamble->used + (size_t)length;
    enum proxy_header_result result = proxy_header_parse(preamble->begun, seen, &header);
    if (result == PROXY_HEADER_WRONG)
        return proxy_refuse(connection, header.wrong);
    size_t take = (result == PROXY_HEADER_MORE ? seen : header.length) - preamble->used;
    if (recv(fd, fresh, take, MSG_DONTWAIT) != (ssize_t)take)
        return proxy_refuse(connection, "the connection broke");
    preamble->used = (uint16_t)(preamble->used + take);
    if (result == PROXY_HEADER_MORE)
        return false;
    if (header.has_source)
        peer_address_set(connection, &header.source);
    preamble->proxy = false;
    return true;
}

/* ---- TLS handshake ---- */

static void handshake_refuse(struct connection *connection, const char *why)
{
    preamble_refuse(connection, COUNTER_TLS_HANDSHAKES_FAILED, "TLS handshake", why);
}

static bool handshake_has_turn(struct preamble_stage *stage, const struct connection *connection)
{
    uint64_t turn = connections_turn(connection->owner);
    if (stage->handshake_turn != turn) {
        stage->handshake_turn = turn;
        stage->handshakes = 0;
    }
    return stage->handshakes++ < PREAMBLE_HANDSHAKES_PER_TURN;
}

static bool handshake(struct connection *connection)
{
    struct preamble_stage *stage = stage_of(connection);
    const char *why = "";
    if (!handshake_has_turn(stage, connection))
        return false;
    if (!connection->transport.tls)
        transport_start_tls(&connection->transport, stage->settings.tls);
    switch (transport_handshake(&connection->transport, &why)) {
    case TLS_AGAIN:
        return false;
    case TLS_FAILED:
        handshake_refuse(connection, why);
        return false;
    case TLS_DONE:
        break;
    }
    worker_count(&stage->settings.counters, COUNTER_TLS_HANDSHAKES, 1);
    return true;
}

/* ---- the stage ---- */

static bool preamble_ready(struct connection *connection)
{
    if ((connection->preamble->proxy && !proxy_read(connection)) ||
        (stage_of(connection)->settings.tls && !handshake(connection))) {
        connection_update_events(connection);
        return false;
    }
    preamble_end(connection);
    return connection->state == CONNECTION_UP;
}

static void preamble_deadline(struct connection *connection, enum deadline_class which)
{
    if (which != DEADLINE_PREAMBLE) /* the time for those that are taken while the worker stops */
        connection_kill(connection);
    else if (connection->preamble->proxy)
        (void)proxy_refuse(connection, "did not come in time");
    else
        handshake_refuse(connection, "did not end in time");
}

static void preamble_drain(struct connection *connection)
{
    connection_set_deadline(connection, DEADLINE_FRESH);
}

static const struct connection_stage_operations preamble_operations = {
    .ready = preamble_ready,
    .deadline = preamble_deadline,
    .drain = preamble_drain,
    .free = preamble_free,
};

void preamble_begin(struct preamble_stage *stage, struct connection *connection)
{
    struct network_address address = {0};
    if (stage->proxies.count > 0 || stage->proxies.any)
        peer_address_read(connection, &address);
    bool proxy = network_list_has(&stage->proxies, &address);
    if (!proxy && !stage->settings.tls) {
        connection_http_begin(stage->settings.next, connection);
        return;
    }
    connection->stage = &stage->stage;
    connection->preamble =
        memory_allocate(proxy ? sizeof *connection->preamble : offsetof(struct preamble, begun));
    connection->preamble->proxy = proxy;
    connection_set_deadline(
        connection, connections_are_draining(connection->owner) ? DEADLINE_FRESH : DEADLINE_PREAMBLE);
    connection_update_events(connection);
}

struct preamble_stage *preamble_stage_open(const struct preamble_settings *settings, struct error *err)
{
    const struct config_list *proxies = &settings->config->proxy_protocol_from;
    struct preamble_stage *stage = memory_allocate(sizeof *stage);
    stage->stage = (struct connection_stage){PREAMBLE_STAGE_MAGIC, &preamble_operations};
    stage->settings = *settings;
    if (network_list_parse(&stage->proxies, proxies->items, proxies->count, err) == 0)
        return stage;
    error_prefix(err, "OPAL_PROXY_PROTOCOL_FROM");
    preamble_stage_close(stage);
    return NULL;
}

void preamble_stage_close(struct preamble_stage *stage)
{
    if (!stage)
        return;
    network_list_free(&stage->proxies);
    stage->stage.magic = 0;
    free(stage);
}
