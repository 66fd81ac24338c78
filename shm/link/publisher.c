/*
 * Publishing from a worker. The path of one event:
 *
 *   publisher_publish -> [queue, only while the uplink is full] -> uplink -> the master -> ring -> fanout ->
 *   publisher_complete
 *
 * The uplink keeps the order and so do the master and the ring, so completions come back in the order of the
 * tickets. What waits is therefore kept in a deque of which the ticket is the index: no table to search. A
 * refusal comes back on the ring at its place in the order as well. An answer may be missing only when the
 * master lost the record, which it never does while this worker lives; a ticket that comes back out of turn
 * ends those before it as refused, so that nobody waits for ever.
 *
 * A publish that wants the backbone's acknowledgement leaves the deque at its place in the order and goes to
 * a list, from which the acknowledgement takes it: these come mostly in order too, but need not. The
 * requester's own deadline (publisher_cancel) bounds the wait.
 */
#include "shm/link/publisher.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "shm/ring_event.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"
#include "shm/link/notify.h"

/* Of a message to the backbone besides its data and its topic: {"notifier_id": "<32>", "topics": [""],
 * "data": } */
#define PUBLISHER_MESSAGE_BYTES 80

struct publisher_waiter {
    /* NULL once cancelled */
    publish_done *done;
    void *context;
    bool wants_acknowledgement;
};

/* Ordered, the acknowledgement is to come. */
struct publisher_ordered {
    TAILQ_ENTRY(publisher_ordered) link;
    uint64_t ticket;
    struct publisher_waiter waiter;
};

struct publisher_queued {
    struct publisher_queued *next;
    uint32_t length;
    char body[] __attribute__((aligned(8)));
};

struct publisher {
    struct segment *segment;
    struct uplink *uplink;
    unsigned slot;
    uint32_t incarnation;

    /* ring buffer; index = ticket modulo capacity */
    struct publisher_waiter *waiters;
    /* a power of two */
    uint64_t capacity;
    /* the oldest one not yet completed */
    uint64_t first_ticket;
    uint64_t next_ticket;

    /* by ticket */
    TAILQ_HEAD(publisher_ordered_list, publisher_ordered) ordered;

    struct publisher_queued *first;
    struct publisher_queued *last;
    size_t queued_bytes;
    size_t queue_max_bytes;

    struct log_limiter too_large;
    struct log_limiter too_wide;
    struct log_limiter busy;
    struct log_limiter refused;
};

struct publisher *publisher_open(struct segment *segment, unsigned slot, size_t queue_max_bytes)
{
    struct publisher *publisher = memory_allocate(sizeof(*publisher));
    publisher->segment = segment;
    publisher->slot = slot;
    publisher->incarnation = worker_table_incarnation(segment, slot);
    publisher->queue_max_bytes = queue_max_bytes;
    publisher->uplink = uplink_open(segment, slot);
    publisher->capacity = 64;
    publisher->waiters = memory_allocate((size_t)publisher->capacity * sizeof(struct publisher_waiter));
    TAILQ_INIT(&publisher->ordered);
    publisher->first_ticket = publisher->next_ticket = 1; /* 0 says that nobody waits (shm/ring_event.h) */
    return publisher;
}

void publisher_close(struct publisher *publisher)
{
    while (publisher->first) {
        struct publisher_queued *next = publisher->first->next;
        free(publisher->first);
        publisher->first = next;
    }
    struct publisher_ordered *ordered;
    while ((ordered = TAILQ_FIRST(&publisher->ordered))) {
        TAILQ_REMOVE(&publisher->ordered, ordered, link);
        free(ordered);
    }
    uplink_close(publisher->uplink);
    free(publisher->waiters);
    free(publisher);
}

static struct publisher_waiter *publisher_waiter(const struct publisher *publisher, uint64_t ticket)
{
    return &publisher->waiters[ticket & (publisher->capacity - 1)];
}

static uint64_t publisher_take_ticket(struct publisher *publisher, struct publisher_waiter waiter)
{
    if (publisher->next_ticket - publisher->first_ticket == publisher->capacity) {
        uint64_t capacity = publisher->capacity * 2;
        struct publisher_waiter *waiters = memory_allocate((size_t)capacity * sizeof(*waiters));
        for (uint64_t ticket = publisher->first_ticket; ticket != publisher->next_ticket; ticket++)
            waiters[ticket & (capacity - 1)] = *publisher_waiter(publisher, ticket);
        free(publisher->waiters);
        publisher->waiters = waiters;
        publisher->capacity = capacity;
    }
    uint64_t ticket = publisher->next_ticket++;
    *publisher_waiter(publisher, ticket) = waiter;
    return ticket;
}

