#include "shm/link/notify.h"

#include <string.h>

#define HEAD_ID         "{\"request\": {\"method\": \"notify\", \"arguments\": {\"subscription\": {\"id\": \""
#define HEAD_SUBSCRIBER "\", \"subscriber_id\": \""
#define HEAD_TOPIC      "\", \"topic\": "
#define HEAD_DATA       ", \"notifier_id\": null}, \"data\": "
#define TAIL_CALL       "}, \"call_id\": \""
#define TAIL_END        "\"}, \"response\": null}"

static char *put(char *out, const char *bytes, size_t length)
{
    memcpy(out, bytes, length);
    return out + length;
}

#define PUT_LITERAL(out, literal) put((out), (literal), sizeof(literal) - 1)

size_t notify_head_length(size_t topic_json_length)
{
    return sizeof(HEAD_ID) - 1 + IDENTITY_HEX + sizeof(HEAD_SUBSCRIBER) - 1 + IDENTITY_HEX +
           sizeof(HEAD_TOPIC) - 1 + topic_json_length + sizeof(HEAD_DATA) - 1;
}

void notify_head_write(
    char *out, const struct identity *subscription, const char *channel, struct slice topic_json)
{
    out = PUT_LITERAL(out, HEAD_ID);
    identity_format(subscription, out);
    out = PUT_LITERAL(out + IDENTITY_HEX, HEAD_SUBSCRIBER);
    out = put(out, channel, IDENTITY_HEX);
    out = PUT_LITERAL(out, HEAD_TOPIC);
    out = put(out, topic_json.data, topic_json.length);
    PUT_LITERAL(out, HEAD_DATA);
}

void notify_tail_write(char *out, const struct identity *call)
{
    out = PUT_LITERAL(out, TAIL_CALL);
    identity_format(call, out);
    PUT_LITERAL(out + IDENTITY_HEX, TAIL_END);
}

void notify_head_readdress(char *head, const char *subscription, const char *channel)
{
    memcpy(head + sizeof(HEAD_ID) - 1, subscription, IDENTITY_HEX);
    memcpy(head + sizeof(HEAD_ID) - 1 + IDENTITY_HEX + sizeof(HEAD_SUBSCRIBER) - 1, channel, IDENTITY_HEX);
}

void notify_tail_readdress(char *tail, const struct identity *call)
{
    identity_format(call, tail + sizeof(TAIL_CALL) - 1);
}

/* Length of the topic as text_append_json_ascii writes it. */
static size_t topic_json_length(struct slice topic)
{
    struct text json = {0};
    text_append_json_ascii(&json, topic);
    size_t length = json.length;
    text_free(&json);
    return length;
}

uint64_t notify_envelope_max(const struct slice *topics, uint32_t topic_count)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < topic_count; i++) {
        if (topics[i].length * 6 + 2 <= longest) /* even if every byte were escaped */
            continue;
        size_t length = topic_json_length(topics[i]);
        if (length > longest)
            longest = length;
    }
    return notify_head_length(longest) + NOTIFY_TAIL_LENGTH;
}
