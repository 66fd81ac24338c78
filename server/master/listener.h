/* The listening sockets. The master opens them (or gets them from systemd) and holds them for as long as it
 * lives, so that a connection waiting in the backlog outlives any worker. */
#ifndef OPALD_SERVER_MASTER_LISTENER_H
#define OPALD_SERVER_MASTER_LISTENER_H

#include <stddef.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

#define LISTENERS_MAX 8

struct listeners {
    /* non-blocking, close-on-exec */
    int descriptors[LISTENERS_MAX];
    int count;
};

/* Binds every address that config->host resolves to (start-up only: may ask the resolver), or takes the
 * sockets systemd passes (LISTEN_PID, LISTEN_FDS; sd_listen_fds(3)), which win over host and port. -1 with
 * a text that says which address and why. */
MUST_CHECK int listeners_open(struct listeners *listeners, const struct config *config, struct error *err);
void listeners_close(struct listeners *listeners);
/* "127.0.0.1:7002" or "[::1]:7002" of socket `index`. */
void listeners_describe(const struct listeners *listeners, int index, char *out, size_t size);

#endif
