/*
 * The Postgres backend's connection that sends, in libpq's pipeline mode. Messages go in batches
 * (postgres_batch.h): one transaction each, begun with the first statement and ended by a sync, and the next
 * batch only when this one is committed. So a commit is paid once for many messages when there are many, a
 * single message waits for nothing, and when something fails all of it is as if never sent: order holds.
 * (Statements with a transaction each, one behind the other, would be delivered around one that fails.) A
 * batch that failed is sent again message by message, to find the one to blame.
 *
 * Fetching rows and cleaning the table are statements with a sync of their own; they may be on their way next
 * to a batch. Main thread only.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_SENDER_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_SENDER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include "broadcast/postgres/postgres_start.h"
#include "broadcast/postgres/postgres_uri.h"
#include "broadcast/relay/relay.h"

struct postgres_sender;

struct postgres_sender_settings {
    const struct postgres_uri *uri;
    const char *channel;
    const char *schema;
    /* quoted, with its schema */
    const char *table;
    uint64_t deadline_ns;
    /* of the listener; gets `context` */
    postgres_other_backend *other_backend;
    void *context;
};

/* What `settings` points to and `relay` must outlive it. It reports to `relay` as RELAY_SENDER. */
struct postgres_sender *postgres_sender_make(
    struct event_base *base, const struct postgres_sender_settings *settings, struct relay *relay);
void postgres_sender_free(struct postgres_sender *sender);
void postgres_sender_open(struct postgres_sender *sender);
void postgres_sender_close(struct postgres_sender *sender);
/* False: not now. */
MUST_CHECK bool postgres_sender_send(struct postgres_sender *sender, struct slice message);
/* Ends the batch. */
void postgres_sender_flush(struct postgres_sender *sender);
void postgres_sender_fetch_rows(struct postgres_sender *sender);
/* Without the loop: waits at most timeout_ms and does what the loop would have done. */
void postgres_sender_wait(struct postgres_sender *sender, int timeout_ms);

#endif
