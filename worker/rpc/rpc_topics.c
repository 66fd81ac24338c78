/*
 * What each of the three accepts; tests/integration/test_wire_differential.py compares it with the reference:
 *
 *                     subscribe            unsubscribe     publish
 *   missing, []       true, no effect      same            same
 *   "str"             one a character      violation       one topic
 *   {}                violation            violation       no topics
 *   {"a": 1}          false                violation       its keys
 *   null, 5, true     violation            violation       violation
 *   item null         violation            no effect       no effect
 *   item 5, true      no effect            no effect       no effect
 *   item [] or {}     violation            violation       violation
 *
 * "No effect" for items that are no strings: the reference keeps numbers as keys of their own type, which
 * only a publish with the same number over the same server would ever match; topics are strings here.
 */
#include "worker/rpc/rpc_topics.h"

#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"
#include "shm/common/utf8.h"

void rpc_topics_free(struct rpc_topics *topics)
{
    text_free(&topics->text);
    free(topics->items);
    free(topics->offsets);
}

/* Ends the topic that was appended to `text` from `start` on. */
static void topics_push(struct rpc_topics *topics, size_t start)
{
    if (topics->count == topics->capacity) {
        topics->capacity = topics->capacity ? topics->capacity * 2 : 16;
        topics->offsets = memory_resize(topics->offsets, topics->capacity * sizeof *topics->offsets);
        topics->items = memory_resize(topics->items, topics->capacity * sizeof *topics->items);
    }
    topics->offsets[topics->count] = start;
    topics->items[topics->count].length = topics->text.length - start;
    topics->count++;
}

static enum rpc_topics_verdict topics_refuse(struct rpc_topics *topics, const char *reason)
{
    topics->reason = reason;
    return RPC_TOPICS_REFUSED;
}

static void topics_push_string(
    struct rpc_topics *topics, const struct json_document *document, uint32_t token)
{
    size_t start = topics->text.length;
    json_string_decode(document, token, &topics->text);
    topics_push(topics, start);
}

/* The reference iterates over a string, which gives its characters. */
static enum rpc_topics_verdict topics_split_characters(
    struct rpc_topics *topics, const struct json_document *document, uint32_t token, size_t count_max)
{
    json_string_decode(document, token, &topics->text);
    size_t end = topics->text.length;
    for (size_t start = 0, length; start < end; start += length) {
        uint32_t point;
        length = utf8_decode((struct slice){topics->text.data + start, end - start}, &point);
        if (topics->count == count_max)
            return topics_refuse(topics, "too many topics");
        size_t whole = topics->text.length;
        topics->text.length = start + length;
        topics_push(topics, start);
        topics->text.length = whole;
    }
    return RPC_TOPICS_GOOD;
}

static enum rpc_topics_verdict topics_read_list(struct rpc_topics *topics,
    const struct json_document *document, uint32_t token, enum rpc_topics_use use,
    const struct event_limits *limits)
{
    uint32_t end = document->tokens[token].next;
    for (uint32_t at = token + 1; at < end; at = document->tokens[at].next) {
        uint32_t type = document->tokens[at].type;
        if (type == JSON_ARRAY || type == JSON_OBJECT || (type == JSON_NULL && use == RPC_TOPICS_SUBSCRIBE))
            return RPC_TOPICS_VIOLATION;
    }
    if (document->tokens[token].size > limits->topics_max)
        return topics_refuse(topics, "too many topics");
    for (uint32_t at = token + 1; at < end; at = document->tokens[at].next)
        if (document->tokens[at].type == JSON_STRING)
            topics_push_string(topics, document, at);
    return RPC_TOPICS_GOOD;
}

static enum rpc_topics_verdict topics_read_object(struct rpc_topics *topics,
    const struct json_document *document, uint32_t token, enum rpc_topics_use use,
    const struct event_limits *limits)
{
    const struct json_token *object = &document->tokens[token];
    if (use == RPC_TOPICS_UNSUBSCRIBE || (use == RPC_TOPICS_SUBSCRIBE && object->size == 0))
        return RPC_TOPICS_VIOLATION;
    if (use == RPC_TOPICS_SUBSCRIBE)
        return topics_refuse(topics, "topics is an object");
    if (object->size > limits->topics_max)
        return topics_refuse(topics, "too many topics");
    for (uint32_t at = token + 1; at < object->next; at = document->tokens[document->tokens[at].next].next)
        topics_push_string(topics, document, at);
    return RPC_TOPICS_GOOD;
}

static enum rpc_topics_verdict topics_check(
    struct rpc_topics *topics, enum rpc_topics_use use, const struct event_limits *limits)
{
    for (size_t i = 0; i < topics->count; i++) {
        struct slice topic = {topics->text.data + topics->offsets[i], topics->items[i].length};
        topics->items[i] = topic;
        if (use == RPC_TOPICS_UNSUBSCRIBE)
            continue;
        if (topic.length > limits->topic_max_bytes)
            return topics_refuse(topics, "topic too long");
        if (slice_equals_string(topic, RPC_ALL_TOPICS) ||
            (limits->purge_channel && slice_equals_string(topic, limits->purge_channel)))
            return topics_refuse(topics, "topic not permitted");
    }
    return RPC_TOPICS_GOOD;
}

enum rpc_topics_verdict rpc_topics_read(struct rpc_topics *topics, const struct json_document *document,
    uint32_t token, enum rpc_topics_use use, const struct event_limits *limits)
{
    enum rpc_topics_verdict verdict = RPC_TOPICS_GOOD;
    topics->count = 0;
    topics->reason = NULL;
    text_clear(&topics->text);
    if (token == JSON_ABSENT)
        return RPC_TOPICS_GOOD;
    switch (document->tokens[token].type) {
    case JSON_ARRAY:
        verdict = topics_read_list(topics, document, token, use, limits);
        break;
    case JSON_OBJECT:
        verdict = topics_read_object(topics, document, token, use, limits);
        break;
    case JSON_STRING:
        if (use == RPC_TOPICS_UNSUBSCRIBE)
            return RPC_TOPICS_VIOLATION;
        if (use == RPC_TOPICS_SUBSCRIBE)
            verdict = topics_split_characters(topics, document, token, limits->topics_max);
        else
            topics_push_string(topics, document, token);
        break;
    default:
        return RPC_TOPICS_VIOLATION;
    }
    return verdict == RPC_TOPICS_GOOD ? topics_check(topics, use, limits) : verdict;
}
