#include "broadcast/postgres/postgres_sender.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broadcast/postgres/postgres_asks.h"
#include "broadcast/postgres/postgres_batch.h"
#include "broadcast/postgres/postgres_connection.h"
#include "broadcast/postgres/postgres_limits.h"
#include "broadcast/postgres/postgres_sql.h"
#include "broadcast/postgres/postgres_start.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define POSTGRES_SENDER_MAGIC 0x70677365u
/* Each may be as large as an event. */
#define SENDER_ROWS_IN_FLIGHT 8
/* A row must outlive the slowest reader that is still alive, by far: in deadlines. */
#define SENDER_RETENTION 10

struct postgres_sender {
    uint32_t magic;
    struct relay *relay;
    const char *channel;
    const char *table;
    struct postgres_connection *connection;
    postgres_other_backend *other_backend;
    void *context;
    struct postgres_start *start;
    bool live;
    /* of the last start */
    bool table_usable;
    bool escape;
    /* the log has the line about the missing table */
    bool table_told;
    /* libpq refused a statement: the connection is lost, reported from the loop */
    bool broken;
    struct postgres_asks asks;
    struct postgres_batch batch;
    /* of the oldest ask with a sync of its own, until that comes */
    PGresult *result;
    struct text row_prefix;
    struct text row_suffix;
    struct text escaped;
    /* a batch that needs no answer */
    struct event *again;
    struct event *clean;
    uint64_t clean_ns;
};

static struct postgres_sender *sender_from(void *context)
{
    return object_cast(struct postgres_sender, POSTGRES_SENDER_MAGIC, context);
}

/* The connection is of no use any more; reported from the loop. */
static void sender_break(struct postgres_sender *sender, const char *why)
{
    sender->broken = true;
    postgres_connection_fail(sender->connection, why);
}

/* ---- sending ---- */

/* False when libpq does not take the statement: the connection is broken. */
MUST_CHECK static bool sender_statement(
    struct postgres_sender *sender, const char *name, int count, const char *const *values, bool sync)
{
    PGconn *handle = postgres_connection_handle(sender->connection);
    if (PQsendQueryPrepared(handle, name, count, values, NULL, NULL, 0) && (!sync || PQpipelineSync(handle)))
        return true;
    sender_break(sender, postgres_connection_message(sender->connection));
    return false;
}

bool postgres_sender_send(struct postgres_sender *sender, struct slice message)
{
    struct postgres_batch *batch = &sender->batch;
    if (sender->broken || batch->sent || !postgres_asks_have_room(&sender->asks))
        return false;
    if (sender->escape)
        message = postgres_escape_json(&sender->escaped, message);
    bool large = message.length > POSTGRES_NOTIFY_MAX;
    bool no_table = large && !sender->table_usable;
    if (no_table && batch->count)
        return false; /* alone, so that it is the oldest in flight when it is refused */
    if (!postgres_batch_add(batch, message))
        return false;
    if (no_table) {
        batch->no_table = true;
        event_active(sender->again, EV_TIMEOUT, 0);
        return true;
    }
    const char *values[] = {sender->channel, message.data, sender->row_prefix.data, sender->row_suffix.data};
    const char *statement = large ? POSTGRES_STATEMENT_STORE : POSTGRES_STATEMENT_NOTIFY;
    if (!sender_statement(sender, statement, large ? 4 : 2, values, false)) {
        postgres_batch_take_back(batch, message);
        return false;
    }
    postgres_asks_push(&sender->asks, (struct postgres_ask){.kind = POSTGRES_ASK_MESSAGE});
    return true;
}

void postgres_sender_flush(struct postgres_sender *sender)
{
    struct postgres_batch *batch = &sender->batch;
    if (sender->broken || !batch->count || batch->sent || batch->no_table)
        return;
    batch->sent = true;
    if (!PQpipelineSync(postgres_connection_handle(sender->connection))) {
        sender_break(sender, postgres_connection_message(sender->connection));
        return;
    }
    postgres_asks_push(&sender->asks, (struct postgres_ask){.kind = POSTGRES_ASK_BATCH});
    postgres_connection_flush(sender->connection);
}

void postgres_sender_fetch_rows(struct postgres_sender *sender)
{
    uint64_t row;
    char number[24];
    char most[24];
    if (!sender->live)
        return;
    if (!sender->table_usable) { /* gone since: what waits for it must not wait for ever */
        while (relay_next_row(sender->relay, &row))
            relay_row(sender->relay, row, (struct slice){0});
        return;
    }
    snprintf(most, sizeof most, "%" PRIu64, POSTGRES_ROW_MAX);
    while (!sender->broken && sender->asks.rows < SENDER_ROWS_IN_FLIGHT &&
           postgres_asks_have_room(&sender->asks) && relay_next_row(sender->relay, &row)) {
        snprintf(number, sizeof number, "%" PRIu64, row);
        if (sender_statement(sender, POSTGRES_STATEMENT_ROW, 2, (const char *const[]){number, most}, true))
            postgres_asks_push(&sender->asks, (struct postgres_ask){.kind = POSTGRES_ASK_ROW, .row = row});
    }
    postgres_connection_flush(sender->connection);
}

