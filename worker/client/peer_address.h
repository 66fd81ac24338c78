/* Who is at the other end of a connection: whom a PROXY header named, else the socket's peer. Worker's loop
 * only. */
#ifndef OPALD_WORKER_CLIENT_PEER_ADDRESS_H
#define OPALD_WORKER_CLIENT_PEER_ADDRESS_H

#include "shm/common/network.h"
#include "worker/client/connection.h"

/* Room for "127.0.0.1:33210" in its longest form, with its NUL. */
#define PEER_ADDRESS_TEXT (NETWORK_ADDRESS_TEXT + 8)

/* All zero when it has none (a unix socket). A system call, unless a PROXY header named somebody. */
void peer_address_read(const struct connection *connection, struct network_address *address);
/* A PROXY header names the client. */
void peer_address_set(struct connection *connection, const struct network_address *address);
/* The address alone: "127.0.0.1"; empty when there is none. Returns `out`. */
const char *peer_address_host(const struct connection *connection, char out[NETWORK_ADDRESS_TEXT]);
/* With the port: "127.0.0.1:33210", or "?:0". Returns `out`. */
const char *peer_address_format(const struct network_address *address, char out[PEER_ADDRESS_TEXT]);

#endif
