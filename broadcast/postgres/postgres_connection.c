#include "broadcast/postgres/postgres_connection.h"

#include <assert.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/net/resolver.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/text.h"

#define POSTGRES_CONNECTION_MAGIC 0x7067636eu

enum postgres_connection_state {
    POSTGRES_CLOSED,
    POSTGRES_RESOLVING,
    POSTGRES_CONNECTING, /* PQconnectPoll */
    POSTGRES_STARTING,   /* the caller's first statements */
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
    PGconn *handle;
    size_t host; /* being tried */
    struct resolver *resolver;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;
    bool reading;
    struct event *read_event;
    struct event *write_event;
    struct event *timer; /* of one address */
    struct event *again; /* input that waited while reading was off */
    struct event *failing;
    struct error failure;
    struct text message;
    char notice[256]; /* the server's last warning or FATAL outside of a statement */
};

static void connection_try_address(struct postgres_connection *connection);
static void connection_try_host(struct postgres_connection *connection);

/* ---- texts ---- */

/* libpq ends its messages with line feeds and uses several lines. */
static void append_one_line(struct text *out, const char *message)
{
    struct slice trimmed = slice_trim(slice_from_string(message), TEXT_SPACES);
    for (size_t i = 0; i < trimmed.length; i++) {
        bool space = text_is_space(trimmed.data[i]);
        if (space && out->length && out->data[out->length - 1] == ' ')
            continue;
        text_append_char(out, space ? ' ' : trimmed.data[i]);
    }
}

const char *postgres_connection_message(struct postgres_connection *connection)
{
    text_clear(&connection->message);
    append_one_line(&connection->message, connection->notice);
    const char *own = connection->handle ? PQerrorMessage(connection->handle) : "";
    if (*own && connection->message.length)
        text_append_string(&connection->message, "; ");
    append_one_line(&connection->message, own);
    if (!connection->message.length)
        text_append_string(&connection->message, "the connection was closed");
    return connection->message.data;
}

static void connection_on_notice(void *context, const PGresult *result)
{
    struct postgres_connection *connection = context;
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
}

void postgres_connection_close(struct postgres_connection *connection)
{
    connection->state = POSTGRES_CLOSED;
    connection_drop_handle(connection);
    resolver_cancel(connection->resolver);
    connection->resolver = NULL;
    event_del(connection->timer);
    event_del(connection->again);
    event_del(connection->failing);
}

static void connection_give_up(struct postgres_connection *connection)
{
    struct error copy = connection->failure;
    postgres_connection_close(connection);
    connection->callbacks.lost(connection->context, copy.text);
}

/* This address is no good. */
static void connection_next(struct postgres_connection *connection, const char *why)
{
    error_set(&connection->failure, -1, "%s", why);
    connection_drop_handle(connection);
    connection_try_address(connection);
}

static void connection_on_failing(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = context;
    assert(connection->magic == POSTGRES_CONNECTION_MAGIC);
    (void)descriptor;
    (void)what;
    if (connection->state == POSTGRES_STARTING) {
        connection_drop_handle(connection);
        connection_try_address(connection);
    } else if (connection->state != POSTGRES_CLOSED) {
        connection_give_up(connection);
    }
}

void postgres_connection_fail(struct postgres_connection *connection, const char *why)
{
    error_set(&connection->failure, -1, "%s", why);
    event_active(connection->failing, EV_TIMEOUT, 0);
}

/* ---- an open connection ---- */

static void connection_on_broken(struct postgres_connection *connection)
{
    struct error why = {0};
    error_set(&why, -1, "%s", postgres_connection_message(connection));
    if (connection->state == POSTGRES_STARTING) {
        connection_next(connection, why.text);
        return;
    }
    connection->failure = why;
    connection_give_up(connection);
}

static void connection_take_input(struct postgres_connection *connection)
{
    uint64_t generation = connection->generation;
    bool alive = PQconsumeInput(connection->handle) == 1;
    /* Also when it is dead: what came before the end counts. */
    connection->callbacks.input(connection->context);
    if (connection->generation != generation)
        return;
    if (!alive || PQstatus(connection->handle) == CONNECTION_BAD) {
        connection_on_broken(connection);
        return;
    }
    postgres_connection_flush(connection); /* reading may be what lets libpq go on writing */
}

static void connection_on_readable(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    connection_take_input(context);
}

static void connection_on_writable(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    postgres_connection_flush(context);
}

static void connection_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = context;
    uint64_t generation = connection->generation;
    assert(connection->magic == POSTGRES_CONNECTION_MAGIC);
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
    if (!connection->handle || connection->state < POSTGRES_STARTING)
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

/* ---- connecting ---- */

static void connection_connected(struct postgres_connection *connection)
{
    connection->state = POSTGRES_STARTING;
    connection->reading = true;
    PQsetnonblocking(connection->handle, 1);
    connection->read_event = event_new(connection->base, PQsocket(connection->handle), EV_READ | EV_PERSIST,
        connection_on_readable, connection);
    connection->write_event = event_new(
        connection->base, PQsocket(connection->handle), EV_WRITE, connection_on_writable, connection);
    event_add(connection->read_event, NULL);
    connection->callbacks.connected(connection->context);
}

static void connection_poll(struct postgres_connection *connection);

static void connection_on_poll(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = context;
    assert(connection->magic == POSTGRES_CONNECTION_MAGIC);
    (void)descriptor;
    (void)what;
    /* libpq may close this socket and open another with the same number (sslmode=prefer): the event must be gone before. */
    event_free(connection->read_event);
    connection->read_event = NULL;
    connection_poll(connection);
}

