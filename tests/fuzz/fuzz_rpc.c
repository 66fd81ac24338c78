/*
 * libFuzzer: any text into the RPC envelope and the topics argument. What is accepted must be walkable,
 * and a reply with its call id must be JSON again.
 *   make build/fuzz/fuzz_rpc && build/fuzz/fuzz_rpc -max_total_time=30
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/rpc/rpc_message.h"
#include "worker/rpc/rpc_stock_reply.h"
#include "worker/rpc/rpc_topics.h"
#include "tests/fuzz/fuzz.h"

static void check(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_rpc: %s\n", what);
        abort();
    }
}

static void walk_arguments(const struct rpc_message *message)
{
    static struct rpc_topics topics;
    static const struct event_limits limits = {
        .topics_max = 50, .topic_max_bytes = 100, .purge_channel = "purge"};
    const struct json_document *document = &message->document;
    uint32_t cursor = 0, key, value, members = 0;
    if (message->arguments == JSON_ABSENT)
        return;
    while (rpc_mapping_next(document, message->arguments, &cursor, &key, &value)) {
        check(++members <= document->count, "walks in circles");
        if (key == JSON_ABSENT)
            continue;
        check(key < document->count && value < document->count, "a token that is not there");
        for (int use = RPC_TOPICS_SUBSCRIBE; use <= RPC_TOPICS_PUBLISH; use++) {
            if (rpc_topics_read(&topics, document, value, (enum rpc_topics_use)use, &limits) !=
                RPC_TOPICS_GOOD)
                continue;
            check(topics.count <= limits.topics_max, "too many topics");
            for (size_t i = 0; i < topics.count; i++)
                check(use == RPC_TOPICS_UNSUBSCRIBE || topics.items[i].length <= limits.topic_max_bytes,
                    "topic too long");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct rpc_message message;
    static struct text reply;
    static struct json_document document;
    char *text = malloc(size + 1); /* of the exact size for an empty input as well */
    memcpy(text, bytes, size);
    struct slice input = {text, size};
    enum rpc_verdict verdict = rpc_message_parse(&message, input, 64, 10000);
    if (rpc_is_stock_reply(input))
        check(verdict == RPC_IGNORED, "the short way and the long way differ");
    if (verdict == RPC_REQUEST) {
        walk_arguments(&message);
        text_clear(&reply);
        rpc_reply_write(&reply, "true", "bool", message.has_call_id, text_slice(&message.call_id));
        check(json_check(&document, reply.data, reply.length, 10) == JSON_OK, "a reply that is no JSON");
    }
    free(text);
    return 0;
}
