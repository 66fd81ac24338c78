/* IP addresses and lists of networks (CIDR). An IPv4 address is held as IPv6 maps it, so that one
 * comparison serves both. */
#ifndef OPALD_SHM_COMMON_NETWORK_H
#define OPALD_SHM_COMMON_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

#define NETWORK_ADDRESS_TEXT 48 /* room for an address, with its NUL */

struct network_address {
    /* all zero: not known */
    uint8_t bytes[16];
    /* host order; 0: not known */
    uint16_t port;
};

void network_address_v4(struct network_address *address, const uint8_t bytes[4]);
/* false, and `address` all zero, for what is neither IPv4 nor IPv6 (a unix socket) */
bool network_address_from_socket(struct network_address *address, const struct sockaddr_storage *socket);
/* "10.1.2.3", "10.1.2.3:80", "fe80::1", "[fe80::1]:80"; false for anything else. */
MUST_CHECK bool network_address_parse(struct network_address *address, struct slice text);
/* Without the port. */
void network_address_format(const struct network_address *address, char out[NETWORK_ADDRESS_TEXT]);

/* Zero-initialise; network_list_free. */
struct network_list {
    struct network *items;
    size_t count;
    /* "*" */
    bool any;
};
/* Each item is "*", an address or a network such as 10.0.0.0/8 or fd00::/8. -1 with the item in `err`. */
MUST_CHECK int network_list_parse(
    struct network_list *list, char *const *items, size_t count, struct error *err);
bool network_list_has(const struct network_list *list, const struct network_address *address);
void network_list_free(struct network_list *list);

#endif
