/* Closing many websockets with 1012 (RFC 6455 registry: service restart) at a pace, in random order, so that the clients' reconnects and
 * refetches come spread out and not all at once: after a gap of the backbone, and when the worker stops. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_PACED_CLOSING_H
#define OPALD_WORKER_CLIENT_PACED_CLOSING_H

#include <stdbool.h>
#include <stdint.h>

#define PACED_CLOSING_NONE UINT32_MAX

struct paced_closing;
struct connection;
struct worker;

struct paced_closing *paced_closing_open(struct worker *worker);
void paced_closing_close(struct paced_closing *closing);
/* Every websocket now open will be closed at `per_second`. Called while a close is under way it starts over with all that are open.
 * `counted`: as a resync (COUNTER_RESYNC_CLOSES). `why` is static text for the log. */
void paced_closing_start(struct paced_closing *closing, double per_second, bool counted, const char *why);
/* The connection ended by itself. */
void paced_closing_forget(struct paced_closing *closing, struct connection *connection);

#endif
