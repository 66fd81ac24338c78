#include "worker/client/websocket_session_internal.h"

#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"
#include "shm/common/identity.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "worker/client/client_details.h"
#include "worker/client/token_timer.h"
#include "worker/jose/token.h"

/* The places go round with a step that is prime to their number, so that any few clients in a row are far
 * apart. */
#define FIRST_PING_STEP 13

/* ---- time ---- */

static void session_ping(struct connection *connection)
{
    struct identity random = identity_make_fast();
    memcpy(connection->ping_payload, random.bytes, sizeof connection->ping_payload);
    connection_set_deadline(connection, DEADLINE_PONG);
    websocket_session_send(
        connection, WEBSOCKET_PING, connection->ping_payload, sizeof connection->ping_payload);
}

static void session_ping_unanswered(struct connection *connection)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    worker_count(&stage->settings.counters, COUNTER_CLIENTS_PING_TIMEOUT, 1);
    log_write_limited(&stage->limit_ping, LOG_INFO, LOGGER_WORKER,
        "Client on %s did not answer a ping: keepalive ping timeout",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}));
    websocket_session_fail(connection, WEBSOCKET_CLOSE_INTERNAL_ERROR, "keepalive ping timeout");
}

static void session_deadline(struct connection *connection, enum deadline_class which)
{
    if (which == DEADLINE_CLOSE)
        connection_finish(connection);
    else if (which == DEADLINE_STALL)
        websocket_session_too_slow(connection, 0);
    else if (which == DEADLINE_PONG)
        session_ping_unanswered(connection);
    else /* DEADLINE_PING, or one of the first pings */
        session_ping(connection);
}

static void session_on_expired(void *context)
{
    struct connection *connection = object_cast(struct connection, CONNECTION_MAGIC, context);
    struct websocket_stage *stage = websocket_stage_of(connection);
    if (!connection->is_open)
        return;
    worker_count(&stage->settings.counters, COUNTER_TOKENS_EXPIRED, 1);
    log_write_limited(&stage->limit_expired, LOG_INFO, LOGGER_WORKER,
        "The token of the client on %s has expired: closing its connection",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}));
    websocket_session_close(connection, WEBSOCKET_CLOSE_POLICY_VIOLATION, "token expired");
}

/* ---- the stage ---- */

/* A publish that waited is decided. */
static void session_on_answer(struct connection *connection, struct slice reply, struct text *behind)
{
    websocket_session_send_text(connection, reply);
    if (behind->length > 0)
        websocket_session_input(connection, behind->data, behind->length);
    connection_update_events(connection);
}

static bool session_wants_input(const struct connection *connection)
{
    return !connection->pending;
}

/* It leaves CONNECTION_UP. */
static void session_ended(struct connection *connection)
{
    websocket_session_detach(connection);
    worker_count(&websocket_stage_of(connection)->settings.counters, COUNTER_WEBSOCKETS_CLOSED, 1);
    if (!connection->refused)
        websocket_session_log_end(connection, "Client disconnected");
}

static void session_over_memory(struct connection *connection)
{
    if (!connection->is_open) {
        connection_kill(connection);
        return;
    }
    connection_drop_unsent(connection);
    websocket_session_fail_quickly(connection, "server busy");
}

static size_t session_held(const struct connection *connection)
{
    return websocket_parser_held(&connection->parser) + rpc_methods_held(connection) +
           subscription_set_held(&connection->subscriptions);
}

static void session_release(struct connection *connection)
{
    websocket_stage_of(connection)->settings.ledger->held -= websocket_parser_held(&connection->parser);
    websocket_parser_free(&connection->parser);
}

static void session_free(struct connection *connection)
{
    session_release(connection);
    client_details_free(connection);
    token_timer_close(connection->token_timer);
    connection->token_timer = NULL;
    token_claims_drop(connection->claims);
    connection->claims = NULL;
}

static const struct connection_stage_operations session_operations = {
    .input = websocket_session_input,
    .end_of_input = connection_kill,
    .wants_input = session_wants_input,
    .deadline = session_deadline,
    .ended = session_ended,
    .held = session_held,
    .over_memory = session_over_memory,
    .release = session_release,
    .free = session_free,
};

struct websocket_stage *websocket_stage_open(const struct websocket_stage_settings *settings)
{
    struct websocket_stage *stage = memory_allocate(sizeof *stage);
    stage->stage = (struct connection_stage){WEBSOCKET_STAGE_MAGIC, &session_operations};
    stage->settings = *settings;
    stage->methods = rpc_methods_open(&(struct rpc_methods_settings){
        .config = settings->config,
        .counters = settings->counters,
        .ledger = settings->ledger,
        .publisher = settings->publisher,
        .subscriptions = settings->subscriptions,
        .answered = session_on_answer,
    });
    return stage;
}

void websocket_stage_close(struct websocket_stage *stage)
{
    if (!stage)
        return;
    rpc_methods_close(stage->methods);
    stage->stage.magic = 0;
    free(stage);
}

uint32_t websocket_stage_count(const struct websocket_stage *stage)
{
    return stage->count;
}

/* ---- the start ---- */

static void session_first_ping(struct connection *connection)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    if (stage->settings.config->websocket_ping_interval <= 0) {
        connection_clear_deadline(connection);
        return;
    }
    stage->first_ping = (stage->first_ping + FIRST_PING_STEP) % DEADLINE_FIRST_PINGS;
    connection_set_deadline(connection, (enum deadline_class)(DEADLINE_FIRST_PING + stage->first_ping));
}

static void session_watch_token(struct connection *connection)
{
    const struct websocket_stage_settings *settings = &websocket_stage_of(connection)->settings;
    const struct token_claims *claims = connection->claims;
    if (claims && claims->expires != TOKEN_NEVER && settings->config->auth_close_expired)
        connection->token_timer =
            token_timer_open(settings->base, claims->expires, session_on_expired, connection);
}

/* In statistics mode: asks for the channel id, as the reference does. */
static void session_greet(struct connection *connection)
{
    struct text greeting = {0};
    client_details_greeting(&greeting);
    websocket_session_send_text(connection, text_slice(&greeting));
    text_free(&greeting);
}

void websocket_session_start(
    struct websocket_stage *stage, struct connection *connection, const struct websocket_opening *opening)
{
    const struct config *config = stage->settings.config;
    connection->stage = &stage->stage;
    connection->is_open = true;
    connection->channel = identity_make();
    connection->opened_us = clock_realtime_us();
    connection->port = opening->port;
    connection->claims = opening->claims;
    if (opening->query.length <= config->client_query_max_bytes)
        client_details_set_query(connection, opening->query);
    if (opening->host)
        client_details_set_host(connection, opening->host);
    stage->count++;
    worker_count(&stage->settings.counters, COUNTER_WEBSOCKETS_OPENED, 1);
    log_write(LOG_INFO, LOGGER_WORKER, "connection open");
    log_write(LOG_INFO, LOGGER_WORKER, "Client connected");
    session_first_ping(connection);
    if (connections_are_draining(connection->owner)) {
        websocket_session_fail(connection, WEBSOCKET_CLOSE_SERVICE_RESTART, "");
        return;
    }
    session_watch_token(connection);
    if (config->statistics.enabled)
        session_greet(connection);
    if (opening->rest_length > 0)
        websocket_session_input(connection, (char *)opening->rest, opening->rest_length);
}
