/*
 * The sender's connection, in libpq's pipeline mode: statements go out without waiting, each with a sync of its own and so a
 * transaction of its own. (Within one transaction Postgres would deliver two equal notifications as one.) Answers
 * come in order; `asks` remembers what each one belongs to.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres_internal.h"
#include "server/common/clock.h"

#define SENDER_MESSAGES_IN_FLIGHT 512
#define SENDER_BYTES_IN_FLIGHT    ((size_t)1024 * 1024)
/* Each may be as large as an event. */
#define SENDER_ROWS_IN_FLIGHT 8

/* ---- asks ---- */

static void ask_push(struct postgres *postgres, struct postgres_ask ask)
{
    postgres->asks[(postgres->ask_first + postgres->ask_count++) % POSTGRES_ASKS_MAX] = ask;
    if (ask.kind == POSTGRES_ASK_ROW)
        postgres->rows_asked++;
    postgres->bytes_in_flight += ask.length;
}

static struct postgres_ask ask_pop(struct postgres *postgres)
{
    struct postgres_ask ask = postgres->asks[postgres->ask_first];
    postgres->ask_first = (postgres->ask_first + 1) % POSTGRES_ASKS_MAX;
    postgres->ask_count--;
    if (ask.kind == POSTGRES_ASK_ROW)
        postgres->rows_asked--;
    postgres->bytes_in_flight -= ask.length;
    return ask;
}

/* ---- sending ---- */

/* A statement and its sync. False when libpq does not take it: the connection is broken. */
static bool sender_statement(struct postgres *postgres, const char *name, int count,
    const char *const *values, const int *lengths, const int *formats)
{
    PGconn *handle = postgres_connection_handle(postgres->sender);
    if (PQsendQueryPrepared(handle, name, count, values, lengths, formats, 0) && PQpipelineSync(handle))
        return true;
    postgres->broken = true;
    postgres_connection_fail(postgres->sender, postgres_connection_message(postgres->sender));
    return false;
}

static void append_escape(struct text *out, uint32_t unit)
{
    text_append_format(out, "\\u%04x", unit);
}

/* JSON text with everything beyond ASCII as \uXXXX: in valid JSON such bytes occur only inside strings, where that means the same. The text has
 * been checked for UTF-8 before. */
static struct slice escape_non_ascii(struct text *out, struct slice in)
{
    text_clear(out);
    for (size_t i = 0; i < in.length;) {
        unsigned char lead = (unsigned char)in.data[i];
        size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (length == 1 || i + length > in.length) {
            text_append_char(out, in.data[i++]);
            continue;
        }
        uint32_t code = lead & (0xffu >> (length + 1));
        for (size_t k = 1; k < length; k++)
            code = code << 6 | ((unsigned char)in.data[i + k] & 0x3fu);
        if (code >= 0x10000) {
            append_escape(out, 0xd800 + ((code - 0x10000) >> 10));
            append_escape(out, 0xdc00 + ((code - 0x10000) & 0x3ff));
        } else {
            append_escape(out, code);
        }
        i += length;
    }
    return text_slice(out);
}

bool postgres_sender_send(struct postgres *postgres, struct slice message)
{
    unsigned messages = postgres->ask_count - postgres->rows_asked;
    if (postgres->broken || messages >= SENDER_MESSAGES_IN_FLIGHT ||
        (messages && postgres->bytes_in_flight + message.length > SENDER_BYTES_IN_FLIGHT))
        return false;
    if (postgres->escape)
        message = escape_non_ascii(&postgres->escaped, message);
    struct postgres_ask ask = {.kind = POSTGRES_ASK_MESSAGE, .length = message.length};
    const char *values[] = {
        postgres->channel, message.data, postgres->row_prefix.data, postgres->row_suffix.data};
    if (message.length <= POSTGRES_NOTIFY_MAX) {
        if (!sender_statement(postgres, "opald_notify", 2, values, NULL, NULL))
            return false;
    } else if (postgres->table_usable) {
        if (!sender_statement(postgres, "opald_store", 4, values, NULL, NULL))
            return false;
    } else {
        ask.kind = POSTGRES_ASK_TOO_LARGE;
        event_active(postgres->again, EV_TIMEOUT, 0);
    }
    ask_push(postgres, ask);
    return true;
}

