#include "worker/fanout/ring_event.h"

#include <string.h>
#include "shm/event.h"

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool identity_read(struct slice hex, struct identity *identity)
{
    if (hex.length != IDENTITY_HEX)
        return false;
    for (size_t i = 0; i < IDENTITY_BYTES; i++) {
        int high = hex_value(hex.data[2 * i]);
        int low = hex_value(hex.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        identity->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool ring_event_decode(const struct ring_record *record, struct ring_event *event)
{
    struct event decoded;
    if (!event_decode(record->body, record->length, &decoded))
        return false;
    *event = (struct ring_event){
        .entered_ns = decoded.entered_ns,
        .ticket = decoded.ticket,
        .origin = decoded.origin,
        .incarnation = decoded.incarnation,
        .topic_count = decoded.topic_count,
        .topics = decoded.topics,
        .data = decoded.data,
    };
    event->has_notifier = decoded.notifier.data && identity_read(decoded.notifier, &event->notifier);
    return true;
}

bool ring_event_topic_next(const struct ring_event *event, uint32_t *offset, struct slice *topic)
{
    const struct event encoded = {.topic_count = event->topic_count, .topics = event->topics};
    return event_topic_next(&encoded, offset, topic);
}

bool ring_refusal_decode(const struct ring_record *record, struct ring_refusal *refusal)
{
    struct event_refusal body;
    if (record->length < sizeof(body))
        return false;
    memcpy(&body, record->body, sizeof(body));
    *refusal = (struct ring_refusal){body.ticket, body.origin, body.incarnation,
        body.reason == EVENT_REFUSED_TOO_LARGE, body.reason == EVENT_REFUSED_FROZEN};
    return true;
}

bool ring_acknowledgement_decode(
    const struct ring_record *record, struct ring_acknowledgement *acknowledgement)
{
    struct event_acknowledgement body;
    if (record->length < sizeof(body))
        return false;
    memcpy(&body, record->body, sizeof(body));
    *acknowledgement =
        (struct ring_acknowledgement){body.ticket, body.origin, body.incarnation, body.ok != 0};
    return true;
}

bool ring_resync_decode(const struct ring_record *record, struct ring_resync *resync)
{
    struct event_resync body;
    if (record->length < sizeof(body))
        return false;
    memcpy(&body, record->body, sizeof(body));
    *resync = (struct ring_resync){body.gap_ns, body.closes_per_second};
    return true;
}
