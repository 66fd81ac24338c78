/* Where the parts of a worker count what happens (shm/counters.h): its own slot. */
#ifndef OPALD_WORKER_CLIENT_WORKER_COUNTERS_H
#define OPALD_WORKER_CLIENT_WORKER_COUNTERS_H

#include <stdint.h>
#include "shm/worker_table.h"

struct worker_counters {
    struct segment *segment;
    unsigned slot;
};

static inline void worker_count(const struct worker_counters *counters, enum counter counter, uint64_t amount)
{
    counter_add(counters->segment, counters->slot, counter, amount);
}

#endif
