/*
 * A TCP connection to a host by name: the name looked up, then one address after the other until one answers.
 * Main thread only.
 */
#ifndef OPALD_BROADCAST_NET_DIAL_H
#define OPALD_BROADCAST_NET_DIAL_H

#include <event2/event.h>
#include <stdint.h>

struct dial;

struct dial_target {
    const char *host;
    int port;
    /* for the lookup, and then for each address */
    uint64_t connect_timeout_ns;
    /* TCP_USER_TIMEOUT: sent bytes that are not acknowledged for so long end the connection; 0: the
     * system's */
    uint64_t user_timeout_ns;
};

struct dial_callbacks {
    /* Connected; the descriptor is the callee's. */
    void (*connected)(void *context, int descriptor);
    /* The name has no address, or none is left. `why`: of the last one; valid during the call. */
    void (*failed)(void *context, const char *why);
};

struct dial *dial_make(struct event_base *base, const struct dial_callbacks *callbacks, void *context);
void dial_free(struct dial *dial);
/* `target` must live until the dial is stopped or has ended. Callbacks come from the loop, never inside this
 * call. */
void dial_start(struct dial *dial, const struct dial_target *target);
/* The last connection turned out to be of no use: on to the next address. Callbacks come inside this call
 * too. */
void dial_next(struct dial *dial, const char *why);
/* No callback comes any more. */
void dial_stop(struct dial *dial);

#endif
