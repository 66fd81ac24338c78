/*
 * The notify envelope, to the byte what the reference sends:
 *
 *   {"request": {"method": "notify", "arguments": {"subscription": {"id": "<32>", "subscriber_id": "<32>",
 *   "topic": <json>, "notifier_id": null}, "data": <data>}, "call_id": "<32>"}, "response": null}
 *
 * Everything before the data is the head, everything behind it the tail; the data is sent from where it lies.
 */
#ifndef OPALD_SHM_LINK_NOTIFY_H
#define OPALD_SHM_LINK_NOTIFY_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/text.h"

/* The tail has always the same length. */
#define NOTIFY_TAIL_LENGTH (sizeof("}, \"call_id\": \"\"}, \"response\": null}") - 1 + IDENTITY_HEX)

/* Length of the head for a topic whose JSON form (with quotes) has this many bytes. */
size_t notify_head_length(size_t topic_json_length);
/* Writes exactly that many bytes. `channel` are 32 hex digits. */
void notify_head_write(
    char *out, const struct identity *subscription, const char *channel, struct slice topic_json);
void notify_tail_write(char *out, const struct identity *call);
/* Puts other ids (32 hex digits each) into a head that was written, and another call id into a tail. */
void notify_head_readdress(char *head, const char *subscription, const char *channel);
void notify_tail_readdress(char *tail, const struct identity *call);

/* Bytes that the largest of the messages for these topics has beside its data. The websocket head is not
 * counted, as the limits of the Python clients (1 MiB) don't count it. */
uint64_t notify_envelope_max(const struct slice *topics, uint32_t topic_count);

#endif
