#include "broadcast/postgres/postgres_start.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_limits.h"
#include "broadcast/postgres/postgres_sql.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"

enum start_step { START_SESSION, START_LOOK, START_CREATE, START_LOOK_AGAIN, START_PREPARE, START_DONE };

struct postgres_start {
    struct postgres_connection *connection;
    const char *schema;
    const char *table;
    postgres_other_backend *other_backend;
    void (*done)(void *context, const struct postgres_start_outcome *outcome);
    void *context;
    /* the server process of the first step; 0: not known yet */
    int backend;
    enum start_step step;
    /* the statement of this step */
    bool failed;
    /* there is a pooler in between: the connection is being given up */
    bool pooled;
    bool schema_is_there;
    struct postgres_start_outcome outcome;
    struct text table_why;
};

static void append_session(struct text *sql)
{
    /* Notifications don't outlive a crash of the server anyway: no commit needs to wait for the disk. A
     * session without work is no failure: the time limit for such (Postgres 14 and later, hence the lookup)
     * does not apply to this one. */
    text_append_string(sql, "SET synchronous_commit = off;" POSTGRES_BACKEND_QUERY ";"
                            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "
                            "WHERE name = 'idle_session_timeout';"
                            "PREPARE opald_notify(text, text) AS SELECT pg_catalog.pg_notify($1, $2)");
}

/* By the catalogue: to_regclass and the like raise an error where the schema may not be used. The names may
 * also belong to somebody else's table; then it can't be had, and the log says so. */
static void append_look(struct postgres_start *start, struct text *sql)
{
    static const char *const rights[] = {"SELECT", "INSERT", "DELETE"};
    text_append_string(sql,
        "SELECT pg_catalog.pg_is_in_recovery(), coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE')");
    for (size_t i = 0; i < sizeof rights / sizeof *rights; i++)
        text_append_format(sql, " AND pg_catalog.has_table_privilege(c.oid, '%s')", rights[i]);
    text_append_string(sql, ", false), n.oid IS NOT NULL, c.oid IS NOT NULL FROM (VALUES (1)) AS one LEFT "
                            "JOIN pg_catalog.pg_namespace n "
                            "ON n.nspname = ");
    postgres_append_literal(sql, start->schema);
    text_append_string(sql,
        " LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = '" POSTGRES_TABLE_NAME
        "'");
}

static void append_create(struct postgres_start *start, struct text *sql)
{
    if (!start->schema_is_there) {
        text_append_string(sql, "CREATE SCHEMA ");
        postgres_append_identifier(sql, start->schema);
        text_append_string(sql, ";");
    }
    /* Unlogged: its rows are worth no more than the notifications that point to them, and those don't survive
     * a crash. */
    text_append_format(sql,
        "CREATE UNLOGGED TABLE %s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT "
        "NULL, "
        "created timestamptz NOT NULL DEFAULT pg_catalog.now())",
        start->table);
}

static void append_prepare(struct postgres_start *start, struct text *sql)
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
        start->table, start->table, start->table, start->table);
}

static void start_send(struct postgres_start *start, enum start_step step)
{
    struct text sql = {0};
    start->step = step;
    start->failed = false;
    switch (step) {
    case START_SESSION:
        append_session(&sql);
        break;
    case START_LOOK:
    case START_LOOK_AGAIN:
        append_look(start, &sql);
        break;
    case START_CREATE:
        append_create(start, &sql);
        break;
    case START_PREPARE:
        append_prepare(start, &sql);
        break;
    case START_DONE:
        start->outcome.table_why = start->table_why.data;
        start->done(start->context, &start->outcome);
        return;
    }
    if (step != START_SESSION)
        text_append_string(&sql, ";" POSTGRES_BACKEND_QUERY);
    if (!PQsendQuery(postgres_connection_handle(start->connection), sql.data))
        postgres_connection_fail(start->connection, postgres_connection_message(start->connection));
    postgres_connection_flush(start->connection);
    text_free(&sql);
}

