/*
 * Host name to addresses without holding up the loop: getaddrinfo(3) in a short-lived thread, so that the
 * answer is what the machine's own configuration says (hosts file, nsswitch, search domains), and a dead name
 * server costs the loop nothing. Threads live only while a lookup runs; the process forks only to exec, so
 * that is safe. Numeric addresses need no thread.
 */
#ifndef OPALD_BROADCAST_NET_RESOLVER_H
#define OPALD_BROADCAST_NET_RESOLVER_H

#include <event2/event.h>
#include <stddef.h>
#include <sys/socket.h>

#define RESOLVER_ADDRESSES_MAX 64

struct resolver_address {
    struct sockaddr_storage address;
    socklen_t length;
};

struct resolver;

/* `failure` is NULL and count > 0, or it is a text and count 0. The resolver is freed by itself after this
 * call. */
typedef void (*resolver_done)(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure);

/* Calls `done` from the loop, never inside this call. `host` is copied. */
struct resolver *resolver_start(
    struct event_base *base, const char *host, int port, resolver_done done, void *context);
/* `done` will not be called any more. NULL is allowed. A thread that still waits for an answer ends by
 * itself. */
void resolver_cancel(struct resolver *resolver);

#endif
