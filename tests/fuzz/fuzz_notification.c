/*
 * libFuzzer: any bytes into the notification decoder. What it accepts must lie within the message or the
 * decoder, and must come out the same when it is encoded and decoded again.
 *   make build/fuzz/fuzz_notification && build/fuzz/fuzz_notification -max_total_time=30
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/backend/notification.h"
#include "tests/fuzz/fuzz.h"

static void check(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_notification: %s\n", what);
        abort();
    }
}

static void copy(struct text *out, struct slice from)
{
    text_clear(out);
    text_append(out, from.data, from.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct notification_decoder *decoder;
    static struct text message, notifier, topic, data;
    struct notification notification;
    const char *reason;
    if (!decoder)
        decoder = notification_decoder_make(64);
    struct slice input = {(const char *)bytes, size};
    if (notification_decode(decoder, input, &notification, &reason) < 0) {
        check(reason && *reason, "refused without a reason");
        return 0;
    }
    check(notification.topic_count <= NOTIFICATION_TOPICS_MAX, "too many topics");
    check(notification.data.length > 0, "data is empty");
    for (uint32_t i = 0; i < notification.topic_count; i++) {
        const struct slice *one = &notification.topics[i];
        check(one->data || !one->length, "a topic without bytes");
        copy(&topic, *one); /* reads every byte */
    }
    copy(&notifier, notification.notifier_id);
    copy(&data, notification.data);
    if (!notification.topic_count)
        return 0;
    copy(&topic, notification.topics[0]);
    /* lone surrogates (WTF-8) become U+FFFD when encoded: they can't come back */
    for (size_t i = 0; i + 1 < notifier.length; i++)
        if ((notifier.data[i] & 0xff) == 0xed && (notifier.data[i + 1] & 0xff) >= 0xa0)
            return 0;
    for (size_t i = 0; i + 1 < topic.length; i++)
        if ((topic.data[i] & 0xff) == 0xed && (topic.data[i + 1] & 0xff) >= 0xa0)
            return 0;
    text_clear(&message);
    notification_encode(&message, text_slice(&notifier), text_slice(&topic), text_slice(&data));
    check(notification_decode(decoder, text_slice(&message), &notification, &reason) == 0,
        "what was encoded is refused");
    check(notification.topic_count == 1, "one topic went in");
    check(slice_equals(notification.notifier_id, text_slice(&notifier)), "another notifier_id");
    check(slice_equals(notification.topics[0], text_slice(&topic)), "another topic");
    check(slice_equals(notification.data, text_slice(&data)), "other data");
    return 0;
}
