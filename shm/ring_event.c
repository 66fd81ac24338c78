/* The event codec. Pure: bytes in, views out. Decoding trusts no length; each is read once. */
#include "shm/ring_event.h"

#include <assert.h>
#include <string.h>

/* The fixed part, as drawn in the header. */
struct event_head {
    uint64_t entered_ns;
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    uint32_t flags;
    uint32_t topic_count;
    uint32_t topics_length;
    uint32_t data_length;
    struct identity notifier;
};
static_assert(sizeof(struct event_head) == 56, "drawn as 56 bytes");

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) & ~(to - 1);
}

/* Bytes of the encoded topics; UINT64_MAX when they alone are too many. */
static uint64_t topics_size(const struct slice *topics, uint32_t topic_count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < topic_count; i++) {
        if (topics[i].length > UINT32_MAX)
            return UINT64_MAX;
        total += sizeof(uint32_t) + round_up(topics[i].length, sizeof(uint32_t));
        if (total > UINT32_MAX)
            return UINT64_MAX;
    }
    return total;
}

uint32_t ring_event_encoded_size(const struct slice *topics, uint32_t topic_count, struct slice data)
{
    uint64_t topics_length = topics_size(topics, topic_count);
    if (topics_length > UINT32_MAX || data.length >= UINT32_MAX)
        return UINT32_MAX;
    uint64_t total = sizeof(struct event_head) + round_up(topics_length, 8) + data.length;
    return total < UINT32_MAX ? (uint32_t)total : UINT32_MAX;
}

/* Copies and returns the place behind; an empty slice may have a NULL pointer, which memcpy must not see. */
static unsigned char *put(unsigned char *out, const void *bytes, size_t length)
{
    if (length > 0)
        memcpy(out, bytes, length);
    return out + length;
}

static unsigned char *put_zeros(unsigned char *out, size_t count)
{
    memset(out, 0, count);
    return out + count;
}

void ring_event_encode(void *out, const struct ring_event *event, const struct slice *topics)
{
    uint32_t topics_length = (uint32_t)topics_size(topics, event->topic_count);
    const struct event_head head = {
        .entered_ns = event->entered_ns,
        .ticket = event->ticket,
        .origin = event->origin,
        .incarnation = event->incarnation,
        .flags = event->flags,
        .topic_count = event->topic_count,
        .topics_length = topics_length,
        .data_length = (uint32_t)event->data.length,
        .notifier = event->notifier,
    };
    unsigned char *at = put(out, &head, sizeof head);
    for (uint32_t i = 0; i < event->topic_count; i++) {
        uint32_t length = (uint32_t)topics[i].length;
        at = put(at, &length, sizeof length);
        at = put(at, topics[i].data, length);
        at = put_zeros(at, (size_t)(round_up(length, sizeof(uint32_t)) - length));
    }
    at = put_zeros(at, (size_t)(round_up(topics_length, 8) - topics_length));
    put(at, event->data.data, event->data.length);
}

bool ring_event_topic_next(const struct ring_event *event, uint32_t *offset, struct slice *topic)
{
    uint64_t left = event->topics.length - *offset;
    uint32_t length;
    if (*offset > event->topics.length || left < sizeof length)
        return false;
    memcpy(&length, event->topics.data + *offset, sizeof length);
    uint64_t padded = round_up(length, sizeof(uint32_t));
    if (padded > left - sizeof length)
        return false;
    *topic = (struct slice){event->topics.data + *offset + sizeof length, length};
    *offset += (uint32_t)(sizeof length + padded);
    return true;
}

/* The topics must be as many as announced and fill their part exactly. */
static bool topics_valid(const struct ring_event *event)
{
    uint32_t offset = 0;
    struct slice topic;
    for (uint32_t i = 0; i < event->topic_count; i++)
        if (!ring_event_topic_next(event, &offset, &topic))
            return false;
    return offset == event->topics.length;
}

bool ring_event_decode(const void *body, uint32_t length, struct ring_event *event)
{
    struct event_head head;
    if (length < sizeof head)
        return false;
    memcpy(&head, body, sizeof head);
    uint64_t before_data = sizeof head + round_up(head.topics_length, 8);
    if (before_data + head.data_length != length)
        return false;
    *event = (struct ring_event){
        .entered_ns = head.entered_ns,
        .ticket = head.ticket,
        .origin = head.origin,
        .incarnation = head.incarnation,
        .flags = head.flags,
        .topic_count = head.topic_count,
        .notifier = head.notifier,
        .topics = {(const char *)body + sizeof head, head.topics_length},
        .data = {(const char *)body + before_data, head.data_length},
    };
    return topics_valid(event);
}