static void sender_on_clean(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_sender *sender = sender_from(context);
    char seconds[32];
    const char *values[] = {seconds};
    (void)descriptor;
    (void)what;
    if (!sender->live || !sender->table_usable || sender->broken || !postgres_asks_have_room(&sender->asks))
        return;
    snprintf(seconds, sizeof seconds, "%.3f",
        (double)(SENDER_RETENTION * sender->clean_ns) / (double)CLOCK_SECOND);
    if (sender_statement(sender, POSTGRES_STATEMENT_CLEAN, 1, values, true))
        postgres_asks_push(&sender->asks, (struct postgres_ask){.kind = POSTGRES_ASK_CLEAN});
    postgres_connection_flush(sender->connection);
}

/* ---- answers ---- */

static void sender_on_batch(struct postgres_sender *sender)
{
    unsigned count;
    bool too_long;
    bool known = true;
    struct text why;
    switch (postgres_batch_finish(&sender->batch, &count, &too_long, &why)) {
    case POSTGRES_BATCH_DONE:
        while (count-- && known)
            known = relay_acknowledged(sender->relay);
        break;
    case POSTGRES_BATCH_REFUSED:
        known = relay_refused(sender->relay, why.data, too_long);
        break;
    case POSTGRES_BATCH_AGAIN:
        relay_send_again(sender->relay);
        break;
    case POSTGRES_BATCH_BROKEN:
        sender_break(sender, why.data);
        break;
    }
    text_free(&why);
    if (!known)
        sender_break(sender, "an answer to nothing");
}

/* The message that would need the table. */
static void sender_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_sender *sender = sender_from(context);
    unsigned count;
    bool too_long;
    struct text why;
    (void)descriptor;
    (void)what;
    if (!sender->live || !sender->batch.no_table)
        return;
    postgres_batch_failed(&sender->batch, "22023",
        SLICE_LITERAL("longer than NOTIFY takes, and the table for large events can't be had"));
    if (postgres_batch_finish(&sender->batch, &count, &too_long, &why) != POSTGRES_BATCH_REFUSED ||
        !relay_refused(sender->relay, why.data, too_long))
        sender_break(sender, "an answer to nothing");
    text_free(&why);
}

static void sender_on_row(struct postgres_sender *sender, const PGresult *result, uint64_t row)
{
    struct slice message = {0};
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        struct text why = {0};
        postgres_append_error(&why, result);
        sender_break(sender, why.data); /* asked again on the next connection */
        text_free(&why);
        return;
    }
    if (PQntuples(result) == 1)
        message = (struct slice){PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0)};
    relay_row(sender->relay, row, message);
}

static void sender_on_cleaned(struct postgres_sender *sender, const PGresult *result)
{
    struct text why = {0};
    if (PQresultStatus(result) == PGRES_COMMAND_OK)
        return;
    postgres_append_error(&why, result);
    log_write(LOG_WARNING, LOGGER_POSTGRES, "cannot remove old rows from %s: %s", sender->table, why.data);
    text_free(&why);
}

/* The sync of the oldest ask came. */
static void sender_on_sync(struct postgres_sender *sender)
{
    PGresult *result = sender->result;
    struct postgres_ask ask = postgres_asks_pop(&sender->asks);
    sender->result = NULL;
    if (ask.kind == POSTGRES_ASK_BATCH)
        sender_on_batch(sender);
    else if (ask.kind == POSTGRES_ASK_ROW)
        sender_on_row(sender, result, ask.row);
    else
        sender_on_cleaned(sender, result);
    PQclear(result);
}

/* One statement of a batch is answered; what it comes to is decided by the sync. */
static void sender_on_message(struct postgres_sender *sender, const PGresult *result)
{
    postgres_asks_pop(&sender->asks);
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return;
    struct text why = {0};
    postgres_append_error(&why, result);
    postgres_batch_failed(&sender->batch, PQresultErrorField(result, PG_DIAG_SQLSTATE), text_slice(&why));
    text_free(&why);
}

static void sender_take_answers(struct postgres_sender *sender, PGconn *handle)
{
    uint64_t generation = postgres_connection_generation(sender->connection);
    bool ended = false; /* the last result was the NULL after a statement */
    while (sender->asks.count && !sender->broken && !PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            if (ended)
                return;
            ended = true;
            continue;
        }
        ended = false;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            sender_on_sync(sender);
            if (postgres_connection_generation(sender->connection) != generation)
                return;
        } else if (postgres_asks_front(&sender->asks).kind == POSTGRES_ASK_MESSAGE) {
            sender_on_message(sender, result);
            PQclear(result);
        } else {
            PQclear(sender->result);
            sender->result = result; /* until the sync says that it is so */
        }
    }
}

