/*
 * How long to wait before the next attempt to connect: the reference's rule (spec of the reference, resilience layer, 1).
 *   base  = minimum * 2^(attempt - 1), attempt 0 counts as 1, at most the maximum
 *   delay = base/2 + a random part of base/2
 * so that servers which lost the same backbone don't come back in step. Never zero: a failing backbone costs no busy loop.
 */
#ifndef OPALD_BROADCAST_RELAY_BACKOFF_H
#define OPALD_BROADCAST_RELAY_BACKOFF_H

#include <stdint.h>

/* Plain data, owned by the caller. */
struct backoff {
    double minimum; /* seconds */
    double maximum;
    unsigned attempt; /* failures in a row */
};

/* Values that make no sense are replaced: a minimum below 10 ms by 10 ms, a maximum below the minimum by the minimum. */
void backoff_init(struct backoff *backoff, double minimum, double maximum);
/* One more failure: counts it and returns the delay in nanoseconds. `random` is any 64 random bits. */
uint64_t backoff_fail(struct backoff *backoff, uint64_t random);
/* It works again. */
void backoff_reset(struct backoff *backoff);

#endif
