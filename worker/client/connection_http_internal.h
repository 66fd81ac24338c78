/* What connection_http.c and connection_http_session.c share; for these two only. */
#ifndef OPALD_WORKER_CLIENT_CONNECTION_HTTP_INTERNAL_H
#define OPALD_WORKER_CLIENT_CONNECTION_HTTP_INTERNAL_H

#include "shm/common/log.h"
#include "worker/client/connection_http.h"
#include "worker/client/handshake_gate.h"
#include "worker/client/peer_address.h"
#include "worker/http/forwarded.h"
#include "worker/http/http_session.h"

#define HTTP_STAGE_MAGIC UINT32_C(0x477057a6)

struct http_stage {
    struct connection_stage stage;
    struct http_stage_settings settings;
    struct handshake_gate *gate;
    /* whose X-Forwarded-* count */
    struct network_list forwarders;
    /* connections with a session */
    uint32_t count;
    /* most of them since memory was last given back */
    uint32_t peak;
    /* refusals that wait for their time */
    uint32_t refusals_held;
    struct log_limiter limit_slow;
    struct log_limiter limit_forwarded;
};

/* One connection's. */
struct connection_http {
    struct http_session *session;
    /* of the request in hand; its host empty: the peer's address holds */
    struct forwarded_client client;
    char client_text[FORWARDED_HOST_TEXT + 8];
    /* of the request in hand; NULL: nobody said */
    const char *scheme;
    /* its part of the memory ledger */
    size_t held;
    /* of an upgrade that was answered with 101: the query, the token, and the bytes behind the request */
    struct text query;
    struct token_claims *claims;
    struct text rest;
    /* a refusal that waits for its time */
    struct text late;
    bool waits;
    /* no more requests: close once everything is out */
    bool over;
    /* 101 was sent */
    bool upgraded;
    /* http_session_input or _timeout is running */
    bool on_stack;
    /* between two requests, or before the first byte */
    bool idle;
    /* something was received */
    bool begun;
    /* all zero when it has none */
    struct network_address address;
    char peer[PEER_ADDRESS_TEXT];
};

static inline struct http_stage *http_stage_of(const struct connection *connection)
{
    return object_cast(struct http_stage, HTTP_STAGE_MAGIC, connection->stage);
}

/* The connection's side of an HTTP session. */
extern const struct http_connection_operations connection_http_session_operations;

#endif
