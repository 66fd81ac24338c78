/* The Postgres backend's connection that listens: LISTEN, notifications to the relay, probes. Main thread
 * only. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_LISTENER_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_LISTENER_H

#include <event2/event.h>
#include <stdbool.h>
#include "broadcast/postgres/postgres_uri.h"
#include "broadcast/relay/relay.h"

struct postgres_listener;

/* `uri`, `channel` and `relay` must outlive it. It reports to `relay` as RELAY_LISTENER. */
struct postgres_listener *postgres_listener_make(
    struct event_base *base, const struct postgres_uri *uri, const char *channel, struct relay *relay);
void postgres_listener_free(struct postgres_listener *listener);
void postgres_listener_open(struct postgres_listener *listener);
void postgres_listener_close(struct postgres_listener *listener);
/* Off: no further notification is delivered until on. */
void postgres_listener_read(struct postgres_listener *listener, bool on);
/* Makes the server say something. */
void postgres_listener_probe(struct postgres_listener *listener);
/* The server process that listens; 0: not known. */
int postgres_listener_backend(const struct postgres_listener *listener);

#endif
