#include "worker/rpc/rpc_arguments.h"

static const char *const names[RPC_ARGUMENT_COUNT] = {
    [RPC_ARGUMENT_TOPICS] = "topics",
    [RPC_ARGUMENT_DATA] = "data",
    [RPC_ARGUMENT_SYNC] = "sync",
    [RPC_ARGUMENT_NOTIFIER] = "notifier_id",
};

bool rpc_arguments_read(struct rpc_arguments *arguments, const struct rpc_message *message, unsigned allowed)
{
    const struct json_document *document = &message->document;
    uint32_t cursor = 0, key, value;
    for (size_t i = 0; i < RPC_ARGUMENT_COUNT; i++)
        arguments->tokens[i] = JSON_ABSENT;
    if (message->arguments == JSON_ABSENT)
        return true;
    if (document->tokens[message->arguments].type == JSON_NULL)
        return false;
    while (rpc_mapping_next(document, message->arguments, &cursor, &key, &value)) {
        size_t i = 0;
        if (key == JSON_ABSENT || document->tokens[key].type != JSON_STRING)
            return false;
        while (i < RPC_ARGUMENT_COUNT &&
               !((allowed & 1u << i) && json_string_equals(document, key, slice_from_string(names[i]))))
            i++;
        if (i == RPC_ARGUMENT_COUNT)
            return false;
        arguments->tokens[i] = value;
    }
    return true;
}

static bool number_is_zero(struct slice number)
{
    for (size_t i = 0; i < number.length; i++) {
        if (number.data[i] == 'e' || number.data[i] == 'E')
            return true; /* only zeros before the exponent */
        if (number.data[i] != '0' && number.data[i] != '.' && number.data[i] != '-')
            return false;
    }
    return true;
}

bool rpc_truthy(const struct json_document *document, uint32_t token)
{
    const struct json_token *value = &document->tokens[token];
    switch (value->type) {
    case JSON_NULL:
    case JSON_FALSE:
        return false;
    case JSON_STRING:
        return value->end - value->start > 2;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return value->size > 0;
    case JSON_NUMBER:
        return !number_is_zero(json_raw(document, token));
    default:
        return true;
    }
}
