#include "broadcast/postgres/postgres_listener.h"

#include <stdlib.h>

#include "broadcast/postgres/postgres_connection.h"
#include "broadcast/postgres/postgres_limits.h"
#include "broadcast/postgres/postgres_sql.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define POSTGRES_LISTENER_MAGIC 0x70676c69u

struct postgres_listener {
    uint32_t magic;
    struct relay *relay;
    const char *channel;
    struct postgres_connection *connection;
    bool live;
    /* the answer to LISTEN or to a probe is awaited */
    bool asked;
    /* the server process that does the LISTEN; 0: not known yet */
    int backend;
};

static struct postgres_listener *listener_from(void *context)
{
    return object_cast(struct postgres_listener, POSTGRES_LISTENER_MAGIC, context);
}

static void listener_ask(struct postgres_listener *listener, const char *sql)
{
    if (!PQsendQuery(postgres_connection_handle(listener->connection), sql)) {
        postgres_connection_fail(listener->connection, postgres_connection_message(listener->connection));
        return;
    }
    listener->asked = true;
    postgres_connection_flush(listener->connection);
}

static void listener_on_connected(void *context)
{
    struct postgres_listener *listener = listener_from(context);
    struct text sql = {0};
    /* LISTEN needs no work afterwards, so the session would run into a time limit for idle ones. */
    text_append_string(&sql, "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "
                             "WHERE name = 'idle_session_timeout';"
                             "LISTEN ");
    postgres_append_identifier(&sql, listener->channel);
    text_append_string(&sql, ";" POSTGRES_BACKEND_QUERY);
    listener->live = false;
    listener->backend = 0;
    listener_ask(listener, sql.data);
    text_free(&sql);
}

/* False when it comes from another server process than the LISTEN: something in between gives the session to
 * others from statement to statement, and no notification will ever arrive. */
static bool listener_check_backend(struct postgres_listener *listener, const PGresult *result)
{
    struct error why = {0};
    int backend = postgres_result_backend(result);
    if (!listener->backend)
        listener->backend = backend;
    if (!backend || backend == listener->backend)
        return true;
    error_set(&why, -1, "deaf: process %d of Postgres listens and process %d answers; %s", listener->backend,
        backend, POSTGRES_POOLER_HINT);
    postgres_connection_fail(listener->connection, why.text);
    return false;
}

/* Answers to LISTEN and to probes. False when one was an error. */
static bool listener_take_results(struct postgres_listener *listener, PGconn *handle)
{
    bool good = true;
    while (listener->asked && !PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            listener->asked = false;
            break;
        }
        ExecStatusType status = PQresultStatus(result);
        if (good && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
            struct text why = {0};
            postgres_append_error(&why, result);
            postgres_connection_fail(listener->connection, why.data);
            text_free(&why);
            good = false;
        } else if (good && status == PGRES_TUPLES_OK) {
            good = listener_check_backend(listener, result);
        }
        PQclear(result);
    }
    return good;
}

static void listener_take_notifications(struct postgres_listener *listener, PGconn *handle)
{
    uint64_t generation = postgres_connection_generation(listener->connection);
    PGnotify *notify;
    bool more = true;
    while (more && (notify = PQnotifies(handle))) {
        more = relay_received(listener->relay, slice_from_string(notify->extra));
        PQfreemem(notify);
        if (postgres_connection_generation(listener->connection) != generation)
            return;
    }
}

static void listener_on_input(void *context)
{
    struct postgres_listener *listener = listener_from(context);
    PGconn *handle = postgres_connection_handle(listener->connection);
    uint64_t generation = postgres_connection_generation(listener->connection);
    relay_heard(listener->relay);
    if (!listener_take_results(listener, handle))
        return;
    if (!listener->live) {
        if (listener->asked)
            return;
        listener->live = true;
        postgres_connection_ready(listener->connection);
        relay_live(listener->relay, RELAY_LISTENER);
        if (postgres_connection_generation(listener->connection) != generation)
            return;
    }
    listener_take_notifications(listener, handle);
    relay_batch_end(listener->relay);
}

static void listener_on_lost(void *context, const char *why)
{
    relay_lost(listener_from(context)->relay, RELAY_LISTENER, why);
}

void postgres_listener_open(struct postgres_listener *listener)
{
    postgres_connection_open(listener->connection);
}

void postgres_listener_close(struct postgres_listener *listener)
{
    postgres_connection_close(listener->connection);
    listener->live = false;
    listener->asked = false;
    listener->backend = 0;
}

int postgres_listener_backend(const struct postgres_listener *listener)
{
    return listener->backend;
}

void postgres_listener_read(struct postgres_listener *listener, bool on)
{
    postgres_connection_read(listener->connection, on);
}

void postgres_listener_probe(struct postgres_listener *listener)
{
    if (!listener->asked) /* else the last one is not answered: the relay will notice the silence */
        listener_ask(listener, POSTGRES_BACKEND_QUERY);
}

struct postgres_listener *postgres_listener_make(
    struct event_base *base, const struct postgres_uri *uri, const char *channel, struct relay *relay)
{
    static const struct postgres_connection_callbacks callbacks = {
        .connected = listener_on_connected, .input = listener_on_input, .lost = listener_on_lost};
    struct postgres_listener *listener = memory_allocate(sizeof *listener);
    listener->magic = POSTGRES_LISTENER_MAGIC;
    listener->relay = relay;
    listener->channel = channel;
    listener->connection = postgres_connection_make(base, uri, &callbacks, listener);
    return listener;
}

void postgres_listener_free(struct postgres_listener *listener)
{
    if (!listener)
        return;
    postgres_connection_free(listener->connection);
    listener->magic = 0;
    free(listener);
}
