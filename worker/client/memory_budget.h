/*
 * The limit on what all clients of a worker together make it hold (memory_ledger.h). The limits of a single
 * client are worker/client/connection.h's and the parsers'; thousands of clients within theirs can still be
 * more than the machine has. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_MEMORY_BUDGET_H
#define OPALD_WORKER_CLIENT_MEMORY_BUDGET_H

#include "worker/client/connections.h"
#include "worker/client/memory_ledger.h"
#include "worker/client/worker_counters.h"

struct memory_budget;

/* Sets the ledger's `exceeded`: closes the connections that hold most, until enough is free, websockets with
 * 1013, others at once. Counted and logged. Pointers must outlive it. */
struct memory_budget *memory_budget_open(
    struct memory_ledger *ledger, struct connections *connections, const struct worker_counters *counters);
/* NULL is allowed. */
void memory_budget_close(struct memory_budget *budget);

#endif
