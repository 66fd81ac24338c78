/*
 * What the sender's connection does before it is of use, one simple query after the other:
 *
 *   0 session settings, prepared pg_notify     (must succeed)
 *   1 is it a primary? is the table usable?    (must succeed)
 *   2 create schema and table                  (only if it is not; may fail: no permission, or another server was faster)
 *   3 look again                               (only after 2)
 *   4 prepared statements of the table         (only if it is usable)
 *
 * Nothing is created that is there already: CREATE ... IF NOT EXISTS would ask for the permission to create even then.
 */
#include <string.h>

#include "broadcast/postgres/postgres_internal.h"

enum start_step { START_SESSION, START_LOOK, START_CREATE, START_LOOK_AGAIN, START_PREPARE, START_DONE };

void postgres_append_identifier(struct text *out, const char *name)
{
    text_append_char(out, '"');
    for (; *name; name++) {
        if (*name == '"')
            text_append_char(out, '"');
        text_append_char(out, *name);
    }
    text_append_char(out, '"');
}

void postgres_append_literal(struct text *out, const char *value)
{
    /* The E form: independent of standard_conforming_strings. */
    text_append_string(out, "E'");
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            text_append_char(out, *value);
        text_append_char(out, *value);
    }
    text_append_char(out, '\'');
}

void postgres_append_error(struct text *out, const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!message) { /* libpq's own, about the connection */
        message = PQresultErrorMessage(result);
        text_append(out, message, strcspn(message, "\n"));
        return;
    }
    text_append_format(out, "%s: %s", severity ? severity : "ERROR", message);
}

static void append_session(struct text *sql)
{
    /* Notifications don't outlive a crash of the server anyway: no commit needs to wait for the disk. A session without work is no
     * failure: the time limit for such (Postgres 14 and later, hence the lookup) does not apply to this one. */
    text_append_string(sql, "SET synchronous_commit = off;"
                            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "
                            "WHERE name = 'idle_session_timeout';"
                            "PREPARE opald_notify(text, text) AS SELECT pg_catalog.pg_notify($1, $2)");
}

/* By the catalogue: to_regclass and the like raise an error where the schema may not be used. The names may also belong to somebody
 * else's table; then it can't be had, and the log says so. */
static void append_look(struct postgres *postgres, struct text *sql)
{
    static const char *const rights[] = {"SELECT", "INSERT", "DELETE"};
    text_append_string(sql,
        "SELECT pg_catalog.pg_is_in_recovery(), coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE')");
    for (size_t i = 0; i < sizeof rights / sizeof *rights; i++)
        text_append_format(sql, " AND pg_catalog.has_table_privilege(c.oid, '%s')", rights[i]);
    text_append_string(sql, ", false), n.oid IS NOT NULL, c.oid IS NOT NULL FROM (VALUES (1)) AS one LEFT "
                            "JOIN pg_catalog.pg_namespace n "
                            "ON n.nspname = ");
    postgres_append_literal(sql, postgres->schema);
    text_append_string(sql,
        " LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = '" POSTGRES_TABLE_NAME
        "'");
}

static void append_create(struct postgres *postgres, struct text *sql)
{
    if (!postgres->schema_is_there) {
        text_append_string(sql, "CREATE SCHEMA ");
        postgres_append_identifier(sql, postgres->schema);
        text_append_string(sql, ";");
    }
    /* Unlogged: its rows are worth no more than the notifications that point to them, and those don't survive a crash. */
    text_append_format(sql,
        "CREATE UNLOGGED TABLE %s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT "
        "NULL, "
        "created timestamptz NOT NULL DEFAULT pg_catalog.now())",
        postgres->table);
}

static void append_prepare(struct postgres *postgres, struct text *sql)
{
    /* One statement, so that no notification can be seen before its row. */
    text_append_format(sql,
        "PREPARE opald_store(text, text, text, text) AS WITH stored AS (INSERT INTO %s (payload) VALUES ($2) "
        "RETURNING id) "
        "SELECT pg_catalog.pg_notify($1, $3 || id::text || $4) FROM stored;"
        "PREPARE opald_row(bigint, bigint) AS SELECT payload FROM %s WHERE id = $1 AND "
        "pg_catalog.octet_length(payload) <= $2;"
        "PREPARE opald_clean(double precision) AS DELETE FROM %s WHERE id IN (SELECT id FROM %s WHERE "
        "created < "
        "pg_catalog.now() - pg_catalog.make_interval(secs => $1) ORDER BY id LIMIT 1000 FOR UPDATE SKIP "
        "LOCKED)",
        postgres->table, postgres->table, postgres->table, postgres->table);
}

