#include "worker/client/peer_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/common/memory.h"

static const struct network_address unknown;

static bool address_is_known(const struct network_address *address)
{
    return memcmp(address->bytes, unknown.bytes, sizeof unknown.bytes) != 0;
}

void peer_address_read(const struct connection *connection, struct network_address *address)
{
    struct sockaddr_storage socket = {0};
    socklen_t length = sizeof socket;
    *address = unknown;
    if (connection->proxied)
        *address = *connection->proxied;
    else if (getpeername(connection->transport.fd, (struct sockaddr *)&socket, &length) == 0)
        (void)network_address_from_socket(address, &socket); /* false: all zero, it has none */
}

void peer_address_set(struct connection *connection, const struct network_address *address)
{
    free(connection->proxied);
    connection->proxied = memory_copy(address, sizeof *address);
}

const char *peer_address_host(const struct connection *connection, char out[NETWORK_ADDRESS_TEXT])
{
    struct network_address address;
    peer_address_read(connection, &address);
    out[0] = '\0';
    if (address_is_known(&address))
        network_address_format(&address, out);
    return out;
}

const char *peer_address_format(const struct network_address *address, char out[PEER_ADDRESS_TEXT])
{
    char host[NETWORK_ADDRESS_TEXT];
    if (!address_is_known(address)) {
        snprintf(out, PEER_ADDRESS_TEXT, "?:0");
        return out;
    }
    network_address_format(address, host);
    snprintf(out, PEER_ADDRESS_TEXT, "%s:%u", host, address->port);
    return out;
}
