/*
 * The JSON-RPC envelope of fastapi_websocket_rpc: {"request": {...}, "response": {...}}, with the leniency of
 * the reference's validation (pydantic 1): an object may also come as a list of pairs, numbers stand for
 * strings, unknown keys are ignored. Pure: text in, a call out.
 */
#ifndef OPALD_WORKER_RPC_RPC_MESSAGE_H
#define OPALD_WORKER_RPC_RPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/json.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

enum rpc_verdict {
    /* a reply, or a message that failed validation: nothing happens, the connection stays open */
    RPC_IGNORED,
    /* not JSON and the like: the connection is closed with 1000 */
    RPC_VIOLATION,
    /* a call, described by the message */
    RPC_REQUEST,
};

/* Memory that is reused from message to message. Zero-initialise, rpc_message_free at the end. Views are
 * valid until the next parse and while its text lives. */
struct rpc_message {
    struct json_document document;
    /* decoded */
    struct text method;
    /* decoded; meaningful when has_call_id */
    struct text call_id;
    /* false: the reply says null */
    bool has_call_id;
    /* token of something like an object, of a null, or JSON_ABSENT */
    uint32_t arguments;
};

void rpc_message_free(struct rpc_message *message);

MUST_CHECK enum rpc_verdict rpc_message_parse(
    struct rpc_message *message, struct slice text, unsigned max_depth, size_t max_tokens);

/*
 * Walks the members of an object, or of what stands for one (list of pairs, empty string). Start with *cursor
 * = 0; false at the end. `key` is JSON_ABSENT for a key that can't be the name of anything (a single
 * character out of a two-character string).
 */
MUST_CHECK bool rpc_mapping_next(
    const struct json_document *document, uint32_t token, uint32_t *cursor, uint32_t *key, uint32_t *value);

/* Appends {"request": null, "response": {"result": <result>, "result_type": "<type>", "call_id": ...}}.
 * `result` is JSON text. */
void rpc_reply_write(
    struct text *out, const char *result, const char *result_type, bool has_call_id, struct slice call_id);

#endif
