/*
 * How long to wait before the next attempt at something that failed, for example a connection:
 *
 *   base  = minimum * 2^(failures in a row - 1), at most the maximum
 *   delay = base/2 + a random part of base/2
 *
 * The random part keeps servers that lost the same peer from coming back in step. The delay is never zero: a
 * peer that fails at once costs no busy loop. This is the rule of opal-server. Pure.
 */
#ifndef OPALD_SHM_COMMON_BACKOFF_H
#define OPALD_SHM_COMMON_BACKOFF_H

#include <stdint.h>

/* Plain data, owned by the caller. */
struct backoff {
    /* Seconds. */
    double minimum;
    double maximum;
    /* Failures in a row. */
    unsigned attempt;
};

/* Values that make no sense are replaced: a minimum below 10 ms by 10 ms, a maximum below the minimum by the
 * minimum. */
void backoff_init(struct backoff *backoff, double minimum, double maximum);
/* Counts one more failure and returns the delay in nanoseconds. `random` is any 64 random bits. */
uint64_t backoff_fail(struct backoff *backoff, uint64_t random);
/* It works again. */
void backoff_reset(struct backoff *backoff);

#endif
