/*
 * One connection's HTTP: reader -> route -> handler -> reply bytes, request after request.
 *
 *   WAIT ---head---> BODY ---message---> handler ---answered---> WAIT
 *     |                |                    `-----pending------> HELD ---finished---> WAIT
 *     `--- no body wanted: answered at the head, the body is thrown away (the reference does so, and a client
 *          that waits for "100 Continue" must not wait for ever)
 *
 * While a reply is pending nothing more is parsed: replies go out in order by construction. Bytes that came
 * with the request are kept, and the connection stops reading (http_session_wants_input).
 */
#include "worker/http/http_session.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/figures.h"
#include "shm/worker_table.h"
#include "worker/http/http_access_log.h"
#include "worker/http/http_cors.h"
#include "worker/http/http_exchange.h"
#include "worker/http/http_gzip.h"
#include "worker/http/http_reader.h"
#include "worker/http/http_refusal.h"
#include "worker/http/http_routes.h"

#define HTTP_SESSION_MAGIC UINT32_C(0x68747365)
#define DEADLINE_UNSET     (-1)

struct http_session {
    uint32_t magic;
    const struct http_services *services;
    const struct http_connection_operations *operations;
    void *connection;
    struct http_reader *reader;
    /* of the request in hand, from its head on */
    const struct http_route *route;
    /* ... for the figures */
    unsigned route_number;
    struct http_exchange exchange;
    /* the request in hand has its reply; its body is still coming */
    bool answered;
    /* the reply waits for a publish */
    bool pending;
    /* nothing is read any more */
    bool over;
    bool upgraded;
    /* the peer ended its side while a reply was pending */
    bool peer_done;
    /* at least one request was answered: idle is normal from now on */
    bool served;
    /* the one last announced, or DEADLINE_UNSET */
    int deadline;
    /* came in while a reply was pending */
    struct text backlog;
};

static void exchange_finished(struct http_exchange *exchange);

static void check(struct http_session *session)
{
    (void)object_cast(struct http_session, HTTP_SESSION_MAGIC, session);
}

struct http_session *http_session_open(const struct http_services *services,
    const struct http_connection_operations *operations, void *connection)
{
    const struct config *config = services->config;
    struct http_session *session = memory_allocate(sizeof *session);
    session->magic = HTTP_SESSION_MAGIC;
    session->services = services;
    session->operations = operations;
    session->connection = connection;
    session->reader = http_reader_make(&(struct http_reader_limits){
        .header_max_bytes = config->http_header_max_bytes,
        .header_max_count = config->http_header_max_count,
        .body_max_bytes = config->http_body_max_bytes,
        .root_path = config->root_path,
    });
    session->exchange.magic = HTTP_EXCHANGE_MAGIC;
    session->exchange.services = services;
    session->exchange.finished = exchange_finished;
    session->deadline = HTTP_DEADLINE_HEAD;
    operations->deadline(connection, HTTP_DEADLINE_HEAD);
    return session;
}

static void session_forget_claims(struct http_session *session)
{
    token_claims_drop(session->exchange.claims);
    session->exchange.claims = NULL;
}

void http_session_free(struct http_session *session)
{
    if (!session)
        return;
    check(session);
    if (session->pending)
        session->exchange.cancel(&session->exchange);
    http_reader_free(session->reader);
    http_reply_free(&session->exchange.reply);
    session_forget_claims(session);
    text_free(&session->backlog);
    session->magic = 0;
    free(session);
}

size_t http_session_held(const struct http_session *session)
{
    return http_reader_held(session->reader) + session->backlog.capacity;
}

static const char *session_peer(const struct http_session *session)
{
    return session->operations->peer(session->connection);
}

static void session_count(const struct http_session *session, enum counter counter)
{
    counter_add(session->services->segment, session->services->slot, counter, 1);
}

/* ---- replies ---- */

static void session_end(struct http_session *session)
{
    session->over = true;
}

