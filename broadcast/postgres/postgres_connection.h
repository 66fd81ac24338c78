/*
 * One connection to Postgres: dialled (postgres_dial.h), then started by whatever statements the caller wants
 * first; an address where those fail counts as one that does not answer. What goes over it then is the
 * caller's business. Opens again and again; any callback may close it. Main thread only.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_CONNECTION_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_CONNECTION_H

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include "broadcast/postgres/postgres_uri.h"

struct postgres_connection;

struct postgres_connection_callbacks {
    /* Authenticated: send the first statements; call postgres_connection_ready when they have succeeded. */
    void (*connected)(void *context);
    /* Bytes have come in and were taken into libpq's buffer: look for results and notifications. */
    void (*input)(void *context);
    /* closed already */
    void (*lost)(void *context, const char *why);
};

/* `uri` must outlive the connection. */
struct postgres_connection *postgres_connection_make(struct event_base *base, const struct postgres_uri *uri,
    const struct postgres_connection_callbacks *callbacks, void *context);
void postgres_connection_free(struct postgres_connection *connection);
void postgres_connection_open(struct postgres_connection *connection);
void postgres_connection_close(struct postgres_connection *connection);
/* The start is over: the time limit of the attempt ends. */
void postgres_connection_ready(struct postgres_connection *connection);
/* During the start: on to the next address, or `lost` when there is none left. After it: `lost`. Never inside
 * this call. */
void postgres_connection_fail(struct postgres_connection *connection, const char *why);
/* libpq's handle; NULL when closed. Not to be finished by the caller. */
PGconn *postgres_connection_handle(const struct postgres_connection *connection);
/* Changes whenever the handle does: a callback may have closed what its caller works on. */
uint64_t postgres_connection_generation(const struct postgres_connection *connection);
/* After sending statements: writes what the socket takes, the rest follows by itself. */
void postgres_connection_flush(struct postgres_connection *connection);
/* Off: `input` is not called any more; on: it is called soon, for what is in libpq's buffer already. */
void postgres_connection_read(struct postgres_connection *connection, bool on);
/* libpq's message of the last failure on one line, with the server's last notice if it said why it was
 * closing. Valid until the next call. */
const char *postgres_connection_message(struct postgres_connection *connection);
/* Without the loop: waits at most timeout_ms and does what the loop would have done. */
void postgres_connection_wait(struct postgres_connection *connection, int timeout_ms);

#endif
