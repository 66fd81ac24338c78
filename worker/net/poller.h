/*
 * Readiness of the connections' sockets. libevent keeps some 200 bytes and several separate objects per
 * descriptor, and a wake-up of each goes through four of them; for connections, which are nearly all the
 * descriptors there are, the worker asks epoll itself. That epoll's own descriptor is one event of libevent's
 * loop, so timers, signals and everything else stay there. Level-triggered. Worker's loop only.
 */
#ifndef OPALD_WORKER_NET_POLLER_H
#define OPALD_WORKER_NET_POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

struct poller;

/* Called from the loop; errors and hang-ups come as both. The owner must stay allocated until the loop's next
 * turn after its removal (a connection is freed by the settle list): it may still be called once in the same
 * turn. */
typedef void poller_ready(void *owner, bool readable, bool writable);

/* NULL with `err`: the kernel gives no epoll. */
MUST_CHECK struct poller *poller_open(struct event_base *base, poller_ready *ready, struct error *err);
/* Counts the loop's rounds of readiness. */
uint64_t poller_turn(const struct poller *poller);
void poller_close(struct poller *poller);

/* Says what is waited for; `was_...` is what was said before (nothing at first). */
struct poller_wants {
    bool read;
    bool write;
};
void poller_change(
    struct poller *poller, int fd, void *owner, struct poller_wants was, struct poller_wants now);

#endif
