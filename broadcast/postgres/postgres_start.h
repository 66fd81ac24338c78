/*
 * What a fresh sender's connection does before it is of use, one simple query after the other:
 *
 *   session    settings, prepared pg_notify             must succeed
 *   look       is it a primary? is the table usable?    must succeed
 *   create     schema and table                         only if it is not there; may fail (no permission, or
 *                                                       another server was faster)
 *   look again                                          only after create
 *   prepare    the statements of the table              only if it is usable
 *
 * Each asks for its server process as well. A pooler in transaction mode gives another one to each statement,
 * or the one that listens for us: nothing would ever arrive, however well all statements do.
 *
 * Nothing is created that is there already: CREATE ... IF NOT EXISTS would ask for the permission to create
 * even then.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_START_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_START_H

#include <stdbool.h>
#include "broadcast/postgres/postgres_connection.h"
#include "shm/common/text.h"

#define POSTGRES_TABLE_NAME "events"

/* Names of the statements that it prepares. */
#define POSTGRES_STATEMENT_NOTIFY "opald_notify"
#define POSTGRES_STATEMENT_STORE  "opald_store"
#define POSTGRES_STATEMENT_ROW    "opald_row"
#define POSTGRES_STATEMENT_CLEAN  "opald_clean"

struct postgres_start_outcome {
    bool table_usable;
    bool table_is_there;
    /* why it is not usable; valid until the next begin */
    const char *table_why;
    /* the database's encoding can't hold all of UTF-8 */
    bool escape;
};

/* The server process of another connection of ours, which can't be this one's too; 0: not known. */
typedef int postgres_other_backend(void *context);

struct postgres_start;

/* `connection`, `schema` and `table` (quoted, with its schema) must outlive it. The callbacks get `context`.
 * `done` is called when everything that must succeed has; a failure goes to postgres_connection_fail. */
struct postgres_start *postgres_start_make(struct postgres_connection *connection, const char *schema,
    const char *table, postgres_other_backend *other_backend,
    void (*done)(void *context, const struct postgres_start_outcome *outcome), void *context);
void postgres_start_free(struct postgres_start *start);
/* The connection is authenticated. */
void postgres_start_begin(struct postgres_start *start);
/* The connection has input. Only between begin and done. */
void postgres_start_input(struct postgres_start *start);

#endif
