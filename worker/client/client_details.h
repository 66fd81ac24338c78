/*
 * What is remembered of a websocket client that most clients have nothing of: query parameters, and in
 * statistics mode under which ids it announced itself. Memory of its own, so that the others do not pay for
 * it. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_CLIENT_DETAILS_H
#define OPALD_WORKER_CLIENT_CLIENT_DETAILS_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "shm/link/publisher.h"
#include "worker/client/connection.h"

struct client_details;

/* The query it came with. */
void client_details_set_query(struct connection *connection, struct slice query);
/* Empty when there is none. */
struct slice client_details_query(const struct connection *connection);
/* The address that a proxy gave in its X-Forwarded-For, in place of the socket's. */
void client_details_set_host(struct connection *connection, const char *host);
#define CLIENT_HOST_TEXT 64
/* The client's address: what the proxy gave, else the peer's; empty when there is none. Returns `out`. */
const char *client_details_host(const struct connection *connection, char out[CLIENT_HOST_TEXT]);
#define CLIENT_LABEL_TEXT 96
/* Who it is, for a line of the log: "port 33210", or behind a proxy "port 0 of 198.51.100.7". Returns
 * `out`. */
const char *client_details_label(const struct connection *connection, char out[CLIENT_LABEL_TEXT]);
void client_details_free(struct connection *connection);

/* ---- statistics mode ---- */

/* Writes the call that asks a client for its channel id, as the reference sends it right after it has
 * accepted the client. */
void client_details_greeting(struct text *out);
/* The client publishes its announcement, `data` (token of `document`): remembered, so that its end can be
 * announced too. False: it has `announcements_max` already, or its id is too long. */
MUST_CHECK bool client_details_announce(struct connection *connection, const struct json_document *document,
    uint32_t data, uint64_t announcements_max);
/* The client is gone: tells all servers so, on `topic`. */
void client_details_withdraw(struct connection *connection, struct publisher *publisher, const char *topic);

#endif
