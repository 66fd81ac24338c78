#include "broadcast/postgres/postgres_connection.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_dial.h"
#include "broadcast/postgres/postgres_sql.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/common/secret_mask.h"
#include "shm/common/text.h"

#define POSTGRES_CONNECTION_MAGIC 0x7067636eu

enum postgres_connection_state {
    POSTGRES_CLOSED,
    POSTGRES_DIALLING,
    /* the caller's first statements */
    POSTGRES_STARTING,
    POSTGRES_READY,
};

struct postgres_connection {
    uint32_t magic;
    struct event_base *base;
    const struct postgres_uri *uri;
    struct postgres_connection_callbacks callbacks;
    void *context;
    enum postgres_connection_state state;
    uint64_t generation;
    struct postgres_dial *dial;
    PGconn *handle;
    bool reading;
    struct event *read_event;
    struct event *write_event;
    /* of the start */
    struct event *timer;
    /* input that waited while reading was off */
    struct event *again;
    struct event *failing;
    struct error failure;
    struct text message;
    /* the server's last FATAL or PANIC outside of a statement */
    char notice[256];
};

static struct postgres_connection *connection_from(void *context)
{
    return object_cast(struct postgres_connection, POSTGRES_CONNECTION_MAGIC, context);
}

/* ---- texts ---- */

const char *postgres_connection_message(struct postgres_connection *connection)
{
    text_clear(&connection->message);
    postgres_append_message(&connection->message, connection->notice);
    const char *own = connection->handle ? PQerrorMessage(connection->handle) : "";
    if (*own && connection->message.length)
        text_append_string(&connection->message, "; ");
    postgres_append_message(&connection->message, own);
    if (!connection->message.length)
        text_append_string(&connection->message, "the connection was closed");
    return connection->message.data;
}

static void connection_on_notice(void *context, const PGresult *result)
{
    struct postgres_connection *connection = connection_from(context);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!severity || (strcmp(severity, "FATAL") != 0 && strcmp(severity, "PANIC") != 0))
        return;
    snprintf(connection->notice, sizeof connection->notice, "%s: %s", severity,
        PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

/* ---- closing ---- */

static void connection_drop_handle(struct postgres_connection *connection)
{
    /* The events go first: libpq closes the descriptor. */
    if (connection->read_event)
        event_free(connection->read_event);
    if (connection->write_event)
        event_free(connection->write_event);
    connection->read_event = connection->write_event = NULL;
    connection->generation++;
    if (connection->handle)
        PQfinish(connection->handle);
    connection->handle = NULL;
    connection->notice[0] = '\0';
    event_del(connection->timer);
    event_del(connection->again);
    event_del(connection->failing);
}

void postgres_connection_close(struct postgres_connection *connection)
{
    connection->state = POSTGRES_CLOSED;
    connection_drop_handle(connection);
    postgres_dial_stop(connection->dial);
}

/* The connection is of no use: the next address when it had not started, else it is lost. `why` may belong to
 * it. */
static void connection_give_up(struct postgres_connection *connection, const char *why)
{
    struct error copy = {0};
    bool starting = connection->state == POSTGRES_STARTING;
    error_set(&copy, -1, "%s", why);
    secret_mask(copy.text, connection->uri->secrets);
    if (starting) {
        connection_drop_handle(connection);
        connection->state = POSTGRES_DIALLING;
        postgres_dial_next(connection->dial, copy.text);
    } else if (connection->state != POSTGRES_CLOSED) {
        postgres_connection_close(connection);
        connection->callbacks.lost(connection->context, copy.text);
    }
}

static void connection_on_failing(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = connection_from(context);
    (void)descriptor;
    (void)what;
    connection_give_up(connection, connection->failure.text);
}

void postgres_connection_fail(struct postgres_connection *connection, const char *why)
{
    error_set(&connection->failure, -1, "%s", why);
    event_active(connection->failing, EV_TIMEOUT, 0);
}

/* ---- an open connection ---- */

static void connection_take_input(struct postgres_connection *connection)
{
    uint64_t generation = connection->generation;
    bool alive = PQconsumeInput(connection->handle) == 1;
    /* Also when it is dead: what came before the end counts. */
    connection->callbacks.input(connection->context);
    if (connection->generation != generation)
        return;
    if (!alive || PQstatus(connection->handle) == CONNECTION_BAD) {
        connection_give_up(connection, postgres_connection_message(connection));
        return;
    }
    postgres_connection_flush(connection); /* reading may be what lets libpq go on writing */
}

static void connection_on_readable(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    connection_take_input(connection_from(context));
}

static void connection_on_writable(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    postgres_connection_flush(connection_from(context));
}

static void connection_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = connection_from(context);
    uint64_t generation = connection->generation;
    (void)descriptor;
    (void)what;
    if (connection->state != POSTGRES_READY || !connection->reading)
        return;
    connection->callbacks.input(connection->context);
    if (connection->generation == generation && connection->reading)
        event_add(connection->read_event, NULL);
}

