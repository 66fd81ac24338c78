/*
 * How often the load limit was used, counted once for the host: one word a limit that every worker may write
 * (beside the doorbell).
 *
 *   63              24 23         0
 *   | start of window | used so far |
 *
 * The start is CLOCK_MONOTONIC in ms, 40 bits (34 years of uptime); 0: never used.
 * A window begins with the first use after the last one ended, as the reference's does. One
 * compare-and-exchange moves start and count together, so that no two workers can both take the last place. A
 * worker that writes nonsense here spoils the limit and nothing else.
 */
#ifndef OPALD_SHM_LOAD_LIMIT_H
#define OPALD_SHM_LOAD_LIMIT_H

#include <stdint.h>
#include "shm/common/rate_limit.h"
#include "shm/segment.h"

/* Uses each limit once, in order, up to the first one that is used up, which is returned. NULL: all had
 * room. Any worker. */
const struct rate_limit *load_limit_take(
    struct segment *segment, const struct rate_limits *limits, uint64_t now_ms);

#endif