void postgres_start_begin(struct postgres_start *start)
{
    const char *encoding =
        PQparameterStatus(postgres_connection_handle(start->connection), "server_encoding");
    start->outcome.escape = encoding && strcmp(encoding, "UTF8") != 0 && strcmp(encoding, "SQL_ASCII") != 0;
    start->outcome.table_usable = false;
    start->backend = 0;
    start->pooled = false;
    text_clear(&start->table_why);
    start_send(start, START_SESSION);
}

/* A step was done by this server process. */
static void start_on_backend(struct postgres_start *start, int backend)
{
    struct error why = {0};
    if (!start->backend)
        start->backend = backend;
    if (backend == start->other_backend(start->context))
        error_set(&why, -1, "process %d of Postgres serves the listener and the sender; %s", backend,
            POSTGRES_POOLER_HINT);
    else if (backend != start->backend)
        error_set(&why, -1, "process %d of Postgres began and process %d goes on; %s", start->backend,
            backend, POSTGRES_POOLER_HINT);
    else
        return;
    start->failed = true;
    start->pooled = true;
    postgres_connection_fail(start->connection, why.text);
}

/* The row of START_LOOK. */
static void start_on_look(struct postgres_start *start, const PGresult *result)
{
    if (strcmp(PQgetvalue(result, 0, 0), "t") == 0) {
        start->failed = true;
        postgres_connection_fail(
            start->connection, "the server is in recovery (a standby): it takes no notifications");
        return;
    }
    start->outcome.table_usable = strcmp(PQgetvalue(result, 0, 1), "t") == 0;
    start->schema_is_there = strcmp(PQgetvalue(result, 0, 2), "t") == 0;
    start->outcome.table_is_there = strcmp(PQgetvalue(result, 0, 3), "t") == 0;
}

static void start_on_error(struct postgres_start *start, const PGresult *result)
{
    struct text why = {0};
    if (start->pooled)
        return; /* the first reason is the better one */
    start->failed = true;
    postgres_append_error(&why, result);
    if (start->step == START_CREATE) {
        text_clear(&start->table_why);
        text_append_slice(&start->table_why, text_slice(&why));
    } else {
        postgres_connection_fail(start->connection, why.data);
    }
    text_free(&why);
}

/* The statement of this step is over. */
static void start_next(struct postgres_start *start)
{
    enum start_step step = start->step;
    if (start->pooled || (start->failed && step != START_CREATE))
        return; /* the connection is being given up */
    if (step == START_SESSION) {
        start_send(start, START_LOOK);
    } else if (step == START_LOOK && !start->outcome.table_usable && !start->outcome.table_is_there) {
        start_send(start, START_CREATE);
    } else if (step == START_CREATE) {
        start_send(start, START_LOOK_AGAIN);
    } else if (step != START_PREPARE && start->outcome.table_usable) {
        start_send(start, START_PREPARE);
    } else {
        if (!start->outcome.table_usable && !start->table_why.length)
            text_append_string(&start->table_why, "no permission to read and write the table that is there");
        start_send(start, START_DONE);
    }
}

void postgres_start_input(struct postgres_start *start)
{
    PGconn *handle = postgres_connection_handle(start->connection);
    while (!PQisBusy(handle)) {
        PGresult *result = PQgetResult(handle);
        if (!result) {
            if (PQstatus(handle) == CONNECTION_OK)
                start_next(start);
            return; /* the next step's answer takes another turn */
        }
        ExecStatusType status = PQresultStatus(result);
        int backend = postgres_result_backend(result);
        if (backend)
            start_on_backend(start, backend);
        else if (status == PGRES_TUPLES_OK && PQnfields(result) == 4 && PQntuples(result) == 1)
            start_on_look(start, result);
        else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            start_on_error(start, result);
        PQclear(result);
    }
}

struct postgres_start *postgres_start_make(struct postgres_connection *connection, const char *schema,
    const char *table, postgres_other_backend *other_backend,
    void (*done)(void *context, const struct postgres_start_outcome *outcome), void *context)
{
    struct postgres_start *start = memory_allocate(sizeof *start);
    start->connection = connection;
    start->schema = schema;
    start->table = table;
    start->other_backend = other_backend;
    start->done = done;
    start->context = context;
    return start;
}

void postgres_start_free(struct postgres_start *start)
{
    text_free(&start->table_why);
    free(start);
}