/* Sends the exchange's reply. The request's memory is still there. */
static void session_reply(struct http_session *session)
{
    const struct http_request *request = http_reader_request(session->reader);
    struct http_exchange *exchange = &session->exchange;
    bool close = !request->keep_alive || session->peer_done;
    struct text out = {0};
    http_gzip_apply(session->services->config, request, &exchange->reply);
    http_cors_decorate(session->services->config, request, &exchange->reply);
    http_reply_write(&exchange->reply, slice_equals_string(request->method, "HEAD"), close, &out);
    if (exchange->reply.block) {
        session->operations->send_block(session->connection, out.data, out.length, exchange->reply.block);
        exchange->reply.block = NULL;
    } else {
        session->operations->send(session->connection, out.data, out.length);
    }
    text_free(&out);
    http_access_log(request, session_peer(session), exchange->reply.status);
    figures_count_http(
        session->services->segment, session->services->slot, session->route_number, exchange->reply.status);
    http_reply_free(&exchange->reply);
    session_forget_claims(session);
    session->answered = true;
    session->served = true;
    if (close)
        session_end(session);
}

/* A reply outside any route, after which the connection ends. */
static void session_refuse(struct http_session *session, struct http_reply *reply)
{
    struct text out = {0};
    http_reply_write(reply, false, true, &out);
    session->operations->send(session->connection, out.data, out.length);
    text_free(&out);
    figures_count_http(session->services->segment, session->services->slot, HTTP_ROUTE_NONE, reply->status);
    http_reply_free(reply);
    session_end(session);
}

/* The reader gave up: 400, 431 or 413. */
static void session_fail(struct http_session *session)
{
    static struct log_limiter limiters[HTTP_FAILURE_BODY_BYTES + 1];
    enum http_reader_failure failure = http_reader_failure(session->reader);
    struct http_reply reply = {0};
    session_count(session, COUNTER_HTTP_REFUSED);
    log_write_limited(&limiters[failure], LOG_WARNING, LOGGER_HTTP, "%s: Invalid HTTP request received: %s",
        session_peer(session), http_reader_failure_reason(session->reader));
    if (session->answered) { /* a second reply to the same request would be taken for the next one's */
        session_end(session);
        return;
    }
    http_refusal_reply(&reply, failure, session->services->config);
    session_refuse(session, &reply);
}

/* ---- requests ---- */

static void session_answer(struct http_session *session)
{
    struct http_exchange *exchange = &session->exchange;
    exchange->request = http_reader_request(session->reader);
    exchange->peer = session_peer(session);
    if (http_route_answer(session->route, exchange) == HTTP_PENDING)
        session->pending = true;
    else
        session_reply(session);
}

/* The head is in; `rest` is what came behind it. */
static void session_head(struct http_session *session, struct slice rest)
{
    const struct http_request *request = http_reader_request(session->reader);
    session->operations->head(session->connection, request);
    if (request->upgrade_websocket) {
        session->over = session->upgraded = true;
        session->operations->upgrade(session->connection, request, rest);
        return;
    }
    session->exchange.request = request;
    session->exchange.peer = session_peer(session);
    session->exchange.scheme = session->operations->scheme(session->connection);
    const struct http_route *found = http_routes_find(session->services, request);
    session->route_number = http_route_number(session->services->routes, found);
    session->route = http_route_admit(found, &session->exchange);
    if (!http_route_takes_body(session->route)) {
        session_answer(session);
        return;
    }
    http_reader_keep_body(session->reader);
    if (http_reader_expects_continue(session->reader)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        session->operations->send(session->connection, go_on, sizeof go_on - 1);
    }
}

static void session_next(struct http_session *session)
{
    http_reader_next(session->reader);
    session->operations->head(session->connection, NULL);
    session->answered = false;
    session->route = NULL;
    session->deadline = DEADLINE_UNSET; /* each request has its own time */
}

/* Tells the connection which clock runs, when that changed. */
static void session_set_deadline(struct http_session *session)
{
    enum http_deadline deadline = HTTP_DEADLINE_BODY;
    if (session->over)
        deadline = HTTP_DEADLINE_NONE;
    else if (session->pending)
        deadline = session->exchange.late ? HTTP_DEADLINE_BACKBONE : HTTP_DEADLINE_NONE;
    else if (http_reader_in_head(session->reader))
        deadline = HTTP_DEADLINE_HEAD;
    else if (!session->route)
        deadline = session->served ? HTTP_DEADLINE_IDLE : HTTP_DEADLINE_HEAD;
    if (session->deadline == (int)deadline)
        return;
    session->deadline = (int)deadline;
    session->operations->deadline(session->connection, deadline);
}

