/*
 * BroadcastNotification, the JSON that servers exchange over any backbone:
 *     {"notifier_id": "..", "topics": [".."], "data": ..}
 * Pure codec, no I/O. Encoding is to the byte what the reference writes (Python json defaults), except that
 * `data` passes through unchanged.
 */
#ifndef OPALD_BROADCAST_BACKEND_NOTIFICATION_H
#define OPALD_BROADCAST_BACKEND_NOTIFICATION_H

#include "shm/common/json.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

#define NOTIFICATION_TOPICS_MAX 1024

struct notification {
    struct slice notifier_id;
    /* decoded UTF-8 */
    struct slice *topics;
    uint32_t topic_count;
    /* JSON text inside the message; "null" when the key was absent */
    struct slice data;
    /* Another opald could not send everything: the reason, decoded. Only in a message without topics, which
     * the reference takes for one to nobody. Absent otherwise. */
    struct slice resync;
    /* Of one that was not accepted: it may well be an event, which others can read, and only our limits are
     * in the way. */
    bool above_limits;
};

/* Appends one message with one topic. */
void notification_encode(struct text *out, struct slice notifier_id, struct slice topic, struct slice data);

/* Appends the message by which a server tells the others that it could not send them everything: their
 * clients have to refetch. */
void notification_encode_resync(struct text *out, struct slice notifier_id, struct slice reason);

/* memory that is reused from message to message */
struct notification_decoder;
/* `data` may be nested `max_depth` deep: what any door of any server accepts, all of them can read. */
struct notification_decoder *notification_decoder_make(unsigned max_depth);
void notification_decoder_free(struct notification_decoder *decoder);
/* 0, or -1 with a reason in `reason` (static text). `out` is valid until the next call and while `bytes`
 * lives. What is accepted and coerced: spec of the reference (extra keys ignored; notifier_id number ->
 * string; missing or null is an error; topics must be an array, numbers in it become strings). */
MUST_CHECK int notification_decode(
    struct notification_decoder *decoder, struct slice bytes, struct notification *out, const char **reason);

#endif
