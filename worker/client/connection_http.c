/* The HTTP time of a connection: the session's operations, the upgrade to a websocket, and the end of the session, which is freed
 * only from the loop and never from within its own callbacks. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/figures.h"
#include "worker/http/http_routes.h"
#include "shm/common/network.h"
#include "shm/common/loggers.h"
#include "worker/auth/auth.h"
#include "worker/client/client_details.h"
#include "worker/client/connection.h"
#include "worker/client/context.h"
#include "worker/http/forwarded.h"
#include "worker/http/http_gate.h"
#include "worker/net/refusal_pace.h"
#include "worker/websocket/websocket_handshake.h"
#include "worker/client/websocket_session.h"

/* Refused handshakes that wait for their answer, of one worker. */
#define REFUSALS_HELD_MAX 1000

struct connection_http {
    struct http_session *session;
    struct forwarded_client client; /* of the request in hand; its host empty: the peer's address holds */
    char client_text[FORWARDED_HOST_TEXT + 8];
    const char *scheme;             /* of the request in hand; NULL: nobody said */
    size_t held;                    /* its part of worker->held_bytes */
    struct text rest;               /* bytes behind an upgrade request */
    struct text late;               /* a refusal that waits for its time */
    bool waits;                     /* there is one */
    bool over;                      /* no more requests: close once everything is out */
    bool upgraded;                  /* 101 was sent */
    bool on_stack;                  /* http_session_input or _timeout is running */
    bool idle;                      /* between two requests, or before the first byte */
    bool begun;                     /* something was received */
    struct network_address address; /* the peer's, all zero when it has none */
    char peer[NETWORK_ADDRESS_TEXT + 8];
};

static struct connection *connection_check(void *argument)
{
    struct connection *connection = argument;
    if (connection->magic != CONNECTION_MAGIC)
        abort();
    return connection;
}

/* The client, as far as it is known. */
static const char *http_client(const struct connection *connection)
{
    const struct connection_http *http = connection->http;
    return http->client.host[0] ? http->client_text : http->peer;
}

static void http_send(void *argument, const void *bytes, size_t length)
{
    struct connection *connection = connection_check(argument);
    struct worker *worker = connection->worker;
    if (length == 0 || connection->state == CONNECTION_DEAD)
        return;
    /* Reading stops while replies wait (connection_http_wants_input); what is left is one read's worth of pipelined requests. */
    if (connection_over_limit(connection, length)) {
        worker_count(worker, COUNTER_CLIENTS_TOO_SLOW, 1);
        log_write_limited(&worker->limit_slow, LOG_WARNING, LOGGER_WORKER,
            "%s: closed: asks for more than it reads, %zu bytes of replies are waiting",
            http_client(connection), connection_queued_bytes(connection));
        connection_kill(connection);
        return;
    }
    connection_send(connection, &(struct output_parts){.head = {bytes, length}});
}

/* The block costs this process nothing while it waits: only the head counts. */
static void http_send_block(void *argument, const void *bytes, size_t length, struct output_block *block)
{
    struct connection *connection = connection_check(argument);
    connection_send(connection, &(struct output_parts){.head = {bytes, length}, .block = block});
}

static void http_finish(void *argument)
{
    struct connection *connection = connection_check(argument);
    if (connection->http)
        connection->http->over = true;
    connection_settle_later(connection);
}

static void http_deadline(void *argument, enum http_deadline deadline)
{
    static const enum deadline_class classes[] = {
        [HTTP_DEADLINE_NONE] = DEADLINE_NONE,
        [HTTP_DEADLINE_HEAD] = DEADLINE_HTTP_HEAD,
        [HTTP_DEADLINE_BODY] = DEADLINE_HTTP_BODY,
        [HTTP_DEADLINE_IDLE] = DEADLINE_HTTP_IDLE,
        [HTTP_DEADLINE_BACKBONE] = DEADLINE_BACKBONE,
    };
    struct connection *connection = connection_check(argument);
    if (connection->state != CONNECTION_HTTP || connection->http->waits)
        return;
    deadline_set(connection->worker->deadlines, &connection->deadline, classes[deadline]);
    connection->http->idle = deadline == HTTP_DEADLINE_IDLE || !connection->http->begun;
    if (deadline == HTTP_DEADLINE_IDLE && connection->worker->draining)
        connection->http->over = true;
    connection_settle_later(connection); /* it may want input again */
}

