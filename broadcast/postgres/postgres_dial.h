/*
 * Connecting to Postgres by libpq's non-blocking calls: host after host, address after address, until one
 * answers and authenticates. Names are resolved by us, because libpq would block on them. Main thread only.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_DIAL_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_DIAL_H

#include <event2/event.h>
#include <libpq-fe.h>
#include "broadcast/postgres/postgres_uri.h"

struct postgres_dial;

struct postgres_dial_callbacks {
    /* Authenticated; the handle is the callee's. */
    void (*connected)(void *context, PGconn *handle);
    /* No address is left. `why`: of the last one; valid during the call. */
    void (*failed)(void *context, const char *why);
};

/* `uri` must outlive it. */
struct postgres_dial *postgres_dial_make(struct event_base *base, const struct postgres_uri *uri,
    const struct postgres_dial_callbacks *callbacks, void *context);
void postgres_dial_free(struct postgres_dial *dial);
/* From the first host on. Callbacks come from the loop, never inside this call. */
void postgres_dial_start(struct postgres_dial *dial);
/* The handle of the last `connected` turned out to be of no use: on to the next address. Callbacks come
 * inside this call too. */
void postgres_dial_next(struct postgres_dial *dial, const char *why);
/* No callback comes any more. */
void postgres_dial_stop(struct postgres_dial *dial);

#endif
