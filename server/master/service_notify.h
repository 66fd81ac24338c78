/* sd_notify(3), the protocol without the library: one datagram to $NOTIFY_SOCKET. */
#ifndef OPALD_SERVER_MASTER_SERVICE_NOTIFY_H
#define OPALD_SERVER_MASTER_SERVICE_NOTIFY_H

#include <stdint.h>

/* Master only. Opens nothing when the service manager doesn't listen. The variables are taken out of the
 * environment, so that workers don't speak for the service. */
struct service_notify {
    /* -1: nobody to notify */
    int socket;
    /* how often it wants WATCHDOG=1 at the latest; 0 when it doesn't */
    uint64_t watchdog_ns;
};

void service_notify_open(struct service_notify *notify);
/* `state` is newline-separated assignments, e.g. "READY=1\nSTATUS=2 workers". Never blocks; a lost message
 * is not an error. */
void service_notify_send(const struct service_notify *notify, const char *state);
void service_notify_close(struct service_notify *notify);

#endif
