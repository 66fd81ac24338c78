#include "worker/client/connection_http_internal.h"

#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "shm/common/memory.h"

/* A burst of connections: so many at once. */
#define HTTP_TRIM_PEAK 256

static size_t http_held(const struct connection *connection)
{
    return connection->http ? connection->http->held : 0;
}

static bool http_wants_input(const struct connection *connection)
{
    const struct connection_http *http = connection->http;
    /* A client that does not read its replies gets no further request answered: the backlog stays small, and
     * the stall limit ends it. */
    return !http->over && !connection->backlog && http_session_wants_input(http->session);
}

static void http_settle(struct connection *connection);

static void http_input(struct connection *connection, char *bytes, size_t length)
{
    struct connection_http *http = connection->http;
    if (http->over)
        return;
    http->idle = false;
    http->begun = true;
    http->on_stack = true;
    bool more = http_session_input(http->session, bytes, length);
    http->on_stack = false;
    size_t held = http_session_held(http->session);
    http_stage_of(connection)->settings.ledger->held += held - http->held;
    http->held = held;
    if (!more && !http->waits)
        http->over = true;
    if (http->over && connection->state == CONNECTION_UP)
        http_settle(connection);
}

static void http_end_of_input(struct connection *connection)
{
    connection->http->over = true;
    http_settle(connection);
}

static void http_timeout(struct connection *connection)
{
    struct connection_http *http = connection->http;
    http->on_stack = true;
    http_session_timeout(http->session);
    http->on_stack = false;
    http->over = true;
    if (connection->state == CONNECTION_UP)
        http_settle(connection);
}

static void forget_refusal(struct connection *connection)
{
    struct connection_http *http = connection->http;
    http_stage_of(connection)->refusals_held -= http->waits;
    http->waits = false;
    text_free(&http->late);
}

/* The held refusal's time has come. */
static void http_refuse(struct connection *connection)
{
    struct connection_http *http = connection->http;
    connection_send(connection, &(struct output_parts){.head = text_slice(&http->late)});
    if (connection->state != CONNECTION_UP)
        return;
    forget_refusal(connection);
    http->over = true;
    http_settle(connection);
}

static void http_deadline_passed(struct connection *connection, enum deadline_class which)
{
    switch (which) {
    case DEADLINE_HTTP_HEAD:
    case DEADLINE_HTTP_BODY:
    case DEADLINE_HTTP_IDLE:
        http_timeout(connection);
        break;
    case DEADLINE_REFUSAL:
        http_refuse(connection);
        break;
    case DEADLINE_BACKBONE: /* as when the publish is decided: the session settles by itself */
        http_session_backbone_late(connection->http->session);
        break;
    default:
        connection_kill(connection);
        break;
    }
}

static void http_stop(struct connection *connection)
{
    http_session_stop(connection->http->session);
}

static void http_drain(struct connection *connection)
{
    char byte;
    /* taken a moment ago, perhaps: its request may be on the way. Who is slow with it does not hold up the
     * end. */
    if (connection->deadline.which == DEADLINE_HTTP_HEAD) {
        connection_set_deadline(connection, DEADLINE_FRESH);
        return;
    }
    /* a request that has arrived but was not read yet is served; the session then ends at its next idle
     * time */
    if (connection->http->idle && recv(connection->transport.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
        connection->http->over = true;
        connection_settle_later(connection);
    }
}

static void http_free(struct connection *connection)
{
    struct http_stage *stage = http_stage_of(connection);
    struct connection_http *http = connection->http;
    if (!http)
        return;
    stage->settings.ledger->held -= http->held;
    http_session_free(http->session);
    forget_refusal(connection);
    token_claims_drop(http->claims);
    text_free(&http->query);
    text_free(&http->rest);
    free(http);
    connection->http = NULL;
    stage->count--;
}

/* Only of a connection that is closed for good: nothing of its session is on the stack. */
static void http_release(struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        http_free(connection);
}

/* 101 was sent: the connection is the websocket's. */
static void http_hand_over(struct connection *connection)
{
    struct connection_http *http = connection->http;
    struct websocket_stage *next = http_stage_of(connection)->settings.next;
    struct text query = http->query, rest = http->rest;
    struct forwarded_client client = http->client;
    struct websocket_opening opening = {
        .query = text_slice(&query),
        .claims = http->claims,
        .host = client.host[0] ? client.host : NULL,
        .port = client.host[0] ? client.port : http->address.port,
        .rest = (uint8_t *)rest.data,
        .rest_length = rest.length,
    };
    http->query = http->rest = (struct text){0};
    http->claims = NULL;
    http_free(connection);
    connection_clear_deadline(connection);
    websocket_session_start(next, connection, &opening);
    text_free(&query);
    text_free(&rest);
}

/* Ends the session if it is over. */
static void http_settle(struct connection *connection)
{
    struct connection_http *http = connection->http;
    if (http->on_stack)
        return;
    if (http->over && http->upgraded) {
        http_hand_over(connection);
    } else if (http->over) {
        http_free(connection);
        connection_finish(connection);
    }
    connection_update_events(connection);
}

static const struct connection_stage_operations http_operations = {
    .input = http_input,
    .end_of_input = http_end_of_input,
    .wants_input = http_wants_input,
    .deadline = http_deadline_passed,
    .settle = http_settle,
    .held = http_held,
    .release = http_release,
    .drain = http_drain,
    .stop = http_stop,
    .free = http_free,
};

void connection_http_begin(struct http_stage *stage, struct connection *connection)
{
    struct connection_http *http = connection->http = memory_allocate(sizeof *http);
    int on = 1;
    if (++stage->count > stage->peak)
        stage->peak = stage->count;
    connection->stage = &stage->stage;
    /* fails harmlessly on a unix socket */
    setsockopt(connection->transport.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peer_address_read(connection, &http->address);
    peer_address_format(&http->address, http->peer);
    connection->port = http->address.port;
    http->idle = true;
    http->session =
        http_session_open(stage->settings.services, &connection_http_session_operations, connection);
    if (connections_are_draining(connection->owner))
        http_drain(connection);
    connection_update_events(connection);
}

/* An HTTP session is some kilobytes of heap, nearly all of which go back when the connection becomes a
 * websocket. After thousands at once (every client reconnects) the allocator would keep what it got; it takes
 * milliseconds to give it back, once. */
void http_stage_trim(struct http_stage *stage)
{
    if (stage->peak < HTTP_TRIM_PEAK || stage->count > stage->peak / 8)
        return;
    stage->peak = stage->count;
    malloc_trim(0);
}

struct http_stage *http_stage_open(const struct http_stage_settings *settings, struct error *err)
{
    const struct http_services *services = settings->services;
    const struct config_list *forwarders = &services->config->forwarded_allow_ips;
    struct http_stage *stage = memory_allocate(sizeof *stage);
    stage->stage = (struct connection_stage){HTTP_STAGE_MAGIC, &http_operations};
    stage->settings = *settings;
    stage->gate = handshake_gate_open(&(struct handshake_gate_settings){
        .config = services->config,
        .counters = settings->counters,
        .auth = services->auth,
    });
    if (network_list_parse(&stage->forwarders, forwarders->items, forwarders->count, err) == 0)
        return stage;
    error_prefix(err, "OPAL_FORWARDED_ALLOW_IPS");
    http_stage_close(stage);
    return NULL;
}

void http_stage_close(struct http_stage *stage)
{
    if (!stage)
        return;
    network_list_free(&stage->forwarders);
    handshake_gate_close(stage->gate);
    stage->stage.magic = 0;
    free(stage);
}
