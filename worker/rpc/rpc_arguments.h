/* The arguments of a call: by name, each at most once in use, unknown ones refused. Pure. */
#ifndef OPALD_WORKER_RPC_RPC_ARGUMENTS_H
#define OPALD_WORKER_RPC_RPC_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "worker/rpc/rpc_message.h"

enum rpc_argument {
    RPC_ARGUMENT_TOPICS,
    RPC_ARGUMENT_DATA,
    RPC_ARGUMENT_SYNC,
    RPC_ARGUMENT_NOTIFIER,
    RPC_ARGUMENT_COUNT,
};

struct rpc_arguments {
    /* tokens of message->document; JSON_ABSENT: not given */
    uint32_t tokens[RPC_ARGUMENT_COUNT];
};

/* `allowed`: bits (1u << enum rpc_argument) of the arguments that the method has. False: one that it does not
 * have, or arguments that are not named. */
MUST_CHECK bool rpc_arguments_read(
    struct rpc_arguments *arguments, const struct rpc_message *message, unsigned allowed);

/* Python's bool() of a JSON value. */
bool rpc_truthy(const struct json_document *document, uint32_t token);

#endif
