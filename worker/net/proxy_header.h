/*
 * The PROXY protocol's header, versions 1 and 2 (haproxy, doc/proxy-protocol.txt): a load balancer says,
 * before anything else on the connection, for whom it connects. A pure parser: no socket, no memory. Of the
 * extensions (TLVs) of version 2 a CRC32c is checked (section 2.2.3), the others are skipped.
 */
#ifndef OPALD_WORKER_NET_PROXY_HEADER_H
#define OPALD_WORKER_NET_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/network.h"
#include "shm/common/object.h"

#define PROXY_HEADER_MAX 1024 /* with its extensions; haproxy's own limit is 536 unless raised */

enum proxy_header_result { PROXY_HEADER_MORE, PROXY_HEADER_DONE, PROXY_HEADER_WRONG };

struct proxy_header {
    /* of the header, when done */
    size_t length;
    /* false: a health check of the balancer itself (LOCAL, UNKNOWN): the socket's address holds */
    bool has_source;
    struct network_address source;
    /* a few words */
    const char *wrong;
};

/* Looks at the first `length` bytes of a connection. MORE is never answered from PROXY_HEADER_MAX bytes
 * on. */
MUST_CHECK enum proxy_header_result proxy_header_parse(
    const uint8_t *bytes, size_t length, struct proxy_header *header);

#endif
