/*
 * A frame is
 *
 *   websocket head | notify head (ids, topic) | data | notify tail (call id)
 *
 * Small data is copied, so that the frame is one piece in the scratch buffer and a client with many small
 * events gets one send(2) of one piece. Larger data stays in the ring and is named by an iovec between head
 * and tail: it is never copied for a client whose socket takes it. Where several clients in a row get the
 * same events, as the subscribers of a topic do, the frames are built once and only the ids in them are
 * replaced. What a socket refuses is copied, the large data once for all clients, into a counted block.
 */
#include "worker/fanout/fanout_send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include "shm/common/memory.h"
#include "shm/link/notify.h"
#include "worker/client/websocket_session.h"

#define SENDER_SCRATCH  (256 * 1024)
#define SENDER_COPY_MAX 4096 /* data up to this size is cheaper to copy than to name by an iovec */
#define SENDER_OWN_MAX  256  /* ... and up to this size it is copied for each slow client */
#define SENDER_FRAMES   256
#define SENDER_IOVECS   (3 * SENDER_FRAMES) /* below IOV_MAX */

struct sender_frame {
    /* in the scratch buffer */
    struct slice head;
    /* in it, behind the websocket head */
    char *message;
    /* in the ring, or in the scratch buffer right behind the head */
    struct slice data;
    /* in the scratch buffer, behind the data when that is there too; NOTIFY_TAIL_LENGTH bytes */
    char *tail;
    struct fanout_event *event;
};

/* What the frames, the iovecs and the scratch buffer still hold from the client before: `frame_count`
 * events for one subscription. */
struct sender_pattern {
    /* NULL: nothing that can be used again */
    const struct topic *topic;
    const struct fanout_event *events;
    size_t frame_count;
    size_t vector_count;
    size_t total;
};

struct fanout_sender {
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct connection *connection;
    char *scratch;
    size_t scratch_size;
    size_t used;
    struct sender_frame frames[SENDER_FRAMES];
    size_t frame_count;
    struct iovec vector[SENDER_IOVECS];
    size_t vector_count;
    /* bytes of all frames */
    size_t total;
    char channel[IDENTITY_HEX];
    struct sender_pattern pattern;
    /* deliveries after the client was given up */
    size_t refused;
    uint64_t deliveries;
    uint64_t bytes;
    uint64_t calls;
    uint64_t dropped;
};

struct fanout_sender *fanout_sender_open(
    const struct worker_counters *counters, struct memory_ledger *ledger, size_t topic_json_max)
{
    struct fanout_sender *sender = memory_allocate(sizeof(*sender));
    sender->counters = *counters;
    sender->ledger = ledger;
    sender->scratch_size = SENDER_SCRATCH + WEBSOCKET_HEADER_MAX + notify_head_length(topic_json_max);
    sender->scratch = memory_allocate(sender->scratch_size);
    return sender;
}

void fanout_sender_close(struct fanout_sender *sender)
{
    free(sender->scratch);
    free(sender);
}

void fanout_sender_begin(struct fanout_sender *sender, struct connection *connection)
{
    sender->connection = connection;
    sender->used = sender->frame_count = sender->vector_count = sender->total = 0;
    sender->pattern.topic = NULL;
    sender->refused = 0;
    identity_format(&connection->channel, sender->channel);
}

static size_t frame_length(const struct sender_frame *frame)
{
    return frame->head.length + frame->data.length + NOTIFY_TAIL_LENGTH;
}

/* Adds a piece to the iovecs; pieces that lie side by side become one. */
static void sender_gather(struct fanout_sender *sender, struct slice piece)
{
    struct iovec *last = sender->vector_count ? &sender->vector[sender->vector_count - 1] : NULL;
    if (last && (const char *)last->iov_base + last->iov_len == piece.data)
        last->iov_len += piece.length;
    else
        sender->vector[sender->vector_count++] = (struct iovec){(void *)(uintptr_t)piece.data, piece.length};
}