static void connection_poll(struct postgres_connection *connection)
{
    switch (PQconnectPoll(connection->handle)) {
    case PGRES_POLLING_OK:
        connection_connected(connection);
        break;
    case PGRES_POLLING_READING:
        connection->read_event = event_new(
            connection->base, PQsocket(connection->handle), EV_READ, connection_on_poll, connection);
        event_add(connection->read_event, NULL);
        break;
    case PGRES_POLLING_WRITING:
        connection->read_event = event_new(
            connection->base, PQsocket(connection->handle), EV_WRITE, connection_on_poll, connection);
        event_add(connection->read_event, NULL);
        break;
    default:
        connection_next(connection, postgres_connection_message(connection));
        break;
    }
}

static void connection_arm_timer(struct postgres_connection *connection)
{
    uint64_t ns = connection->uri->connect_timeout_ns;
    struct timeval after = clock_timeval_ns(ns);
    event_add(connection->timer, &after);
}

static void connection_start(struct postgres_connection *connection, const char *address)
{
    const struct postgres_uri *uri = connection->uri;
    const struct postgres_host *host = &uri->hosts[connection->host];
    const char *keywords[POSTGRES_PARAMETERS_MAX + 5];
    const char *values[POSTGRES_PARAMETERS_MAX + 5];
    char port[16];
    size_t count = 0;
    for (size_t i = 0; i < uri->parameter_count; i++) {
        keywords[count] = uri->keywords[i];
        values[count++] = uri->values[i];
    }
    snprintf(port, sizeof port, "%d", host->port);
    const char *const own[][2] = {
        {"host", host->name}, {"hostaddr", address}, {"port", port}, {"client_encoding", "UTF8"}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (!own[i][1] || !*own[i][1])
            continue;
        keywords[count] = own[i][0];
        values[count++] = own[i][1];
    }
    keywords[count] = values[count] = NULL;
    connection->state = POSTGRES_CONNECTING;
    connection->generation++;
    connection->handle = PQconnectStartParams(keywords, values, 0);
    if (!connection->handle || PQstatus(connection->handle) == CONNECTION_BAD) {
        connection_next(connection, postgres_connection_message(connection));
        return;
    }
    PQsetNoticeReceiver(connection->handle, connection_on_notice, connection);
    connection_arm_timer(connection);
    /* "as if the last PQconnectPoll had returned PGRES_POLLING_WRITING" */
    connection->read_event =
        event_new(connection->base, PQsocket(connection->handle), EV_WRITE, connection_on_poll, connection);
    event_add(connection->read_event, NULL);
}

static void connection_try_address(struct postgres_connection *connection)
{
    char numeric[NI_MAXHOST] = "";
    event_del(connection->timer);
    if (connection->address_next >= connection->address_count) {
        connection->host++;
        connection_try_host(connection);
        return;
    }
    const struct resolver_address *address = &connection->addresses[connection->address_next++];
    if (address->length)
        getnameinfo((const struct sockaddr *)&address->address, address->length, numeric, sizeof numeric,
            NULL, 0, NI_NUMERICHOST);
    connection_start(connection, numeric[0] ? numeric : connection->uri->hosts[connection->host].address);
}

static void connection_on_resolved(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure)
{
    struct postgres_connection *connection = context;
    assert(connection->magic == POSTGRES_CONNECTION_MAGIC);
    connection->resolver = NULL; /* frees itself */
    connection->address_next = 0;
    connection->address_count = count;
    if (failure)
        error_set(&connection->failure, -1, "cannot resolve '%s': %s",
            connection->uri->hosts[connection->host].name, failure);
    else
        memcpy(connection->addresses, addresses, count * sizeof *addresses);
    connection_try_address(connection);
}

static void connection_try_host(struct postgres_connection *connection)
{
    if (connection->host >= connection->uri->host_count) {
        connection_give_up(connection);
        return;
    }
    const struct postgres_host *host = &connection->uri->hosts[connection->host];
    connection->state = POSTGRES_RESOLVING;
    connection->address_next = 0;
    if (host->address || !*host->name || host->name[0] == '/' || host->name[0] == '@') {
        connection->address_count = 1; /* nothing to resolve */
        connection->addresses[0].length = 0;
        connection_try_address(connection);
        return;
    }
    connection->address_count = 0;
    connection_arm_timer(connection);
    connection->resolver =
        resolver_start(connection->base, host->name, host->port, connection_on_resolved, connection);
}

static void connection_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_connection *connection = context;
    struct error why = {0};
    assert(connection->magic == POSTGRES_CONNECTION_MAGIC);
    (void)descriptor;
    (void)what;
    if (connection->state == POSTGRES_CLOSED) {
        connection->host = 0; /* the start of an attempt, from the loop */
        connection_try_host(connection);
        return;
    }
    const struct postgres_host *host = &connection->uri->hosts[connection->host];
    resolver_cancel(connection->resolver);
    connection->resolver = NULL;
    error_set(&why, -1, "%s %s:%d: no answer in time",
        connection->state == POSTGRES_RESOLVING ? "looking up" : "connecting to", host->name, host->port);
    connection_next(connection, why.text);
}

void postgres_connection_open(struct postgres_connection *connection)
{
    struct timeval now = {0, 0};
    postgres_connection_close(connection);
    connection->failure = (struct error){0};
    event_add(connection->timer, &now);
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
    struct postgres_connection *connection = memory_allocate(sizeof *connection);
    connection->magic = POSTGRES_CONNECTION_MAGIC;
    connection->base = base;
    connection->uri = uri;
    connection->callbacks = *callbacks;
    connection->context = context;
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
    event_free(connection->timer);
    event_free(connection->again);
    event_free(connection->failing);
    text_free(&connection->message);
    connection->magic = 0;
    free(connection);
}
