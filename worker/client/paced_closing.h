/*
 * Closing many websockets with 1012 (RFC 6455 registry: service restart) at a pace, in random order, so that
 * the clients' reconnects and refetches come spread out and not all at once: after a gap of the backbone, and
 * when the worker stops. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_PACED_CLOSING_H
#define OPALD_WORKER_CLIENT_PACED_CLOSING_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "worker/client/connections.h"

struct paced_closing;

/* Pointers must outlive it. */
struct paced_closing_settings {
    struct event_base *base;
    struct connections *connections;
    struct worker_counters counters;
};

struct paced_closing *paced_closing_open(const struct paced_closing_settings *settings);
/* NULL is allowed. */
void paced_closing_close(struct paced_closing *paced);
/* Every websocket that is open now is going to be closed, `per_second` of them in a second. While a close is
 * under way it starts again with all that are open. `counted`: as a resync (COUNTER_RESYNC_CLOSES). `why` is
 * static text for the log. */
void paced_closing_start(struct paced_closing *paced, double per_second, bool counted, const char *why);
/* The websocket ended by itself; for the `ended` hook of websocket_stage.h. */
void paced_closing_forget(struct paced_closing *paced, struct connection *connection);

#endif
