/*
 * The sender's connection, in libpq's pipeline mode. Messages go in batches: one transaction each, begun with the first
 * statement and ended by a sync, and the next batch only when this one is committed. So a commit is paid once for many messages when there
 * are many, a single message waits for nothing, and when something fails all of it is as if never sent: order holds. (Statements
 * with a transaction each, one behind the other, would be delivered around one that fails.) A batch that failed is sent again message by message, to
 * find the one to blame.
 *
 * Within one transaction Postgres delivers two equal notifications as one. So a message that may equal one of its batch (same
 * hash) starts the next one.
 *
 * Fetching rows and cleaning are statements with a sync of their own; they may be on their way beside a batch. `asks` remembers what each answer
 * belongs to.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_internal.h"
#include "shm/common/clock.h"
#include "shm/common/loggers.h"
#include "shm/common/utf8.h"

/* More than one message only up to this size. */
#define SENDER_BATCH_BYTES ((size_t)1024 * 1024)
/* Each may be as large as an event. */
#define SENDER_ROWS_IN_FLIGHT 8

/* ---- asks ---- */

static void ask_push(struct postgres *postgres, struct postgres_ask ask)
{
    postgres->asks[(postgres->ask_first + postgres->ask_count++) % POSTGRES_ASKS_MAX] = ask;
    if (ask.kind == POSTGRES_ASK_ROW)
        postgres->rows_asked++;
}

static struct postgres_ask ask_pop(struct postgres *postgres)
{
    struct postgres_ask ask = postgres->asks[postgres->ask_first];
    postgres->ask_first = (postgres->ask_first + 1) % POSTGRES_ASKS_MAX;
    postgres->ask_count--;
    if (ask.kind == POSTGRES_ASK_ROW)
        postgres->rows_asked--;
    return ask;
}

/* ---- sending ---- */

/* False when libpq does not take the statement: the connection is broken. */
static bool sender_statement(
    struct postgres *postgres, const char *name, int count, const char *const *values, bool sync)
{
    PGconn *handle = postgres_connection_handle(postgres->sender);
    if (PQsendQueryPrepared(handle, name, count, values, NULL, NULL, 0) && (!sync || PQpipelineSync(handle)))
        return true;
    postgres->broken = true;
    postgres_connection_fail(postgres->sender, postgres_connection_message(postgres->sender));
    return false;
}

/* JSON text with everything beyond ASCII as \uXXXX: in valid JSON such bytes occur only inside strings, where that means the same. The
 * text has been checked for UTF-8 before. */
static struct slice escape_non_ascii(struct text *out, struct slice in)
{
    text_clear(out);
    for (size_t i = 0, used; i < in.length; i += used) {
        uint32_t point;
        used = utf8_decode((struct slice){in.data + i, in.length - i}, &point);
        if (point < 0x80 || point == UTF8_ILL_FORMED)
            text_append(out, in.data + i, used);
        else
            text_append_json_escape(out, point);
    }
    return text_slice(out);
}

/* FNV-1a, 64 bits. Two different messages with one hash only cost a second transaction. */
static uint64_t hash_message(struct slice message)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < message.length; i++)
        hash = (hash ^ (unsigned char)message.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static bool batch_contains(const struct postgres_batch *batch, uint64_t hash)
{
    for (unsigned i = 0; i < batch->count; i++)
        if (batch->hashes[i] == hash)
            return true;
    return false;
}

static bool batch_has_room(const struct postgres_batch *batch, size_t length)
{
    if (batch->sent || batch->no_table)
        return false;
    return !batch->count || (!batch->singles && batch->count < POSTGRES_BATCH_MAX &&
                                batch->bytes + length <= SENDER_BATCH_BYTES);
}

bool postgres_sender_send(struct postgres *postgres, struct slice message)
{
    struct postgres_batch *batch = &postgres->batch;
    if (postgres->broken || !batch_has_room(batch, message.length) ||
        postgres->ask_count + 2 > POSTGRES_ASKS_MAX)
        return false;
    if (postgres->escape)
        message = escape_non_ascii(&postgres->escaped, message);
    uint64_t hash = hash_message(message);
    if (batch_contains(batch, hash))
        return false;
    bool large = message.length > POSTGRES_NOTIFY_MAX;
    const char *values[] = {
        postgres->channel, message.data, postgres->row_prefix.data, postgres->row_suffix.data};
    if (large && !postgres->table_usable) {
        if (batch->count)
            return false; /* alone, so that it is the oldest in flight when it is refused */
        batch->no_table = true;
        event_active(postgres->again, EV_TIMEOUT, 0);
    } else if (!sender_statement(
                   postgres, large ? "opald_store" : "opald_notify", large ? 4 : 2, values, false)) {
        return false;
    } else {
        ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_MESSAGE});
    }
    batch->hashes[batch->count++] = hash;
    batch->bytes += message.length;
    return true;
}

void postgres_sender_flush(struct postgres *postgres)
{
    struct postgres_batch *batch = &postgres->batch;
    if (postgres->broken || !batch->count || batch->sent || batch->no_table)
        return;
    batch->sent = true;
    if (!PQpipelineSync(postgres_connection_handle(postgres->sender))) {
        postgres->broken = true;
        postgres_connection_fail(postgres->sender, postgres_connection_message(postgres->sender));
        return;
    }
    ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_BATCH});
    postgres_connection_flush(postgres->sender);
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
        if (sender_statement(postgres, "opald_row", 2, (const char *const[]){number, most}, true))
            ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_ROW, .row = row});
    }
    postgres_connection_flush(postgres->sender);
}

