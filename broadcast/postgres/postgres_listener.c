#include "broadcast/postgres/postgres_internal.h"

static void listener_connected(void *context)
{
    struct postgres *postgres = context;
    struct text sql = {0};
    /* LISTEN needs no work afterwards, so the session would run into a time limit for idle ones. */
    text_append_string(&sql, "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "
                             "WHERE name = 'idle_session_timeout';"
                             "LISTEN ");
    postgres_append_identifier(&sql, postgres->channel);
    postgres->listener_live = false;
    postgres->probing = true;
    if (!PQsendQuery(postgres_connection_handle(postgres->listener), sql.data))
        postgres_connection_fail(postgres->listener, postgres_connection_message(postgres->listener));
    postgres_connection_flush(postgres->listener);
    text_free(&sql);
}

/* Answers to LISTEN and to probes. False when one was an error. */
static bool listener_take_results(struct postgres *postgres, PGconn *handle)
{
    bool good = true;
    while (postgres->probing && !PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            postgres->probing = false;
            break;
        }
        ExecStatusType status = PQresultStatus(result);
        if (good && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
            struct text why = {0};
            postgres_append_error(&why, result);
            postgres_connection_fail(postgres->listener, why.data);
            text_free(&why);
            good = false;
        }
        PQclear(result);
    }
    return good;
}

static void listener_take_notifications(struct postgres *postgres, PGconn *handle)
{
    uint64_t generation = postgres_connection_generation(postgres->listener);
    PGnotify *notify;
    bool more = true;
    while (more && (notify = PQnotifies(handle))) {
        more = relay_received(postgres->relay, slice_from_string(notify->extra));
        PQfreemem(notify);
        if (postgres_connection_generation(postgres->listener) != generation)
            return;
    }
}

static void listener_input(void *context)
{
    struct postgres *postgres = context;
    PGconn *handle = postgres_connection_handle(postgres->listener);
    uint64_t generation = postgres_connection_generation(postgres->listener);
    relay_heard(postgres->relay);
    if (!listener_take_results(postgres, handle))
        return;
    if (!postgres->listener_live) {
        if (postgres->probing)
            return;
        postgres->listener_live = true;
        postgres_connection_ready(postgres->listener);
        relay_live(postgres->relay, RELAY_LISTENER);
        if (postgres_connection_generation(postgres->listener) != generation)
            return;
    }
    listener_take_notifications(postgres, handle);
    relay_batch_end(postgres->relay);
}

static void listener_lost(void *context, const char *why)
{
    struct postgres *postgres = context;
    relay_lost(postgres->relay, RELAY_LISTENER, why);
}

void postgres_listener_close(struct postgres *postgres)
{
    postgres_connection_close(postgres->listener);
    postgres->listener_live = false;
    postgres->probing = false;
}

void postgres_listener_probe(struct postgres *postgres)
{
    if (postgres->probing)
        return; /* the last one is not answered; the relay will notice the silence */
    if (!PQsendQuery(postgres_connection_handle(postgres->listener), "SELECT 1")) {
        postgres_connection_fail(postgres->listener, postgres_connection_message(postgres->listener));
        return;
    }
    postgres->probing = true;
    postgres_connection_flush(postgres->listener);
}

const struct postgres_connection_callbacks postgres_listener_callbacks = {
    .connected = listener_connected, .input = listener_input, .lost = listener_lost};