/* ---- life cycle ---- */

static void sender_on_connected(void *context)
{
    postgres_start_begin(sender_from(context)->start);
}

static void sender_on_input(void *context)
{
    struct postgres_sender *sender = sender_from(context);
    if (!sender->live) {
        postgres_start_input(sender->start);
        return;
    }
    uint64_t generation = postgres_connection_generation(sender->connection);
    PGnotify *stray = PQnotifies(postgres_connection_handle(sender->connection));
    if (stray) { /* this session has never asked for any */
        PQfreemem(stray);
        sender_break(sender, "the sender gets the listener's notifications; " POSTGRES_POOLER_HINT);
        return;
    }
    sender_take_answers(sender, postgres_connection_handle(sender->connection));
    if (postgres_connection_generation(sender->connection) == generation)
        postgres_sender_fetch_rows(sender);
}

static void sender_on_lost(void *context, const char *why)
{
    relay_lost(sender_from(context)->relay, RELAY_SENDER, why);
}

static void sender_note_table(struct postgres_sender *sender, const struct postgres_start_outcome *outcome)
{
    sender->table_usable = outcome->table_usable;
    if (!outcome->table_usable && !sender->table_told)
        log_write(LOG_WARNING, LOGGER_POSTGRES,
            "the table %s for large events can't be had (%s): events above %d bytes are refused. %s",
            sender->table, outcome->table_why, POSTGRES_NOTIFY_MAX,
            outcome->table_is_there ? "Its owner can help by GRANT USAGE on the schema and GRANT SELECT, "
                                      "INSERT, DELETE on the table"
                                    : "An owner of the database can help by creating the schema, with GRANT "
                                      "USAGE, CREATE on it to this role");
    sender->table_told = !outcome->table_usable;
}

static int sender_other_backend(void *context)
{
    struct postgres_sender *sender = sender_from(context);
    return sender->other_backend(sender->context);
}

static void sender_on_started(void *context, const struct postgres_start_outcome *outcome)
{
    struct postgres_sender *sender = sender_from(context);
    struct timeval each = clock_timeval_ns(sender->clean_ns);
    if (!PQenterPipelineMode(postgres_connection_handle(sender->connection))) {
        postgres_connection_fail(sender->connection, "libpq can't go to pipeline mode");
        return;
    }
    sender_note_table(sender, outcome);
    sender->escape = outcome->escape;
    sender->live = true;
    relay_set_message_max(sender->relay, sender->table_usable ? POSTGRES_ROW_MAX : POSTGRES_NOTIFY_MAX);
    postgres_connection_ready(sender->connection);
    event_add(sender->clean, &each);
    relay_live(sender->relay, RELAY_SENDER);
}

void postgres_sender_open(struct postgres_sender *sender)
{
    postgres_connection_open(sender->connection);
}

void postgres_sender_close(struct postgres_sender *sender)
{
    postgres_connection_close(sender->connection);
    PQclear(sender->result);
    sender->result = NULL;
    sender->live = false;
    sender->broken = false;
    postgres_asks_clear(&sender->asks);
    postgres_batch_reset(&sender->batch);
    event_del(sender->again);
    event_del(sender->clean);
}

void postgres_sender_wait(struct postgres_sender *sender, int timeout_ms)
{
    postgres_connection_wait(sender->connection, timeout_ms);
}

struct postgres_sender *postgres_sender_make(
    struct event_base *base, const struct postgres_sender_settings *settings, struct relay *relay)
{
    static const struct postgres_connection_callbacks callbacks = {
        .connected = sender_on_connected, .input = sender_on_input, .lost = sender_on_lost};
    struct postgres_sender *sender = memory_allocate(sizeof *sender);
    sender->magic = POSTGRES_SENDER_MAGIC;
    sender->relay = relay;
    sender->channel = settings->channel;
    sender->table = settings->table;
    sender->clean_ns = settings->deadline_ns;
    sender->connection = postgres_connection_make(base, settings->uri, &callbacks, sender);
    sender->other_backend = settings->other_backend;
    sender->context = settings->context;
    sender->start = postgres_start_make(sender->connection, settings->schema, settings->table,
        sender_other_backend, sender_on_started, sender);
    sender->again = event_new(base, -1, 0, sender_on_again, sender);
    sender->clean = event_new(base, -1, EV_PERSIST, sender_on_clean, sender);
    relay_row_template(relay, &sender->row_prefix, &sender->row_suffix);
    return sender;
}

void postgres_sender_free(struct postgres_sender *sender)
{
    if (!sender)
        return;
    postgres_sender_close(sender);
    postgres_start_free(sender->start);
    postgres_connection_free(sender->connection);
    event_free(sender->again);
    event_free(sender->clean);
    text_free(&sender->row_prefix);
    text_free(&sender->row_suffix);
    text_free(&sender->escaped);
    postgres_batch_free(&sender->batch);
    sender->magic = 0;
    free(sender);
}
