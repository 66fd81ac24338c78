/*
 * Postgres as the backbone: LISTEN on one connection, pg_notify on another. A statement's success is the acknowledgement: it
 * means that the notification is committed and in the server's queue for every session that listens at this moment. What follows
 * from that, and the guarantees, are in broadcast/relay/relay.h.
 *
 * NOTIFY carries less than 8000 bytes. Larger messages become a row, and a small control message names it. Whoever gets
 * that fetches the row over its sender's connection and holds back everything that comes behind it until the row is there, so
 * the order is the order of the commits. Messages that fit stay readable for every other kind of server.
 */
#include "broadcast/postgres/postgres.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_internal.h"
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

/* ---- the relay's driver ---- */

static void postgres_open_side(void *self, enum relay_side side)
{
    struct postgres *postgres = self;
    postgres_connection_open(side == RELAY_LISTENER ? postgres->listener : postgres->sender);
}

static void postgres_close_side(void *self, enum relay_side side)
{
    if (side == RELAY_LISTENER)
        postgres_listener_close(self);
    else
        postgres_sender_close(self);
}

static bool postgres_send(void *self, struct slice message)
{
    return postgres_sender_send(self, message);
}

static void postgres_flush(void *self)
{
    postgres_sender_flush(self);
}

static void postgres_read(void *self, bool on)
{
    struct postgres *postgres = self;
    postgres_connection_read(postgres->listener, on);
}

static void postgres_probe(void *self)
{
    postgres_listener_probe(self);
}

static void postgres_fetch_rows(void *self)
{
    postgres_sender_fetch_rows(self);
}

static void postgres_wait(void *self, int timeout_ms)
{
    struct postgres *postgres = self;
    postgres_connection_wait(postgres->sender, timeout_ms);
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

static void *postgres_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err)
{
    static const struct relay_driver driver = {.logger = LOGGER_POSTGRES,
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
    postgres->listener =
        postgres_connection_make(base, &postgres->uri, &postgres_listener_callbacks, postgres);
    postgres->sender = postgres_connection_make(base, &postgres->uri, &postgres_sender_callbacks, postgres);
    postgres_sender_make(postgres, base, relay_deadline_ns(settings));
    relay_start(postgres->relay);
    return postgres;
}

static int postgres_publish(void *self, struct slice topic, struct slice data, uint64_t token)
{
    struct postgres *postgres = self;
    return relay_publish(postgres->relay, topic, data, token);
}

static void postgres_resume(void *self)
{
    struct postgres *postgres = self;
    relay_resume(postgres->relay);
}

static uint64_t postgres_message_max(const void *self)
{
    const struct postgres *postgres = self;
    return relay_message_max(postgres->relay);
}

static size_t postgres_close(void *self, int grace_ms)
{
    struct postgres *postgres = self;
    size_t unsent = relay_close(postgres->relay, grace_ms);
    postgres_sender_free(postgres);
    postgres_connection_free(postgres->listener);
    postgres_connection_free(postgres->sender);
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
