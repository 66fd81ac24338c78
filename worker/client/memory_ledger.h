/*
 * What all clients of a worker together make it hold, in bytes: output that they do not read (a payload
 * shared by many counts once), messages and requests that are not whole, calls behind a publish that waits,
 * the topics they subscribed to (a shared one counts once). Each part adds and subtracts through a pointer to
 * `held`. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_MEMORY_LEDGER_H
#define OPALD_WORKER_CLIENT_MEMORY_LEDGER_H

#include <stdint.h>

struct memory_ledger {
    uint64_t held;
    uint64_t limit;
    /* More than the limit is held: closes connections until it is less (worker/client/memory_budget.h). */
    void (*exceeded)(void *context);
    void *context;
};

/* After everything that may have added to it. Any connection may be closed by it, none is freed. */
static inline void memory_ledger_check(struct memory_ledger *ledger)
{
    if (__builtin_expect(ledger->held > ledger->limit, 0))
        ledger->exceeded(ledger->context);
}

#endif
