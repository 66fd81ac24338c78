#include "worker/client/memory_budget.h"

#include <stdlib.h>
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "worker/client/client_details.h"

#define MEMORY_BUDGET_MAGIC UINT32_C(0x3e30b06e)

struct memory_budget {
    uint32_t magic;
    struct memory_ledger *ledger;
    struct connections *connections;
    struct worker_counters counters;
    struct log_limiter limit;
};

static void budget_close(struct memory_budget *budget, struct connection *connection, size_t holds)
{
    if (connection->state == CONNECTION_UP) /* else it was closed before, and had the rest of a frame left */
        worker_count(&budget->counters, COUNTER_CLIENTS_OVER_MEMORY, 1);
    log_write_limited(&budget->limit, LOG_WARNING, LOGGER_WORKER,
        "Clients make this worker hold %llu bytes, more than %llu: closing the one on %s, which holds %zu",
        (unsigned long long)budget->ledger->held, (unsigned long long)budget->ledger->limit,
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), holds);
    connection_close_over_memory(connection);
}

static void budget_enforce(void *context)
{
    struct memory_budget *budget = object_cast(struct memory_budget, MEMORY_BUDGET_MAGIC, context);
    const struct memory_ledger *ledger = budget->ledger;
    /* an eighth below the limit, so that the next event does not bring all this again */
    uint64_t goal = ledger->limit - ledger->limit / 8;
    /* Each pass takes all that hold at least half of what the greatest does, so there are few passes. A
     * websocket is left with the rest of a frame that was begun, which goes in a later pass if it must. */
    while (ledger->held > goal) {
        size_t most = 0;
        for (const struct connection *at = connections_first(budget->connections); at; at = at->next) {
            size_t holds = connection_held(at);
            if (holds > most)
                most = holds;
        }
        if (most == 0)
            return; /* what is left belongs to connections that are about to be freed */
        struct connection *at = connections_first(budget->connections);
        for (; at && ledger->held > goal; at = at->next) {
            size_t holds = connection_held(at);
            if (holds > most / 2)
                budget_close(budget, at, holds);
        }
    }
}

struct memory_budget *memory_budget_open(
    struct memory_ledger *ledger, struct connections *connections, const struct worker_counters *counters)
{
    struct memory_budget *budget = memory_allocate(sizeof *budget);
    budget->magic = MEMORY_BUDGET_MAGIC;
    budget->ledger = ledger;
    budget->connections = connections;
    budget->counters = *counters;
    ledger->exceeded = budget_enforce;
    ledger->context = budget;
    return budget;
}

void memory_budget_close(struct memory_budget *budget)
{
    if (!budget)
        return;
    budget->magic = 0;
    free(budget);
}
