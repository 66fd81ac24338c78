#include "worker/client/client_details.h"
#include "worker/client/memory_budget.h"

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "worker/client/rpc_methods.h"
#include "worker/client/websocket_session.h"

static size_t connection_holds(const struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        return 0;
    return connection_queued_bytes(connection) + transport_held_bytes(&connection->transport) +
           websocket_parser_held(&connection->parser) + connection_http_held(connection) +
           rpc_held(connection) + subscription_set_held(&connection->subscriptions);
}

static void budget_close(struct worker *worker, struct connection *connection, size_t holds)
{
    if (connection->state <
        CONNECTION_FINISHING) /* else it was closed before, and had the rest of a frame left */
        worker_count(worker, COUNTER_CLIENTS_OVER_MEMORY, 1);
    log_write_limited(&worker->limit_memory, LOG_WARNING, LOGGER_WORKER,
        "Clients make this worker hold %llu bytes, more than %llu: closing the one on %s, which holds "
        "%zu",
        (unsigned long long)worker->held_bytes, (unsigned long long)worker->held_bytes_max,
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), holds);
    if (connection->state == CONNECTION_OPEN)
        websocket_session_over_memory(connection);
    else
        connection_kill(connection);
    /* Nothing of it is being read now, and nothing will be: without this its memory would still count, and the next would go for it. */
    worker->held_bytes -= websocket_parser_held(&connection->parser);
    websocket_parser_free(&connection->parser);
    if (connection->state == CONNECTION_DEAD)
        connection_http_free(connection);
}

void memory_budget_enforce(struct worker *worker)
{
    /* an eighth below the limit, so that the next event does not bring all this again */
    uint64_t goal = worker->held_bytes_max - worker->held_bytes_max / 8;
    /* Each pass takes all that hold at least half of what the greatest does, so there are few passes. A websocket is left with the
     * rest of a frame that was begun, which goes in a later pass if it must. */
    while (worker->held_bytes > goal) {
        size_t most = 0;
        for (const struct connection *at = worker->connections; at; at = at->next) {
            size_t holds = connection_holds(at);
            if (holds > most)
                most = holds;
        }
        if (most == 0)
            return; /* what is left belongs to connections that are about to be freed */
        for (struct connection *at = worker->connections; at && worker->held_bytes > goal; at = at->next) {
            size_t holds = connection_holds(at);
            if (holds > most / 2)
                budget_close(worker, at, holds);
        }
    }
}