void postgres_connection_flush(struct postgres_connection *connection)
{
    if (!connection->handle)
        return;
    int left = PQflush(connection->handle);
    if (left > 0)
        event_add(connection->write_event, NULL);
    else if (left < 0)
        postgres_connection_fail(connection, postgres_connection_message(connection));
}

void postgres_connection_read(struct postgres_connection *connection, bool on)
{
    if (connection->reading == on)
        return;
    connection->reading = on;
    if (connection->state != POSTGRES_READY)
        return;
    if (on)
        event_active(connection->again, EV_TIMEOUT, 0);
    else
        event_del(connection->read_event);
}

void postgres_connection_ready(struct postgres_connection *connection)
{
    connection->state = POSTGRES_READY;
    event_del(connection->timer);
}

void postgres_connection_wait(struct postgres_connection *connection, int timeout_ms)
{
    uint64_t generation = connection->generation;
    if (connection->state != POSTGRES_READY)
        return;
    struct pollfd poll_one = {.fd = PQsocket(connection->handle), .events = POLLIN};
    if (PQflush(connection->handle) > 0)
        poll_one.events |= POLLOUT;
    if (poll(&poll_one, 1, timeout_ms) <= 0)
        return;
    if (poll_one.revents & POLLOUT)
        postgres_connection_flush(connection);
    if (connection->generation == generation && (poll_one.revents & (POLLIN | POLLERR | POLLHUP)))
        connection_take_input(connection);
}

/* ---- opening ---- */

static void connection_on_connected(void *context, PGconn *handle)
{
    struct postgres_connection *connection = connection_from(context);
    struct timeval limit = clock_timeval_ns(connection->uri->connect_timeout_ns);
    connection->handle = handle;
    connection->generation++;
    connection->state = POSTGRES_STARTING;
    connection->reading = true;
    PQsetnonblocking(handle, 1);
    PQsetNoticeReceiver(handle, connection_on_notice, connection);
    connection->read_event = event_new(
        connection->base, PQsocket(handle), EV_READ | EV_PERSIST, connection_on_readable, connection);
    connection->write_event =
        event_new(connection->base, PQsocket(handle), EV_WRITE, connection_on_writable, connection);
    event_add(connection->read_event, NULL);
    event_add(connection->timer, &limit);
    connection->callbacks.connected(connection->context);
}

static void connection_on_dial_failed(void *context, const char *why)
{
    struct postgres_connection *connection = connection_from(context);
    connection_give_up(connection, why);
}

static void connection_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    connection_give_up(connection_from(context), "no answer to the first statements in time");
}

void postgres_connection_open(struct postgres_connection *connection)
{
    postgres_connection_close(connection);
    connection->state = POSTGRES_DIALLING;
    postgres_dial_start(connection->dial);
}

/* ---- the rest ---- */

PGconn *postgres_connection_handle(const struct postgres_connection *connection)
{
    return connection->handle;
}

uint64_t postgres_connection_generation(const struct postgres_connection *connection)
{
    return connection->generation;
}

struct postgres_connection *postgres_connection_make(struct event_base *base, const struct postgres_uri *uri,
    const struct postgres_connection_callbacks *callbacks, void *context)
{
    static const struct postgres_dial_callbacks dial_callbacks = {
        .connected = connection_on_connected, .failed = connection_on_dial_failed};
    struct postgres_connection *connection = memory_allocate(sizeof *connection);
    connection->magic = POSTGRES_CONNECTION_MAGIC;
    connection->base = base;
    connection->uri = uri;
    connection->callbacks = *callbacks;
    connection->context = context;
    connection->dial = postgres_dial_make(base, uri, &dial_callbacks, connection);
    connection->timer = event_new(base, -1, 0, connection_on_timer, connection);
    connection->again = event_new(base, -1, 0, connection_on_again, connection);
    connection->failing = event_new(base, -1, 0, connection_on_failing, connection);
    return connection;
}

void postgres_connection_free(struct postgres_connection *connection)
{
    if (!connection)
        return;
    postgres_connection_close(connection);
    postgres_dial_free(connection->dial);
    event_free(connection->timer);
    event_free(connection->again);
    event_free(connection->failing);
    text_free(&connection->message);
    connection->magic = 0;
    free(connection);
}