/* Puts one frame, of which `sent` bytes are out, into the client's queue. */
static void sender_queue(struct fanout_sender *sender, const struct sender_frame *frame, size_t sent)
{
    struct output_parts parts = {
        .head = frame->head, .tail = {frame->tail, NOTIFY_TAIL_LENGTH}, .sent = sent, .delivery = true};
    if (frame->data.length <= SENDER_OWN_MAX) { /* one piece in the scratch buffer */
        parts.head.length = frame_length(frame);
        parts.tail = (struct slice){0};
    } else {
        if (!frame->event->block)
            frame->event->block = output_block_make(frame->event->data, &sender->ledger->held);
        parts.block = output_block_take(frame->event->block);
    }
    connection_queue(sender->connection, &parts);
}

/* Queues the frames from `first` on, of which the first may be partly out; gives the client up when that is
 * too much. */
static void sender_queue_rest(struct fanout_sender *sender, size_t first, size_t sent)
{
    for (size_t i = first; i < sender->frame_count; i++) {
        const struct sender_frame *frame = &sender->frames[i];
        if (sent == 0 && connection_over_limit(sender->connection, frame_length(frame))) {
            sender->refused += sender->frame_count - i;
            sender->deliveries -= sender->frame_count - i;
            return;
        }
        sender_queue(sender, frame, sent);
        sent = 0;
    }
}

/* The socket has taken `out` bytes and no more (nothing was tried when there is a backlog); `failed`: nor
 * will it ever. Apart from sender_flush, so that a socket that takes everything does not pay for it. */
static __attribute__((noinline)) void sender_keep_rest(struct fanout_sender *sender, size_t out, bool failed)
{
    struct connection *connection = sender->connection;
    if (failed) {
        sender->deliveries -= sender->frame_count;
        sender->dropped += sender->frame_count;
        connection_kill(connection);
    }
    if (!connection->is_open)
        return;
    size_t first = 0;
    while (first < sender->frame_count && out >= frame_length(&sender->frames[first]))
        out -= frame_length(&sender->frames[first++]);
    sender_queue_rest(sender, first, out);
}

static void sender_flush(struct fanout_sender *sender)
{
    struct connection *connection = sender->connection;
    if (sender->frame_count == 0)
        return;
    sender->deliveries += sender->frame_count;
    ssize_t sent = 0;
    if (connection->is_open && !connection->backlog)
        sent = connection_write(connection, sender->vector, sender->vector_count, &sender->calls);
    bool failed = sent < 0 && !transport_would_block(errno);
    size_t out = sent > 0 ? (size_t)sent : 0;
    sender->bytes += out;
    if (out < sender->total)
        sender_keep_rest(sender, out, failed);
    sender->used = sender->frame_count = sender->vector_count = sender->total = 0;
}

void fanout_sender_add(
    struct fanout_sender *sender, const struct subscription *subscription, struct fanout_event *event)
{
    if (sender->refused > 0 || !sender->connection->is_open) {
        sender->refused++;
        return;
    }
    struct slice topic = topic_json(subscription->topic);
    size_t head_length = notify_head_length(topic.length);
    bool copy = event->data.length <= SENDER_COPY_MAX;
    size_t need = WEBSOCKET_HEADER_MAX + head_length + NOTIFY_TAIL_LENGTH + (copy ? event->data.length : 0);
    if (sender->frame_count == SENDER_FRAMES || sender->used + need > sender->scratch_size) {
        sender_flush(sender);
        /* The client may be gone now, and its subscriptions and topics with it. */
        if (sender->refused > 0 || !sender->connection->is_open) {
            sender->refused++;
            return;
        }
    }