static const char *http_peer(void *argument)
{
    return http_client(connection_check(argument));
}

static const char *http_scheme(void *argument)
{
    const struct connection *connection = connection_check(argument);
    const char *scheme = connection->http->scheme;
    if (scheme)
        return scheme;
    return connection->transport.tls ? "https" : "http";
}

static bool peer_is_trusted(const struct connection *connection)
{
    const struct network_list *trusted = connection->worker->forwarders;
    struct network_address address;
    char host[NETWORK_ADDRESS_TEXT];
    if (!trusted)
        return false;
    return network_address_parse(
               &address, slice_from_string(connection_host(connection, host, sizeof host))) &&
           network_list_has(trusted, &address);
}

/* Each request of its own: one connection of a proxy carries those of many clients. */
static void http_head(void *argument, const struct http_request *request)
{
    struct connection *connection = connection_check(argument);
    struct connection_http *http = connection->http;
    struct worker *worker = connection->worker;
    const char *wrong = "";
    http->client.host[0] = '\0';
    http->scheme = NULL;
    if (!request || (!http_request_header(request, "x-forwarded-for").data &&
                        !http_request_header(request, "x-forwarded-proto").data))
        return;
    if (!peer_is_trusted(connection))
        return;
    http->scheme = forwarded_find_scheme(request);
    switch (forwarded_find_client(
        request, worker->forwarders, worker->config->forwarded_max_addresses, &http->client, &wrong)) {
    case FORWARDED_NONE:
        break;
    case FORWARDED_TAKEN:
        snprintf(http->client_text, sizeof http->client_text, "%s:%u", http->client.host, http->client.port);
        break;
    case FORWARDED_REFUSED:
        worker_count(worker, COUNTER_FORWARDED_REFUSED, 1);
        log_write_limited(&worker->limit_forwarded, LOG_WARNING, LOGGER_WORKER,
            "%s: X-Forwarded-For is not believed: %s", http->peer, wrong);
        break;
    }
}

/* The bearer token of a handshake. The reason of a refusal is in the log only: the reference's 403 says nothing. */
static bool upgrade_is_allowed(struct connection *connection, const struct http_request *request)
{
    struct worker *worker = connection->worker;
    const char *wrong =
        auth_check_bearer(worker->auth, http_request_header(request, "authorization"), &connection->claims);
    if (wrong) {
        worker_count(worker, COUNTER_HTTP_UNAUTHORIZED, 1);
        http_gate_log(slice_from_string(wrong), "websocket, ", http_client(connection));
    }
    return !wrong;
}

/* Whether this refusal is told later. There is a limit to what waits: above it a refusal costs less than holding it. */
static bool refusal_waits(struct connection *connection)
{
    struct worker *worker = connection->worker;
    const char *peer = http_client(connection);
    const char *colon = strrchr(peer, ':');
    struct slice address = {peer, colon ? (size_t)(colon - peer) : strlen(peer)};
    return worker->config->auth_refusal_delay > 0 &&
           refusal_pace_note(worker->refusals, address, clock_monotonic_ns()) &&
           worker->refusals_held < REFUSALS_HELD_MAX && !worker->draining;
}

static void hold_refusal(struct connection *connection, struct text *reply)
{
    struct connection_http *http = connection->http;
    http->late = *reply; /* moved */
    *reply = (struct text){0};
    http->waits = true;
    connection->worker->refusals_held++;
    deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_REFUSAL);
}

