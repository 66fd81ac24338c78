#include "worker/client/connection_http_internal.h"

#include <stdio.h>
#include "shm/common/loggers.h"

/* Refused handshakes that wait for their answer, of one worker. Above it a refusal costs less than holding
 * it. */
#define HTTP_REFUSALS_HELD_MAX 1000

static struct connection *connection_of(void *argument)
{
    return object_cast(struct connection, CONNECTION_MAGIC, argument);
}

/* The client, as far as it is known. */
static const char *http_client(const struct connection *connection)
{
    const struct connection_http *http = connection->http;
    return http->client.host[0] ? http->client_text : http->peer;
}

static void http_send(void *argument, const void *bytes, size_t length)
{
    struct connection *connection = connection_of(argument);
    struct http_stage *stage = http_stage_of(connection);
    if (length == 0 || connection->state == CONNECTION_DEAD)
        return;
    /* Reading stops while replies wait (http_wants_input); what is left is one read's worth of pipelined
     * requests. */
    if (connection_over_limit(connection, length)) {
        worker_count(&stage->settings.counters, COUNTER_CLIENTS_TOO_SLOW, 1);
        log_write_limited(&stage->limit_slow, LOG_WARNING, LOGGER_WORKER,
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
    connection_send(connection_of(argument), &(struct output_parts){.head = {bytes, length}, .block = block});
}

static void http_finish(void *argument)
{
    struct connection *connection = connection_of(argument);
    if (connection->http)
        connection->http->over = true;
    connection_settle_later(connection);
}

static void http_set_deadline(void *argument, enum http_deadline deadline)
{
    static const enum deadline_class classes[] = {
        [HTTP_DEADLINE_NONE] = DEADLINE_NONE,
        [HTTP_DEADLINE_HEAD] = DEADLINE_HTTP_HEAD,
        [HTTP_DEADLINE_BODY] = DEADLINE_HTTP_BODY,
        [HTTP_DEADLINE_IDLE] = DEADLINE_HTTP_IDLE,
        [HTTP_DEADLINE_BACKBONE] = DEADLINE_BACKBONE,
    };
    struct connection *connection = connection_of(argument);
    struct connection_http *http = connection->http;
    if (connection->state != CONNECTION_UP || http->waits)
        return;
    connection_set_deadline(connection, classes[deadline]);
    http->idle = deadline == HTTP_DEADLINE_IDLE || !http->begun;
    if (deadline == HTTP_DEADLINE_IDLE && connections_are_draining(connection->owner))
        http->over = true;
    connection_settle_later(connection); /* it may want input again */
}

static const char *http_peer(void *argument)
{
    return http_client(connection_of(argument));
}

static const char *http_scheme(void *argument)
{
    const struct connection *connection = connection_of(argument);
    const char *scheme = connection->http->scheme;
    if (scheme)
        return scheme;
    return connection->transport.tls ? "https" : "http";
}

/* Each request of its own: one connection of a proxy carries those of many clients. */
static void http_head(void *argument, const struct http_request *request)
{
    struct connection *connection = connection_of(argument);
    struct connection_http *http = connection->http;
    struct http_stage *stage = http_stage_of(connection);
    const char *wrong = "";
    http->client.host[0] = '\0';
    http->scheme = NULL;
    if (!request || (!http_request_header(request, "x-forwarded-for").data &&
                        !http_request_header(request, "x-forwarded-proto").data))
        return;
    if (!network_list_has(&stage->forwarders, &http->address))
        return;
    http->scheme = forwarded_find_scheme(request);
    switch (forwarded_find_client(request, &stage->forwarders,
        stage->settings.services->config->forwarded_max_addresses, &http->client, &wrong)) {
    case FORWARDED_NONE:
        break;
    case FORWARDED_TAKEN:
        snprintf(http->client_text, sizeof http->client_text, "%s:%u", http->client.host, http->client.port);
        break;
    case FORWARDED_REFUSED:
        worker_count(&stage->settings.counters, COUNTER_FORWARDED_REFUSED, 1);
        log_write_limited(&stage->limit_forwarded, LOG_WARNING, LOGGER_WORKER,
            "%s: X-Forwarded-For is not believed: %s", http->peer, wrong);
        break;
    }
}

static void hold_refusal(struct connection *connection, struct text *reply)
{
    struct connection_http *http = connection->http;
    http->late = *reply; /* moved */
    *reply = (struct text){0};
    http->waits = true;
    http_stage_of(connection)->refusals_held++;
    connection_set_deadline(connection, DEADLINE_REFUSAL);
}

static void http_upgrade(void *argument, const struct http_request *request, struct slice rest)
{
    struct connection *connection = connection_of(argument);
    struct connection_http *http = connection->http;
    struct http_stage *stage = http_stage_of(connection);
    struct handshake_answer answer;
    handshake_gate_answer(stage->gate, request, http_client(connection), &answer);
    if (answer.late && stage->refusals_held < HTTP_REFUSALS_HELD_MAX &&
        !connections_are_draining(connection->owner)) {
        hold_refusal(connection, &answer.reply);
        return;
    }
    http->over = true;
    if (answer.status == 101) {
        http->upgraded = true;
        http->claims = answer.claims;
        text_append_slice(&http->query, request->query);
        text_append_slice(&http->rest, rest);
    }
    connection_send(connection, &(struct output_parts){.head = text_slice(&answer.reply)});
    text_free(&answer.reply);
}

const struct http_connection_operations connection_http_session_operations = {
    .send = http_send,
    .send_block = http_send_block,
    .upgrade = http_upgrade,
    .finish = http_finish,
    .deadline = http_set_deadline,
    .head = http_head,
    .peer = http_peer,
    .scheme = http_scheme,
};