    struct sender_frame *frame = &sender->frames[sender->frame_count++];
    char *start = sender->scratch + sender->used;
    size_t message = head_length + event->data.length + NOTIFY_TAIL_LENGTH;
    size_t header = websocket_header_write((uint8_t *)start, WEBSOCKET_TEXT, message);
    notify_head_write(start + header, &subscription->id, sender->channel, topic);
    char *at = start + header + head_length;
    frame->event = event;
    frame->message = start + header;
    frame->head = (struct slice){start, header + head_length};
    frame->data = event->data;
    if (copy) {
        memcpy(at, event->data.data, event->data.length);
        frame->data.data = at;
        at += event->data.length;
    }
    struct identity call = identity_make_fast();
    notify_tail_write(at, &call);
    frame->tail = at;
    sender->used = (size_t)(at + NOTIFY_TAIL_LENGTH - sender->scratch);
    sender->total += header + message;
    sender_gather(sender, frame->head);
    sender_gather(sender, frame->data);
    sender_gather(sender, (struct slice){frame->tail, NOTIFY_TAIL_LENGTH});
}

/* The client was given up: what it does not get is counted. */
static __attribute__((noinline)) void sender_give_up(struct fanout_sender *sender)
{
    if (sender->connection->is_open)
        websocket_session_too_slow(sender->connection, sender->refused); /* counts them */
    else
        sender->dropped += sender->refused;
}

static inline void sender_end(struct fanout_sender *sender)
{
    if (sender->refused == 0)
        sender_flush(sender);
    if (sender->refused > 0)
        sender_give_up(sender);
}

void fanout_sender_end(struct fanout_sender *sender)
{
    sender_end(sender);
}

/* True when the frames of the client before are made this client's. */
static bool sender_readdress(struct fanout_sender *sender, struct connection *connection,
    const struct subscription *subscription, const struct fanout_event *events, uint32_t count)
{
    const struct sender_pattern *pattern = &sender->pattern;
    if (pattern->topic != subscription->topic || pattern->events != events || pattern->frame_count != count)
        return false;
    char id[IDENTITY_HEX];
    identity_format(&subscription->id, id);
    identity_format(&connection->channel, sender->channel);
    for (size_t i = 0; i < count; i++) {
        const struct sender_frame *frame = &sender->frames[i];
        struct identity call = identity_make_fast();
        notify_head_readdress(frame->message, id, sender->channel);
        notify_tail_readdress(frame->tail, &call);
    }
    sender->connection = connection;
    sender->frame_count = count;
    sender->vector_count = pattern->vector_count;
    sender->total = pattern->total;
    sender->refused = 0;
    return true;
}

void fanout_sender_run(struct fanout_sender *sender, struct connection *connection,
    const struct subscription *subscription, struct fanout_event *events, uint32_t count)
{
    /* Closed since it was collected: its subscription is gone. */
    if (!connection->is_open) {
        sender->dropped += count;
        return;
    }
    if (!sender_readdress(sender, connection, subscription, events, count)) {
        const struct topic *topic = subscription->topic;
        fanout_sender_begin(sender, connection);
        for (uint32_t i = 0; i < count; i++)
            fanout_sender_add(sender, subscription, &events[i]);
        if (sender->frame_count == count) /* nothing was flushed on the way */
            sender->pattern =
                (struct sender_pattern){topic, events, count, sender->vector_count, sender->total};
    }
    sender_end(sender);
}

void fanout_sender_end_batch(struct fanout_sender *sender)
{
    sender->pattern.topic = NULL;
    const struct worker_counters *counters = &sender->counters;
    worker_count(counters, COUNTER_DELIVERIES, sender->deliveries);
    worker_count(counters, COUNTER_DELIVERY_BYTES, sender->bytes);
    worker_count(counters, COUNTER_SEND_CALLS, sender->calls);
    if (sender->dropped > 0)
        worker_count(counters, COUNTER_DELIVERIES_DROPPED, sender->dropped);
    sender->deliveries = sender->bytes = sender->calls = sender->dropped = 0;
}
