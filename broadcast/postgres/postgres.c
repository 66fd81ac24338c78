/*
 * Postgres as the backbone: LISTEN on one connection, pg_notify on another. A statement's success is the
 * acknowledgement: it means that the notification is committed and in the server's queue for every session
 * that listens at this moment. What follows from that, and the guarantees, are in broadcast/relay/relay.h.
 *
 * NOTIFY carries less than 8000 bytes. Larger messages become a row, and a small control message names it.
 * Whoever gets that fetches the row over its sender's connection and holds back everything that comes behind
 * it until the row is there, so the order is the order of the commits. Messages that fit stay readable for
 * every other kind of server.
 */
#include "broadcast/postgres/postgres.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_limits.h"
#include "broadcast/postgres/postgres_listener.h"
#include "broadcast/postgres/postgres_sender.h"
#include "broadcast/postgres/postgres_sql.h"
#include "broadcast/postgres/postgres_start.h"
#include "broadcast/postgres/postgres_uri.h"
#include "broadcast/relay/relay.h"
#include "shm/common/clock.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define POSTGRES_MAGIC 0x70677371u

struct postgres {
    uint32_t magic;
    struct relay *relay;
    struct postgres_uri uri;
    char *channel;
    char *schema;
    /* quoted, with its schema */
    char *table;
    struct postgres_listener *listener;
    struct postgres_sender *sender;
};

static struct postgres *postgres_from(void *self)
{
    return object_cast(struct postgres, POSTGRES_MAGIC, self);
}

/* ---- the relay's driver ---- */

static void postgres_open_side(void *self, enum relay_side side)
{
    if (side == RELAY_LISTENER)
        postgres_listener_open(postgres_from(self)->listener);
    else
        postgres_sender_open(postgres_from(self)->sender);
}

static void postgres_close_side(void *self, enum relay_side side)
{
    if (side == RELAY_LISTENER)
        postgres_listener_close(postgres_from(self)->listener);
    else
        postgres_sender_close(postgres_from(self)->sender);
}

static bool postgres_send(void *self, struct slice message)
{
    return postgres_sender_send(postgres_from(self)->sender, message);
}

static void postgres_flush(void *self)
{
    postgres_sender_flush(postgres_from(self)->sender);
}

static void postgres_read(void *self, bool on)
{
    postgres_listener_read(postgres_from(self)->listener, on);
}

static void postgres_probe(void *self)
{
    postgres_listener_probe(postgres_from(self)->listener);
}

static void postgres_fetch_rows(void *self)
{
    postgres_sender_fetch_rows(postgres_from(self)->sender);
}

static void postgres_wait(void *self, int timeout_ms)
{
    postgres_sender_wait(postgres_from(self)->sender, timeout_ms);
}

/* ---- the backend ---- */

static int postgres_check_uri(const char *text, struct error *err)
{
    struct postgres_uri uri;
    if (postgres_uri_parse(text, 0, &uri, err) < 0)
        return -1;
    postgres_uri_free(&uri);
    return 0;
}

static int postgres_check_names(const char *channel, const char *schema, struct error *err)
{
    if (!*channel || strlen(channel) > POSTGRES_NAME_MAX)
        return error_set(err, -1, "the channel name '%s' has %zu bytes: Postgres takes 1 to %d", channel,
            strlen(channel), POSTGRES_NAME_MAX);
    if (!*schema || strlen(schema) > POSTGRES_NAME_MAX)
        return error_set(err, -1, "the schema name '%s' has %zu bytes: Postgres takes 1 to %d", schema,
            strlen(schema), POSTGRES_NAME_MAX);
    return 0;
}

static int postgres_check_settings(const struct broadcast_settings *settings, struct error *err)
{
    return postgres_check_names(settings->channel, settings->postgres_schema, err);
}

static int postgres_listening_backend(void *context)
{
    return postgres_listener_backend(postgres_from(context)->listener);
}

static void *postgres_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err)
{
    static const struct relay_driver driver = {.logger = LOGGER_POSTGRES,
        .deaf_hint = POSTGRES_POOLER_HINT,
        .open = postgres_open_side,
        .close = postgres_close_side,
        .send = postgres_send,
        .flush = postgres_flush,
        .read = postgres_read,
        .probe = postgres_probe,
        .fetch_rows = postgres_fetch_rows,
        .wait = postgres_wait};
    const char *schema = settings->postgres_schema;
    struct text table = {0};
    if (postgres_check_settings(settings, err) < 0)
        return NULL;
    struct postgres *postgres = memory_allocate(sizeof *postgres);
    unsigned user_timeout_ms = (unsigned)(relay_deadline_ns(settings) / 2 / CLOCK_MILLISECOND);
    if (postgres_uri_parse(settings->uri, user_timeout_ms, &postgres->uri, err) < 0) {
        free(postgres);
        return NULL;
    }
    postgres->magic = POSTGRES_MAGIC;
    postgres->relay = relay_make(base, settings, callbacks, context, &driver, postgres);
    postgres->channel = memory_copy_string(settings->channel);
    postgres->schema = memory_copy_string(schema);
    postgres_append_identifier(&table, schema);
    text_append_string(&table, "." POSTGRES_TABLE_NAME);
    postgres->table = table.data; /* owned from here */
    postgres->listener = postgres_listener_make(base, &postgres->uri, postgres->channel, postgres->relay);
    postgres->sender = postgres_sender_make(base,
        &(struct postgres_sender_settings){.uri = &postgres->uri,
            .channel = postgres->channel,
            .schema = postgres->schema,
            .table = postgres->table,
            .deadline_ns = relay_deadline_ns(settings),
            .other_backend = postgres_listening_backend,
            .context = postgres},
        postgres->relay);
    relay_start(postgres->relay);
    return postgres;
}

static int postgres_publish(void *self, struct slice topic, struct slice data, uint64_t token)
{
    return relay_publish(postgres_from(self)->relay, topic, data, token);
}

static void postgres_resume(void *self)
{
    relay_resume(postgres_from(self)->relay);
}

static uint64_t postgres_message_max(void *self)
{
    return relay_message_max(postgres_from(self)->relay);
}

static size_t postgres_close(void *self, int grace_ms)
{
    struct postgres *postgres = postgres_from(self);
    size_t unsent = relay_close(postgres->relay, grace_ms);
    postgres_sender_free(postgres->sender);
    postgres_listener_free(postgres->listener);
    postgres_uri_free(&postgres->uri);
    free(postgres->channel);
    free(postgres->schema);
    free(postgres->table);
    postgres->magic = 0;
    free(postgres);
    return unsent;
}

static const char *const postgres_schemes[] = {"postgres", "postgresql", NULL};

const struct broadcast_backend broadcast_postgres = {.schemes = postgres_schemes,
    .check_uri = postgres_check_uri,
    .open = postgres_open,
    .publish = postgres_publish,
    .resume = postgres_resume,
    .message_max = postgres_message_max,
    .close = postgres_close,
    .check_settings = postgres_check_settings};
