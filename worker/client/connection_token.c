/* A websocket lives no longer than the token that opened it. */
#include <time.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/jose/token.h"
#include "worker/client/client_details.h"
#include "worker/client/connection.h"
#include "worker/client/context.h"
#include "worker/client/websocket_session.h"

/* The token's end is wall-clock time, which may be set: looked at anew this often. */
#define TOKEN_LOOK_SECONDS 3600

static void token_on_time(evutil_socket_t fd, short what, void *argument);

static void token_arm(struct connection *connection)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = connection->claims->expires - now.tv_sec;
    struct timeval wait = {.tv_sec = TOKEN_LOOK_SECONDS};
    if (left <= 0)
        wait = (struct timeval){0};
    else if (left < TOKEN_LOOK_SECONDS)
        wait = (struct timeval){.tv_sec = left, .tv_usec = 1000 - now.tv_nsec / 1000};
    while (wait.tv_usec < 0) {
        wait.tv_sec--;
        wait.tv_usec += 1000000;
    }
    if (wait.tv_sec < 0)
        wait = (struct timeval){.tv_usec = 1000};
    event_add(connection->token_end, &wait);
}

static void token_on_time(evutil_socket_t fd, short what, void *argument)
{
    static struct log_limiter limiter;
    struct connection *connection = argument;
    struct worker *worker = connection->worker;
    (void)fd;
    (void)what;
    if (connection->state != CONNECTION_OPEN)
        return;
    if (connection->claims->expires > time(NULL)) {
        token_arm(connection);
        return;
    }
    worker_count(worker, COUNTER_TOKENS_EXPIRED, 1);
    log_write_limited(&limiter, LOG_INFO, LOGGER_WORKER,
        "The token of the client on %s has expired: closing its connection",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}));
    websocket_session_close(connection, WEBSOCKET_CLOSE_POLICY_VIOLATION, "token expired");
}

void connection_token_start(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (!connection->claims || connection->claims->expires == TOKEN_NEVER ||
        !worker->config->auth_close_expired)
        return;
    connection->token_end = event_new(worker->base, -1, 0, token_on_time, connection);
    if (connection->token_end) /* only out of memory, and then the token was good a moment ago */
        token_arm(connection);
}

void connection_token_end(struct connection *connection)
{
    if (connection->token_end)
        event_free(connection->token_end);
    connection->token_end = NULL;
    token_claims_drop(connection->claims);
    connection->claims = NULL;
}