static void sender_on_clean(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres *postgres = context;
    char seconds[32];
    const char *values[] = {seconds};
    assert(postgres->magic == POSTGRES_MAGIC);
    (void)descriptor;
    (void)what;
    if (!postgres->sender_live || !postgres->table_usable || postgres->broken ||
        postgres->ask_count >= POSTGRES_ASKS_MAX - 1)
        return;
    snprintf(seconds, sizeof seconds, "%.3f", (double)postgres->retention_ns / (double)CLOCK_SECOND);
    if (sender_statement(postgres, "opald_clean", 1, values, true))
        ask_push(postgres, (struct postgres_ask){.kind = POSTGRES_ASK_CLEAN});
    postgres_connection_flush(postgres->sender);
}

/* ---- answers ---- */

static void batch_clear(struct postgres_batch *batch)
{
    batch->count = 0;
    batch->bytes = 0;
    batch->sent = batch->no_table = batch->data_error = batch->too_long = false;
    text_clear(&batch->error);
}

/* One statement of the batch is answered; what it comes to is decided by the sync. */
static void batch_on_result(struct postgres_batch *batch, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || batch->error.length)
        return; /* after the first error the rest is only skipped */
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    postgres_append_error(&batch->error, result);
    if (!batch->error.length)
        text_append_string(&batch->error, "the statement failed");
    /* Class 22 (data exception: too long, not to be represented) is the message's fault and will be so again. Anything else, such
     * as a full disk or a dropped table, is the server's and may pass: the message is kept, and the start of the next connection looks again. */
    batch->data_error = code && strncmp(code, "22", 2) == 0;
    batch->too_long = code && strcmp(code, "22023") == 0;
}

static void batch_on_sync(struct postgres *postgres)
{
    struct postgres_batch *batch = &postgres->batch;
    unsigned count = batch->count;
    bool known = true;
    if (!batch->error.length) {
        batch_clear(batch);
        batch->singles -= batch->singles > count ? count : batch->singles;
        while (count-- && known)
            known = relay_acknowledged(postgres->relay);
    } else if (batch->data_error && count == 1) {
        struct text why = batch->error;
        bool too_long = batch->too_long;
        batch->error = (struct text){0};
        batch_clear(batch);
        batch->singles -= batch->singles > 0;
        known = relay_refused(postgres->relay, why.data, too_long);
        text_free(&why);
    } else if (batch->data_error) {
        batch_clear(batch);
        batch->singles = count;
        relay_send_again(postgres->relay);
    } else {
        postgres->broken = true;
        postgres_connection_fail(postgres->sender, batch->error.data);
    }
    if (!known)
        postgres_connection_fail(postgres->sender, "an answer to nothing");
}

/* The message that would need the table. */
static void sender_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres *postgres = context;
    assert(postgres->magic == POSTGRES_MAGIC);
    (void)descriptor;
    (void)what;
    if (!postgres->sender_live || !postgres->batch.no_table)
        return;
    batch_clear(&postgres->batch);
    if (!relay_refused(
            postgres->relay, "longer than NOTIFY takes, and the table for large events can't be had", true))
        postgres_connection_fail(postgres->sender, "an answer to nothing");
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

static void sender_on_cleaned(struct postgres *postgres, const PGresult *result)
{
    struct text why = {0};
    if (PQresultStatus(result) == PGRES_COMMAND_OK)
        return;
    postgres_append_error(&why, result);
    log_write(LOG_WARNING, LOGGER_POSTGRES, "cannot remove old rows from %s: %s", postgres->table, why.data);
    text_free(&why);
}

/* The sync of the oldest ask came. */
static void sender_on_sync(struct postgres *postgres)
{
    PGresult *result = postgres->result;
    struct postgres_ask ask = ask_pop(postgres);
    postgres->result = NULL;
    if (ask.kind == POSTGRES_ASK_BATCH)
        batch_on_sync(postgres);
    else if (ask.kind == POSTGRES_ASK_ROW)
        sender_on_row(postgres, result, ask.row);
    else
        sender_on_cleaned(postgres, result);
    PQclear(result);
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
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            sender_on_sync(postgres);
            if (postgres_connection_generation(postgres->sender) != generation)
                return;
        } else if (postgres->asks[postgres->ask_first].kind == POSTGRES_ASK_MESSAGE) {
            batch_on_result(&postgres->batch, result);
            ask_pop(postgres);
            PQclear(result);
        } else {
            PQclear(postgres->result);
            postgres->result = result; /* until the sync says that it is so */
        }
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
        log_write(LOG_WARNING, LOGGER_POSTGRES,
            "the table %s for large events can't be had (%s): events above %d bytes are refused. %s",
            postgres->table, postgres->table_why.data, POSTGRES_NOTIFY_MAX,
            postgres->table_is_there ? "Its owner can help by GRANT USAGE on the schema and GRANT SELECT, "
                                       "INSERT, DELETE on the table"
                                     : "An owner of the database can help by creating the schema, with GRANT "
                                       "USAGE, CREATE on it to this role");
    postgres->table_told = !postgres->table_usable;
    postgres_connection_ready(postgres->sender);
    struct timeval each = clock_timeval_ns(postgres->clean_ns);
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
    batch_clear(&postgres->batch);
    postgres->batch.singles = 0;
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
    text_free(&postgres->batch.error);
    text_free(&postgres->table_why);
}

const struct postgres_connection_callbacks postgres_sender_callbacks = {
    .connected = sender_connected, .input = sender_input, .lost = sender_lost};