static void forget_refusal(struct connection *connection)
{
    struct connection_http *http = connection->http;
    connection->worker->refusals_held -= http->waits;
    http->waits = false;
    text_free(&http->late);
}

void connection_http_refuse(struct connection *connection)
{
    struct connection_http *http = connection->http;
    connection_send(connection, &(struct output_parts){.head = text_slice(&http->late)});
    if (connection->state != CONNECTION_HTTP)
        return;
    forget_refusal(connection);
    http->over = true;
    connection_http_settle(connection);
}

static void http_upgrade(void *argument, const struct http_request *request, struct slice rest)
{
    struct connection *connection = connection_check(argument);
    struct connection_http *http = connection->http;
    struct worker *worker = connection->worker;
    struct text reply = {0};
    unsigned status = websocket_handshake(request, &reply);
    bool waits = false;
    if (status == 101 && !upgrade_is_allowed(connection, request)) {
        text_clear(&reply);
        status = websocket_handshake_forbid(&reply);
        waits = refusal_waits(connection);
    }
    http->over = !waits;
    figures_count_http(worker->segment, worker->slot, HTTP_ROUTE_WEBSOCKET, status);
    if (status == 101) {
        http->upgraded = true;
        text_append_slice(&http->rest, rest);
        client_details_set_query(connection, request->query);
        if (http->client.host[0]) {
            client_details_set_host(connection, http->client.host);
            connection->port = http->client.port;
        }
        log_write(LOG_INFO, LOGGER_WORKER, "%s - \"WebSocket %.*s\" [accepted]", http_client(connection),
            (int)request->target.length, request->target.data);
    } else {
        worker_count(worker, COUNTER_HANDSHAKES_REFUSED, 1);
        if (status == 403)
            log_write_limited(&worker->limit_handshake, LOG_INFO, LOGGER_WORKER,
                "%s - \"WebSocket %.*s\" 403", http_client(connection), (int)request->target.length,
                request->target.data);
        log_write_limited(&worker->limit_rejected, LOG_INFO, LOGGER_WORKER, "connection rejected (%u %s)",
            status, websocket_handshake_phrase(status));
    }
    if (waits) {
        hold_refusal(connection, &reply);
        return;
    }
    connection_send(connection, &(struct output_parts){.head = text_slice(&reply)});
    text_free(&reply);
}

static const struct http_connection_operations http_operations = {
    .send = http_send,
    .send_block = http_send_block,
    .upgrade = http_upgrade,
    .finish = http_finish,
    .deadline = http_deadline,
    .head = http_head,
    .peer = http_peer,
    .scheme = http_scheme,
};

const char *connection_host(const struct connection *connection, char *out, size_t size)
{
    struct sockaddr_storage socket = {0};
    socklen_t length = sizeof(socket);
    struct network_address address = {0};
    char text[NETWORK_ADDRESS_TEXT] = "";
    if (connection->proxied)
        network_address_format(connection->proxied, text);
    else if (getpeername(connection->transport.fd, (struct sockaddr *)&socket, &length) == 0 &&
             network_address_from_socket(&address, &socket))
        network_address_format(&address, text);
    snprintf(out, size, "%s", text);
    return out;
}

const struct network_address *connection_http_address(const struct connection *connection)
{
    return &connection->http->address;
}

const char *connection_http_peer(const struct connection *connection)
{
    return connection->http->peer;
}

void connection_http_set_address(struct connection *connection, const struct network_address *address)
{
    struct connection_http *http = connection->http;
    char host[NETWORK_ADDRESS_TEXT];
    http->address = *address;
    connection->port = address->port;
    network_address_format(address, host);
    snprintf(http->peer, sizeof(http->peer), "%s:%u", host, address->port);
}