/* Parses until the bytes are used up, a reply is pending or the session is over. */
static void session_run(struct http_session *session, const char *bytes, size_t length)
{
    bool more = true;
    while (more && !session->over && !session->pending) {
        size_t used;
        enum http_reader_event event = http_reader_feed(session->reader, bytes, length, &used);
        bytes += used;
        length -= used;
        switch (event) {
        case HTTP_READER_MORE:
            more = false;
            break;
        case HTTP_READER_HEAD:
            session_head(session, (struct slice){bytes, length});
            break;
        case HTTP_READER_MESSAGE:
            if (!session->answered)
                session_answer(session);
            if (!session->pending && !session->over)
                session_next(session);
            break;
        case HTTP_READER_FAILED:
            session_fail(session);
            break;
        }
    }
    if (session->pending && length)
        text_append(&session->backlog, bytes, length);
    session_set_deadline(session);
    if (session->over && !session->upgraded)
        session->operations->finish(session->connection);
}

/*
 * What may wait behind a pending reply. The connection was told to stop reading: one read's worth at most
 * comes here.
 */
static bool backlog_is_full(const struct http_session *session, size_t more)
{
    const struct config *config = session->services->config;
    size_t limit = config->http_body_max_bytes + config->http_header_max_bytes;
    return more > limit || session->backlog.length > limit - more;
}

bool http_session_input(struct http_session *session, const void *bytes, size_t length)
{
    check(session);
    if (session->over)
        return false;
    if (!session->pending) {
        session_run(session, bytes, length);
        return !session->over;
    }
    if (!backlog_is_full(session, length)) {
        text_append(&session->backlog, bytes, length);
        return true;
    }
    static struct log_limiter limiter;
    session_count(session, COUNTER_HTTP_REFUSED);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: too much sent ahead of a pending reply",
        session_peer(session));
    session_end(session);
    session->operations->finish(session->connection);
    return false;
}

/*
 * The reply of a pending exchange is set. Called from the worker's loop, not from within http_session_input.
 */
static void exchange_finished(struct http_exchange *exchange)
{
    struct http_session *session = object_cast(
        struct http_session, HTTP_SESSION_MAGIC, (char *)exchange - offsetof(struct http_session, exchange));
    session->pending = false;
    exchange->cancel = NULL;
    exchange->late = NULL;
    session_reply(session);
    if (!session->over)
        session_next(session);
    struct text backlog = session->backlog;
    session->backlog = (struct text){0};
    session_run(session, backlog.data ? backlog.data : "", backlog.length);
    text_free(&backlog);
}

static void session_give_up_waiting(struct http_session *session, bool stopping)
{
    struct http_exchange *exchange = &session->exchange;
    exchange->cancel(exchange);
    exchange->late(exchange, stopping);
    exchange_finished(exchange);
}

void http_session_backbone_late(struct http_session *session)
{
    check(session);
    if (session->pending && session->exchange.late)
        session_give_up_waiting(session, false);
}

void http_session_stop(struct http_session *session)
{
    check(session);
    if (!session->pending || !session->exchange.late)
        return;
    session->peer_done = true; /* what came behind it is not begun any more */
    session_give_up_waiting(session, true);
}

void http_session_timeout(struct http_session *session)
{
    static struct log_limiter limiters[2]; /* the silent must not hide the slow */
    check(session);
    if (session->over)
        return;
    if (session->pending) {
        session->peer_done = true; /* the reply still goes out, as the last one */
        return;
    }
    bool begun = http_reader_in_head(session->reader) || session->route;
    if (begun || !session->served) {
        session_count(session, COUNTER_HTTP_TIMEOUTS);
        log_write_limited(&limiters[begun], LOG_WARNING, LOGGER_HTTP, "%s: cut off: %s",
            session_peer(session), begun ? "the request did not come in time" : "no request came in time");
    }
    if (begun && !session->answered) {
        struct http_reply reply = {0};
        http_reply_detail(&reply, 408, "Request Timeout");
        session_refuse(session, &reply);
    }
    session_end(session);
    session->operations->finish(session->connection);
}

bool http_session_wants_input(const struct http_session *session)
{
    return !session->over && !session->pending;
}
