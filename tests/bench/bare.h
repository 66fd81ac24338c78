/* Where a worker of the bare baseline takes its events: an abstract Unix socket, one packet an event (the
 * JSON of `data`). */
#ifndef OPALD_BENCH_BARE_H
#define OPALD_BENCH_BARE_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline socklen_t bare_address(struct sockaddr_un *address, unsigned port, unsigned worker)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    const int length =
        snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "opald-bare-%u-%u", port, worker);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

#endif