static void peer_read(struct connection *connection)
{
    struct sockaddr_storage socket = {0};
    socklen_t length = sizeof(socket);
    struct network_address address;
    if (getpeername(connection->transport.fd, (struct sockaddr *)&socket, &length) == 0 &&
        network_address_from_socket(&address, &socket))
        connection_http_set_address(connection, &address);
    else
        snprintf(connection->http->peer, sizeof(connection->http->peer), "?:0");
}

void connection_http_open(struct connection *connection)
{
    struct connection_http *http = connection->http = memory_allocate(sizeof(*http));
    struct worker *worker = connection->worker;
    if (++worker->http_count > worker->http_peak)
        worker->http_peak = worker->http_count;
    int on = 1;
    setsockopt(connection->transport.fd, IPPROTO_TCP, TCP_NODELAY, &on,
        sizeof(on)); /* fails harmlessly on a unix socket */
    peer_read(connection);
    http->idle = true;
    deadline_set(worker->deadlines, &connection->deadline, DEADLINE_HTTP_HEAD);
    http->session = http_session_open(&worker->services, &http_operations, connection);
    if (worker->draining)
        connection_http_drain(connection);
}

size_t connection_http_held(const struct connection *connection)
{
    return connection->http ? connection->http->held : 0;
}

bool connection_http_wants_input(const struct connection *connection)
{
    const struct connection_http *http = connection->http;
    /* A client that does not read its replies gets no further request answered: the backlog stays small, and the stall limit ends it. */
    return !http->over && !connection->backlog && http_session_wants_input(http->session);
}

void connection_http_input(struct connection *connection, char *bytes, size_t length)
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
    connection->worker->held_bytes += held - http->held;
    http->held = held;
    if (!more && !http->waits)
        http->over = true;
    if (http->over && connection->state == CONNECTION_HTTP)
        connection_http_settle(connection);
}

void connection_http_end_of_input(struct connection *connection)
{
    connection->http->over = true;
    connection_http_settle(connection);
}

void connection_http_timeout(struct connection *connection)
{
    struct connection_http *http = connection->http;
    http->on_stack = true;
    http_session_timeout(http->session);
    http->on_stack = false;
    http->over = true;
    if (connection->state == CONNECTION_HTTP)
        connection_http_settle(connection);
}

void connection_http_backbone_late(struct connection *connection)
{
    http_session_backbone_late(
        connection->http->session); /* as when the publish is decided: settles by itself */
}

void connection_http_stop(struct connection *connection)
{
    http_session_stop(connection->http->session);
}

void connection_http_drain(struct connection *connection)
{
    char byte;
    /* taken a moment ago, perhaps: its request may be on the way. Who is slow with it does not hold up the end. */
    if (connection->deadline.which == DEADLINE_HTTP_HEAD || connection->deadline.which == DEADLINE_ENTRANCE) {
        deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_FRESH);
        return;
    }
    /* a request that has arrived but was not read yet is served; the session then ends at its next idle time */
    if (connection->http->idle && recv(connection->transport.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
        connection->http->over = true;
        connection_settle_later(connection);
    }
}

void connection_http_free(struct connection *connection)
{
    struct connection_http *http = connection->http;
    if (!http)
        return;
    connection->worker->held_bytes -= http->held;
    http_session_free(http->session);
    forget_refusal(connection);
    text_free(&http->rest);
    free(http);
    connection->http = NULL;
    connection->worker->http_count--;
}

void connection_http_settle(struct connection *connection)
{
    struct connection_http *http = connection->http;
    if (http->on_stack)
        return;
    if (!http->over) {
        connection_update_events(connection);
        return;
    }
    bool upgraded = http->upgraded;
    struct text rest = http->rest;
    http->rest = (struct text){0};
    connection_http_free(connection);
    deadline_clear(connection->worker->deadlines, &connection->deadline);
    if (upgraded)
        websocket_session_start(connection, (uint8_t *)rest.data, rest.length);
    else
        connection_finish(connection);
    text_free(&rest);
    connection_update_events(connection);
}
