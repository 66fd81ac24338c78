/*
 * What is remembered of a websocket client that most clients have nothing of: query parameters, and in statistics mode under which ids it
 * announced itself. Memory of its own, so that the others do not pay for it. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_CLIENT_DETAILS_H
#define OPALD_WORKER_CLIENT_CLIENT_DETAILS_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "worker/client/connection.h"

struct client_details;

/* The query it came with, unless it is longer than the limit. */
void client_details_set_query(struct connection *connection, struct slice query);
struct slice client_details_query(const struct connection *connection); /* empty when there is none */
/* The address a proxy told in its X-Forwarded-For, in place of the socket's. */
void client_details_set_host(struct connection *connection, const char *host);
/* The client's address: the proxy's word, else the peer's, in `out` (at least 64 bytes); empty when there is none. */
const char *client_details_host(const struct connection *connection, char *out, size_t size);
#define CLIENT_LABEL_TEXT 96
/* Who it is, for a line of the log: "port 33210", or behind a proxy "port 0 of 198.51.100.7". */
const char *client_details_label(const struct connection *connection, char out[CLIENT_LABEL_TEXT]);
void client_details_free(struct connection *connection);

/* ---- statistics mode ---- */
/* Asks the client for its channel id, as the reference does right after it was accepted. */
void client_details_greet(struct connection *connection);
/* It publishes its announcement, `data` (token of `document`): remembered, so that its end can be told. False: more than are counted. */
bool client_details_announce(
    struct connection *connection, const struct json_document *document, uint32_t data);
/* It is gone: tells all servers so. */
void client_details_withdraw(struct connection *connection);

#endif