static void start_send(struct postgres *postgres, enum start_step step)
{
    struct text sql = {0};
    postgres->start_step = step;
    postgres->start_failed = false;
    switch (step) {
    case START_SESSION:
        append_session(&sql);
        break;
    case START_LOOK:
    case START_LOOK_AGAIN:
        append_look(postgres, &sql);
        break;
    case START_CREATE:
        append_create(postgres, &sql);
        break;
    case START_PREPARE:
        append_prepare(postgres, &sql);
        break;
    case START_DONE:
        postgres_sender_ready(postgres);
        return;
    }
    if (!PQsendQuery(postgres_connection_handle(postgres->sender), sql.data))
        postgres_connection_fail(postgres->sender, postgres_connection_message(postgres->sender));
    postgres_connection_flush(postgres->sender);
    text_free(&sql);
}

void postgres_start_begin(struct postgres *postgres)
{
    const char *encoding = PQparameterStatus(postgres_connection_handle(postgres->sender), "server_encoding");
    postgres->escape = encoding && strcmp(encoding, "UTF8") != 0 && strcmp(encoding, "SQL_ASCII") != 0;
    postgres->table_usable = false;
    text_clear(&postgres->table_why);
    start_send(postgres, START_SESSION);
}

/* The row of START_LOOK. */
static void start_on_look(struct postgres *postgres, const PGresult *result)
{
    if (strcmp(PQgetvalue(result, 0, 0), "t") == 0) {
        postgres->start_failed = true;
        postgres_connection_fail(
            postgres->sender, "the server is in recovery (a standby): it takes no notifications");
        return;
    }
    postgres->table_usable = strcmp(PQgetvalue(result, 0, 1), "t") == 0;
    postgres->schema_is_there = strcmp(PQgetvalue(result, 0, 2), "t") == 0;
    postgres->table_is_there = strcmp(PQgetvalue(result, 0, 3), "t") == 0;
}

static void start_on_error(struct postgres *postgres, const PGresult *result)
{
    struct text why = {0};
    postgres->start_failed = true;
    postgres_append_error(&why, result);
    if (postgres->start_step == START_CREATE) {
        text_clear(&postgres->table_why);
        text_append_slice(&postgres->table_why, text_slice(&why));
    } else {
        postgres_connection_fail(postgres->sender, why.data);
    }
    text_free(&why);
}

/* The statement of this step is over. */
static void start_next(struct postgres *postgres)
{
    enum start_step step = (enum start_step)postgres->start_step;
    if (postgres->start_failed && step != START_CREATE)
        return; /* the connection is being given up */
    if (step == START_SESSION) {
        start_send(postgres, START_LOOK);
    } else if (step == START_LOOK && !postgres->table_usable && !postgres->table_is_there) {
        start_send(postgres, START_CREATE);
    } else if (step == START_CREATE) {
        start_send(postgres, START_LOOK_AGAIN);
    } else if (step != START_PREPARE && postgres->table_usable) {
        start_send(postgres, START_PREPARE);
    } else {
        if (!postgres->table_usable && !postgres->table_why.length)
            text_append_string(
                &postgres->table_why, "no permission to read and write the table that is there");
        start_send(postgres, START_DONE);
    }
}

void postgres_start_input(struct postgres *postgres)
{
    PGconn *handle = postgres_connection_handle(postgres->sender);
    while (!PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            if (PQstatus(handle) == CONNECTION_OK)
                start_next(postgres);
            return; /* the next step's answer takes another turn */
        }
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK && PQnfields(result) == 4 && PQntuples(result) == 1)
            start_on_look(postgres, result);
        else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            start_on_error(postgres, result);
        PQclear(result);
    }
}
