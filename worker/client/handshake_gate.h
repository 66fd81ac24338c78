/*
 * Who may open a websocket: the answer to each handshake. A refused address that comes again and again is
 * told so later, because an opal-client with a bad token comes back at once. The reason of a refusal is in
 * the log only: the reference's 403 says nothing. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_HANDSHAKE_GATE_H
#define OPALD_WORKER_CLIENT_HANDSHAKE_GATE_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/text.h"
#include "worker/auth/auth.h"
#include "worker/client/worker_counters.h"
#include "worker/http/http_request.h"

struct handshake_gate;

/* Pointers must outlive the gate. */
struct handshake_gate_settings {
    const struct config *config;
    struct worker_counters counters;
    /* NULL: open mode */
    struct auth *auth;
};

struct handshake_answer {
    /* 101: it is let in */
    unsigned status;
    /* The whole reply; text_free. */
    struct text reply;
    /* A reference, with 101 only; NULL in open mode. */
    struct token_claims *claims;
    /* A refusal that should be sent after OPAL_AUTH_REFUSAL_DELAY. */
    bool late;
};

struct handshake_gate *handshake_gate_open(const struct handshake_gate_settings *settings);
/* NULL is allowed. */
void handshake_gate_close(struct handshake_gate *gate);
/* `peer`: the client, "127.0.0.1:33210". Counts and logs the outcome. */
void handshake_gate_answer(struct handshake_gate *gate, const struct http_request *request, const char *peer,
    struct handshake_answer *answer);

#endif