static bool publisher_fits(
    const struct publisher *publisher, const struct publish_request *request, uint32_t size)
{
    if (size > uplink_body_max(publisher->uplink)) /* also UINT32_MAX, "can't be encoded" */
        return false;
    uint64_t frame = request->data.length + notify_envelope_max(request->topics, request->topic_count);
    return frame <= event_limit_read(publisher->segment);
}

/* The backbone gets a message for each topic, the data in each: a small event can become very much. One topic
 * is bounded by the event limit. */
static bool publisher_is_too_wide(const struct publisher *publisher, const struct publish_request *request)
{
    uint64_t limit = messages_limit_read(publisher->segment);
    uint64_t bytes = 0;
    if (!limit || request->topic_count < 2)
        return false;
    for (uint32_t i = 0; i < request->topic_count && bytes <= limit; i++)
        bytes += request->data.length + request->topics[i].length + PUBLISHER_MESSAGE_BYTES;
    if (bytes <= limit)
        return false;
    counter_add(publisher->segment, publisher->slot, COUNTER_EVENTS_REFUSED_SIZE, 1);
    return true;
}

/* PUBLISH_ORDERED: no limit stands against it. */
static enum publish_outcome publisher_check_limits(
    struct publisher *publisher, const struct publish_request *request, uint32_t size)
{
    if (!publisher_fits(publisher, request, size)) {
        counter_add(publisher->segment, publisher->slot, COUNTER_EVENTS_REFUSED_SIZE, 1);
        log_write_limited(&publisher->too_large, LOG_WARNING, LOGGER_PUBLISHER,
            "Event refused: %zu bytes of data in its frame exceed the limit of %llu bytes",
            request->data.length, (unsigned long long)event_limit_read(publisher->segment));
        return PUBLISH_TOO_LARGE;
    }
    if (publisher_is_too_wide(publisher, request)) {
        log_write_limited(&publisher->too_wide, LOG_WARNING, LOGGER_PUBLISHER,
            "Event refused: %zu bytes of data for each of %u topics are more than the %llu bytes that one "
            "event may become on "
            "the backbone (OPAL_EVENT_BACKBONE_MAX_BYTES)",
            request->data.length, request->topic_count,
            (unsigned long long)messages_limit_read(publisher->segment));
        return PUBLISH_TOO_WIDE;
    }
    return PUBLISH_ORDERED;
}

/* Where the event's bytes go: into the uplink, or, while that is full, into `*queued`. NULL: the queue is
 * full, too. */
static void *publisher_reserve(struct publisher *publisher, uint32_t size, struct publisher_queued **queued)
{
    *queued = NULL;
    publisher_flush(publisher); /* what waits goes first */
    void *body = publisher->first ? NULL : uplink_reserve(publisher->uplink, RING_EVENT, size);
    if (body)
        return body;
    if (publisher->queued_bytes + size > publisher->queue_max_bytes) {
        counter_add(publisher->segment, publisher->slot, COUNTER_EVENTS_REFUSED_BUSY, 1);
        log_write_limited(&publisher->busy, LOG_WARNING, LOGGER_PUBLISHER,
            "Event refused: %zu bytes already wait for room on the way to the ring", publisher->queued_bytes);
        return NULL;
    }
    *queued = memory_allocate(sizeof(**queued) + size);
    (*queued)->length = size;
    return (*queued)->body;
}

/* Writes the event to `body`; returns the ticket of who waits for it, 0 when nobody does. */
static uint64_t publisher_encode(
    struct publisher *publisher, const struct publish_request *request, void *body)
{
    struct publisher_waiter waiter = {request->done, request->context,
        request->wants_acknowledgement && backbone_state_read(publisher->segment) != BACKBONE_NONE};
    uint64_t number = request->done ? publisher_take_ticket(publisher, waiter) : 0;
    struct ring_event event = {
        .entered_ns = clock_monotonic_ns(),
        .ticket = number,
        .origin = publisher->slot,
        .incarnation = publisher->incarnation,
        .flags = (number && waiter.wants_acknowledgement ? RING_EVENT_WANTS_ACKNOWLEDGEMENT : 0u) |
                 (request->policy_knows ? RING_EVENT_POLICY_KNOWS : 0u) |
                 (request->server_side ? RING_EVENT_SERVER_SIDE : 0u),
        .topic_count = request->topic_count,
        .data = request->data,
    };
    if (request->notifier) {
        event.flags |= RING_EVENT_HAS_NOTIFIER;
        event.notifier = *request->notifier;
    }
    ring_event_encode(body, &event, request->topics);
    return number;
}

static void publisher_enqueue(struct publisher *publisher, struct publisher_queued *queued)
{
    if (publisher->last)
        publisher->last->next = queued;
    else
        publisher->first = queued;
    publisher->last = queued;
    publisher->queued_bytes += queued->length;
}

enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket)
{
    uint32_t size = ring_event_encoded_size(request->topics, request->topic_count, request->data);
    enum publish_outcome refusal = publisher_check_limits(publisher, request, size);
    if (refusal != PUBLISH_ORDERED)
        return refusal;
    struct publisher_queued *queued;
    void *body = publisher_reserve(publisher, size, &queued);
    if (!body)
        return PUBLISH_BUSY;
    uint64_t number = publisher_encode(publisher, request, body);
    if (queued)
        publisher_enqueue(publisher, queued);
    else
        uplink_commit(publisher->uplink);
    counter_add(publisher->segment, publisher->slot, COUNTER_EVENTS_PUBLISHED, 1);
    counter_add(publisher->segment, publisher->slot, COUNTER_EVENT_BYTES_PUBLISHED, request->data.length);
    if (ticket)
        *ticket = number;
    return PUBLISH_ORDERED;
}

/* Out of the list; the caller frees. NULL when it is not there. */
static struct publisher_ordered *publisher_take_ordered(struct publisher *publisher, uint64_t ticket)
{
    struct publisher_ordered *ordered = TAILQ_FIRST(&publisher->ordered);
    for (; ordered; ordered = TAILQ_NEXT(ordered, link)) {
        if (ordered->ticket > ticket)
            break;
        if (ordered->ticket == ticket) {
            TAILQ_REMOVE(&publisher->ordered, ordered, link);
            return ordered;
        }
    }
    return NULL;
}

void publisher_cancel(struct publisher *publisher, uint64_t ticket)
{
    if (ticket >= publisher->first_ticket && ticket < publisher->next_ticket)
        publisher_waiter(publisher, ticket)->done = NULL;
    else
        free(publisher_take_ordered(publisher, ticket));
}

static void publisher_finish_first(struct publisher *publisher, enum publish_outcome outcome)
{
    uint64_t ticket = publisher->first_ticket++;
    struct publisher_waiter waiter = *publisher_waiter(publisher, ticket);
    if (waiter.done && waiter.wants_acknowledgement && outcome == PUBLISH_ORDERED) {
        struct publisher_ordered *ordered = memory_allocate(sizeof(*ordered));
        ordered->ticket = ticket;
        ordered->waiter = waiter;
        TAILQ_INSERT_TAIL(&publisher->ordered, ordered, link);
        return;
    }
    if (waiter.done)
        waiter.done(waiter.context, outcome); /* may publish again */
}

static void publisher_finish_ordered(
    struct publisher *publisher, uint64_t ticket, enum publish_outcome outcome)
{
    struct publisher_ordered *ordered = publisher_take_ordered(publisher, ticket);
    if (!ordered)
        return; /* cancelled */
    struct publisher_waiter waiter = ordered->waiter;
    free(ordered);
    waiter.done(waiter.context, outcome);
}

void publisher_complete(struct publisher *publisher, uint64_t ticket, enum publish_outcome outcome)
{
    if (outcome == PUBLISH_TOO_LARGE || outcome == PUBLISH_REFUSED)
        log_write_limited(&publisher->refused, LOG_WARNING, LOGGER_PUBLISHER,
            "Event refused by the master: above what the ring or the backbone carries");
    if (outcome == PUBLISH_ACKNOWLEDGED || outcome == PUBLISH_UNACKNOWLEDGED) {
        publisher_finish_ordered(publisher, ticket, outcome);
        return;
    }
    if (ticket < publisher->first_ticket || ticket >= publisher->next_ticket)
        return;
    while (publisher->first_ticket < ticket)
        publisher_finish_first(publisher, PUBLISH_REFUSED);
    publisher_finish_first(publisher, outcome);
}

void publisher_flush(struct publisher *publisher)
{
    while (publisher->first) {
        struct publisher_queued *queued = publisher->first;
        void *body = uplink_reserve(publisher->uplink, RING_EVENT, queued->length);
        if (!body)
            return;
        memcpy(body, queued->body, queued->length);
        uplink_commit(publisher->uplink);
        publisher->first = queued->next;
        if (!publisher->first)
            publisher->last = NULL;
        publisher->queued_bytes -= queued->length;
        free(queued);
    }
}

bool publisher_ask_master(struct publisher *publisher, uint32_t number, bool brief)
{
    struct uplink_question question = {number, brief};
    publisher_flush(publisher); /* an announcement that waits goes before the question */
    void *body =
        publisher->first ? NULL : uplink_reserve(publisher->uplink, UPLINK_ASK_STATISTICS, sizeof question);
    if (!body)
        return false;
    memcpy(body, &question, sizeof question);
    uplink_commit(publisher->uplink);
    return true;
}

bool publisher_is_blocked(const struct publisher *publisher)
{
    return publisher->first != NULL;
}