void postgres_sender_fetch_rows(struct postgres *postgres)
{
    uint64_t row;
    char number[24];
    char most[24];
    if (!postgres->sender_live)
        return;
    if (!postgres->table_usable) { /* gone since: what waits for it must not wait for ever */
        while (relay_next_row(postgres->relay, &row))
            relay_row(postgres->relay, row, (struct slice){0});
        return;
    }
    snprintf(most, sizeof most, "%" PRIu64, POSTGRES_ROW_MAX);
    while (!postgres->broken && postgres->rows_asked < SENDER_ROWS_IN_FLIGHT &&
           postgres->ask_count < POSTGRES_ASKS_MAX - 1 && relay_next_row(postgres->relay, &row)) {
        snprintf(number, sizeof number, "%" PRIu64, row);
        if (sender_statement(postgres, "opald_row", 2, (const char *const[]){number, most}, NULL, NULL))
            ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_ROW, .row = row});
    }
    postgres_connection_flush(postgres->sender);
}

static void sender_on_clean(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres *postgres = context;
    char seconds[32];
    const char *values[] = {seconds};
    (void)descriptor;
    (void)what;
    if (!postgres->sender_live || !postgres->table_usable || postgres->broken ||
        postgres->ask_count >= POSTGRES_ASKS_MAX - 1)
        return;
    snprintf(seconds, sizeof seconds, "%.3f", (double)postgres->retention_ns / (double)CLOCK_SECOND);
    if (sender_statement(postgres, "opald_clean", 1, values, NULL, NULL))
        ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_CLEAN});
    postgres_connection_flush(postgres->sender);
}

/* ---- answers ---- */

static void sender_on_message_error(struct postgres *postgres, const PGresult *result)
{
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    struct text why = {0};
    postgres_append_error(&why, result);
    /* Class 22 (data exception: too long, not to be represented) is the message's fault and will be so again. Anything else, such
     * as a full disk or a dropped table, is the server's and may pass: the message is kept, the start of the next connection looks again. */
    if (code && strncmp(code, "22", 2) == 0) {
        if (!relay_refused(postgres->relay, why.data, strcmp(code, "22023") == 0))
            postgres_connection_fail(postgres->sender, "an answer to nothing");
    } else {
        postgres->broken = true;
        postgres_connection_fail(postgres->sender, why.data);
    }
    text_free(&why);
}

static void sender_on_row(struct postgres *postgres, const PGresult *result, uint64_t row)
{
    struct slice message = {0};
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        struct text why = {0};
        postgres_append_error(&why, result);
        postgres->broken = true; /* asked again on the next connection */
        postgres_connection_fail(postgres->sender, why.data);
        text_free(&why);
        return;
    }
    if (PQntuples(result) == 1)
        message = (struct slice){PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0)};
    relay_row(postgres->relay, row, message);
}

/* The oldest ask is answered by `result`. */
static void sender_settle(struct postgres *postgres, const PGresult *result)
{
    struct postgres_ask ask = ask_pop(postgres);
    bool good = PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
    switch (ask.kind) {
    case POSTGRES_ASK_MESSAGE:
        if (!good)
            sender_on_message_error(postgres, result);
        else if (!relay_acknowledged(postgres->relay))
            postgres_connection_fail(postgres->sender, "an acknowledgement of nothing");
        break;
    case POSTGRES_ASK_ROW:
        sender_on_row(postgres, result, ask.row);
        break;
    case POSTGRES_ASK_CLEAN:
        if (!good)
            log_write(LOG_WARNING, POSTGRES_LOGGER, "cannot remove old rows from %s: %s", postgres->table,
                PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
                    ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
                    : "unknown reason");
        break;
    case POSTGRES_ASK_TOO_LARGE:
        break;
    }
}

/* Asks at the head for which nothing was sent. */
static void sender_settle_unsent(struct postgres *postgres)
{
    while (postgres->ask_count && postgres->asks[postgres->ask_first].kind == POSTGRES_ASK_TOO_LARGE) {
        ask_pop(postgres);
        if (!relay_refused(postgres->relay,
                "longer than NOTIFY takes, and the table for large events can't be had", true))
            postgres_connection_fail(postgres->sender, "an answer to nothing");
    }
}

static void sender_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres *postgres = context;
    (void)descriptor;
    (void)what;
    if (postgres->sender_live)
        sender_settle_unsent(postgres);
}

