/* What websocket_stage.c and websocket_session.c share; for these two only. */
#ifndef OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_INTERNAL_H
#define OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_INTERNAL_H

#include "shm/common/log.h"
#include "worker/client/rpc_methods.h"
#include "worker/client/websocket_session.h"
#include "worker/client/websocket_stage.h"

#define WEBSOCKET_STAGE_MAGIC UINT32_C(0x3eb50c7e)

struct websocket_stage {
    struct connection_stage stage;
    struct websocket_stage_settings settings;
    struct rpc_methods *methods;
    /* open ones */
    uint32_t count;
    /* the place of the next client's first ping (worker/net/deadline.h) */
    unsigned first_ping;
    struct log_limiter limit_slow;
    struct log_limiter limit_ping;
    struct log_limiter limit_protocol;
    struct log_limiter limit_expired;
};

static inline struct websocket_stage *websocket_stage_of(const struct connection *connection)
{
    return object_cast(struct websocket_stage, WEBSOCKET_STAGE_MAGIC, connection->stage);
}

/* Received bytes; they are changed. */
void websocket_session_input(struct connection *connection, char *received, size_t length);
/* Sends one frame. */
void websocket_session_send(
    struct connection *connection, enum websocket_opcode opcode, const void *payload, size_t length);
void websocket_session_send_text(struct connection *connection, struct slice text);
/* As websocket_session_fail with 1013; the client gets a linger time to read the rest of its frame and the
 * close frame, and no longer. */
void websocket_session_fail_quickly(struct connection *connection, const char *reason);
/* Takes away what makes it a subscriber; the first step of every end. Once is enough. */
void websocket_session_detach(struct connection *connection);
void websocket_session_log_end(const struct connection *connection, const char *how);

#endif
