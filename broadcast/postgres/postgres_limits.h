/* What Postgres takes. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_LIMITS_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_LIMITS_H

#include <stdint.h>

/* NOTIFY takes payloads shorter than 8000 bytes (src/backend/commands/async.c, NOTIFY_PAYLOAD_MAX_LENGTH with
 * the usual block size). */
#define POSTGRES_NOTIFY_MAX 7999
/* NAMEDATALEN - 1: pg_notify refuses longer channel names, LISTEN would cut them. */
#define POSTGRES_NAME_MAX 63
/* A row of the table: far below what a text value can be, far above the largest event. */
#define POSTGRES_ROW_MAX ((uint64_t)256 * 1024 * 1024)

/* Why notifications do not arrive although all statements succeed, and the way out. */
#define POSTGRES_POOLER_HINT \
    "notifications and prepared statements don't pass a connection pooler in transaction mode (pgbouncer): " \
    "name its " \
    "session pool or the port of Postgres itself"

#endif