static void sender_take_answers(struct postgres *postgres, PGconn *handle)
{
    uint64_t generation = postgres_connection_generation(postgres->sender);
    bool ended = false; /* the last result was the NULL after a statement */
    while (postgres->ask_count && !postgres->broken && !PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            if (ended)
                return;
            ended = true;
            continue;
        }
        ended = false;
        if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
            PQclear(postgres->result);
            postgres->result = result; /* until the sync says that it is committed */
            continue;
        }
        PQclear(result);
        result = postgres->result;
        postgres->result = NULL;
        sender_settle(postgres, result);
        PQclear(result);
        if (postgres_connection_generation(postgres->sender) != generation)
            return;
        sender_settle_unsent(postgres);
    }
}

static void sender_input(void *context)
{
    struct postgres *postgres = context;
    if (!postgres->sender_live) {
        postgres_start_input(postgres);
        return;
    }
    uint64_t generation = postgres_connection_generation(postgres->sender);
    sender_take_answers(postgres, postgres_connection_handle(postgres->sender));
    if (postgres_connection_generation(postgres->sender) == generation)
        postgres_sender_fetch_rows(postgres);
}

/* ---- life cycle ---- */

static void sender_connected(void *context)
{
    postgres_start_begin(context);
}

void postgres_sender_ready(struct postgres *postgres)
{
    if (!PQenterPipelineMode(postgres_connection_handle(postgres->sender))) {
        postgres_connection_fail(postgres->sender, "libpq can't go to pipeline mode");
        return;
    }
    postgres->sender_live = true;
    relay_set_message_max(postgres->relay, postgres->table_usable ? POSTGRES_ROW_MAX : POSTGRES_NOTIFY_MAX);
    if (!postgres->table_usable && !postgres->table_told)
        log_write(LOG_WARNING, POSTGRES_LOGGER,
            "the table %s for large events can't be had (%s): events above %d bytes are refused. An owner of "
            "the database can help with: "
            "CREATE SCHEMA IF NOT EXISTS \"%s\"; GRANT USAGE, CREATE ON SCHEMA \"%s\" TO the role of the URI",
            postgres->table, postgres->table_why.data, POSTGRES_NOTIFY_MAX, postgres->schema,
            postgres->schema);
    postgres->table_told = !postgres->table_usable;
    postgres_connection_ready(postgres->sender);
    struct timeval each = {
        (time_t)(postgres->clean_ns / CLOCK_SECOND), (suseconds_t)(postgres->clean_ns % CLOCK_SECOND / 1000)};
    event_add(postgres->clean, &each);
    relay_live(postgres->relay, RELAY_SENDER);
}

static void sender_lost(void *context, const char *why)
{
    struct postgres *postgres = context;
    relay_lost(postgres->relay, RELAY_SENDER, why);
}

void postgres_sender_close(struct postgres *postgres)
{
    postgres_connection_close(postgres->sender);
    PQclear(postgres->result);
    postgres->result = NULL;
    postgres->sender_live = false;
    postgres->broken = false;
    postgres->ask_first = postgres->ask_count = postgres->rows_asked = 0;
    postgres->bytes_in_flight = 0;
    event_del(postgres->again);
    event_del(postgres->clean);
}

void postgres_sender_make(struct postgres *postgres, struct event_base *base, uint64_t deadline_ns)
{
    postgres->again = event_new(base, -1, 0, sender_on_again, postgres);
    postgres->clean = event_new(base, -1, EV_PERSIST, sender_on_clean, postgres);
    relay_row_template(postgres->relay, &postgres->row_prefix, &postgres->row_suffix);
    /* A row must outlive the slowest reader that is still alive, by far. */
    postgres->clean_ns = deadline_ns;
    postgres->retention_ns = 10 * postgres->clean_ns;
}

void postgres_sender_free(struct postgres *postgres)
{
    postgres_sender_close(postgres);
    event_free(postgres->again);
    event_free(postgres->clean);
    text_free(&postgres->row_prefix);
    text_free(&postgres->row_suffix);
    text_free(&postgres->escaped);
    text_free(&postgres->table_why);
}

const struct postgres_connection_callbacks postgres_sender_callbacks = {
    .connected = sender_connected, .input = sender_input, .lost = sender_lost};
