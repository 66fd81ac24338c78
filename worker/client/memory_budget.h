/*
 * What all clients of a worker together make it hold: output they do not read (a payload shared by many counts once), messages and
 * requests that are not whole, calls behind a publish that waits, the topics they subscribed to (a shared one counts once). The
 * limits of a single client are worker/client/connection.h's and the parsers'; thousands of clients within theirs can still be more than
 * the machine has. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_MEMORY_BUDGET_H
#define OPALD_WORKER_CLIENT_MEMORY_BUDGET_H

#include "worker/client/context.h"

/* Closes those that hold most, until enough is free: websockets with 1013, others at once. Counted and logged. */
void memory_budget_enforce(struct worker *worker);

/* After everything that may have added to worker->held_bytes. Any connection may be closed by it, none is freed. */
static inline void memory_budget_check(struct worker *worker)
{
    if (__builtin_expect(worker->held_bytes > worker->held_bytes_max, 0))
        memory_budget_enforce(worker);
}

#endif
