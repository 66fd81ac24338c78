/*
 * Fan-out. The worker takes a batch of records from the ring (bounded in records, bytes and deliveries), and
 * works in three steps:
 *
 *   1. collect: for each event and each of its topics, every subscription gets an entry in the delivery
 *      arena; events in a row for the same topic make one entry together. The entries of one client are
 *      chained in order, and the client is noted once in the list of touched ones;
 *   2. send: each touched client once, all its frames together (fanout_send.c); data is read where it lies in
 *      the ring;
 *   3. release the ring, tell waiting publishers that their events have their place in the order, and yield
 *      to the loop.
 *
 * So the cost per delivery is one system call or less, no client can hold up another, and the ring is held
 * for no longer than a batch. A client that dies in step 2 loses its own subscriptions only, and the arena
 * refers to nobody else's; hence the pointers in it stay good until the batch is over.
 *
 * Order: a client gets its events in ring order; within an event, in the order of the published topics. Who
 * is served first turns by one with each event of a topic.
 *
 * Breath: a backlog of the backbone comes faster than any client reads. When there is more on the ring and a
 * client that does read, and fast, has a quarter of its limit waiting, the next batch waits until some client
 * has caught up, a few milliseconds at most. The ring keeps the events meanwhile, once for all. A client that
 * reads slowly or not at all gets no such help: it holds up nobody (connection_deserves_breath).
 *
 * Stepping aside: a worker that is woken moments after its last batch lets whoever else wants the processor
 * go first. Where events come one upon the other these are the publishers and the master, and more of them
 * are on the ring when it is this worker's turn: fewer and larger sends. On a processor that nobody else
 * wants, and for events that come one by one, this changes nothing.
 *
 * Sleep: when the ring is empty the reader announces its sleep and looks once more (shm/ring.h); the writer
 * then wakes it by eventfd. While there is more to do the worker goes round its loop by a timer of zero, so
 * that clients' input is looked at between batches.
 */
#include "worker/fanout/fanout.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "shm/common/object.h"
#include "shm/figures.h"
#include "shm/ring.h"
#include "shm/ring_event.h"
#include "worker/client/paced_closing.h"
#include "shm/worker_table.h"
#include "worker/fanout/fanout_send.h"

#define FANOUT_DELIVERIES_MAX 262144 /* of one batch; the event that passes it is the batch's last */
#define FANOUT_BREATH_MS      5      /* at least 200 batches a second in any case */
#define FANOUT_MOMENTS_MS     32 /* since the last batch: eight workers on two cores take turns of 13 ms */
/* Of 32 events in flight a send carries 15 without stepping aside, 19 with one step, 22 with two or four. */
#define FANOUT_STEPS_ASIDE 2
#define FANOUT_BLOCKED_MS  2 /* how often a full uplink is tried again when nothing else wakes the worker */

struct fanout_delivery {
    const struct subscription *subscription;
    /* the first of `count` events in a row */
    uint32_t event;
    uint32_t count;
    /* of the same client */
    uint32_t next;
};

/* Events in a row for the same single topic from the same notifier: their subscribers are walked through
 * once. */
struct fanout_run {
    /* the first; views into the ring */
    struct ring_event event;
    /* NULL: no run is open */
    struct topic *topic;
    uint32_t first;
    uint32_t count;
};

struct fanout_completion {
    uint64_t ticket;
    enum publish_outcome outcome;
};

#define FANOUT_MAGIC 0x66616e6fu

struct fanout {
    uint32_t magic;
    struct fanout_settings settings;
    /* of this worker, in its slot */
    uint32_t incarnation;
    struct ring_reader *reader;
    /* the eventfd */
    struct event *wake;
    /* the next batch, or another try with a full uplink */
    struct event *again;
    struct fanout_sender *sender;

    struct fanout_event *events;
    size_t event_count;
    size_t event_max;
    struct fanout_delivery *deliveries;
    size_t delivery_count;
    size_t delivery_capacity;
    /* events times subscribers */
    size_t delivery_total;
    struct fanout_run run;
    struct connection **touched;
    size_t touched_count;
    size_t touched_capacity;
    /* event_max of them */
    struct fanout_completion *completions;
    size_t completion_count;
    /* before the next batch */
    bool breath;
    bool breathing;
    /* of the last batch */
    uint64_t ended_ns;
    bool resync;
    struct ring_resync resync_order;
    struct log_limiter bad_record;
};

static void fanout_on_wake(evutil_socket_t fd, short what, void *argument);
static void fanout_on_again(evutil_socket_t fd, short what, void *argument);

struct fanout *fanout_open(const struct fanout_settings *settings)
{
    const struct config *config = settings->config;
    struct segment *segment = settings->counters.segment;
    unsigned slot = settings->counters.slot;
    struct fanout *fanout = memory_allocate(sizeof(*fanout));
    fanout->magic = FANOUT_MAGIC;
    fanout->settings = *settings;
    fanout->incarnation = worker_table_incarnation(segment, slot);
    fanout->reader = ring_reader_open(segment, slot);
    fanout->event_max = config->drain_batch_records > 0 ? config->drain_batch_records : 1;
    fanout->events = memory_allocate(fanout->event_max * sizeof(*fanout->events));
    fanout->completions = memory_allocate(fanout->event_max * sizeof(*fanout->completions));
    fanout->sender =
        fanout_sender_open(&settings->counters, settings->ledger, config->limits.topic_max_bytes * 6 + 2);
    fanout->wake =
        event_new(settings->base, segment_own_eventfd(segment), EV_READ | EV_PERSIST, fanout_on_wake, fanout);
    fanout->again = event_new(settings->base, -1, 0, fanout_on_again, fanout);
    if (!fanout->wake || !fanout->again)
        abort(); /* only out of memory */
    event_add(fanout->wake, NULL);
    event_add(fanout->again, &(struct timeval){0}); /* the first look, which goes to sleep properly */
    return fanout;
}

void fanout_close(struct fanout *fanout)
{
    if (!fanout)
        return;
    event_free(fanout->wake);
    event_free(fanout->again);
    ring_reader_close(fanout->reader);
    fanout_sender_close(fanout->sender);
    free(fanout->events);
    free(fanout->completions);
    free(fanout->deliveries);
    free(fanout->touched);
    fanout->magic = 0;
    free(fanout);
}

/* ---- step 1 ---- */

static void fanout_touch(struct fanout *fanout, struct connection *connection)
{
    if (fanout->touched_count == fanout->touched_capacity) {
        fanout->touched_capacity = fanout->touched_capacity ? fanout->touched_capacity * 2 : 256;
        fanout->touched =
            memory_resize(fanout->touched, fanout->touched_capacity * sizeof(struct connection *));
    }
    fanout->touched[fanout->touched_count++] = connection;
}

static void fanout_deliver(
    struct fanout *fanout, const struct subscription *subscription, uint32_t event, uint32_t count)
{
    struct connection *connection = subscription->owner;
    if (fanout->delivery_count == fanout->delivery_capacity) {
        fanout->delivery_capacity = fanout->delivery_capacity ? fanout->delivery_capacity * 2 : 1024;
        fanout->deliveries =
            memory_resize(fanout->deliveries, fanout->delivery_capacity * sizeof(*fanout->deliveries));
    }
    uint32_t index = (uint32_t)fanout->delivery_count++;
    fanout->deliveries[index] = (struct fanout_delivery){subscription, event, count, CONNECTION_NO_DELIVERY};
    if (connection->delivery_first == CONNECTION_NO_DELIVERY) {
        connection->delivery_first = index;
        fanout_touch(fanout, connection);
    } else {
        fanout->deliveries[connection->delivery_last].next = index;
    }
    connection->delivery_last = index;
}

static void fanout_collect_topic(struct fanout *fanout, struct topic *topic, const struct ring_event *event,
    uint32_t event_index, uint32_t event_count)
{
    uint32_t count;
    const struct subscription *subscription = topic_subscriptions(topic, &count);
    bool has_notifier = event->flags & RING_EVENT_HAS_NOTIFIER;
    for (uint32_t i = 0; i < count; i++, subscription = subscription->next) {
        const struct connection *connection = subscription->owner;
        __builtin_prefetch(subscription->next->owner);
        if (has_notifier && identity_equals(&connection->channel, &event->notifier))
            continue;
        fanout_deliver(fanout, subscription, event_index, event_count);
    }
    /* Once a run, not once an event: runs as long as a multiple of the subscribers would have the same one
     * last for ever. */
    topic_turn(topic);
}

static void fanout_end_run(struct fanout *fanout)
{
    const struct fanout_run *run = &fanout->run;
    if (run->topic)
        fanout_collect_topic(fanout, run->topic, &run->event, run->first, run->count);
    fanout->run.topic = NULL;
}

static bool fanout_continues_run(const struct fanout *fanout, const struct ring_event *event)
{
    const struct ring_event *first = &fanout->run.event;
    bool same_flag = ((event->flags ^ first->flags) & RING_EVENT_HAS_NOTIFIER) == 0;
    return fanout->run.topic && event->topic_count == 1 && slice_equals(first->topics, event->topics) &&
           same_flag &&
           (!(event->flags & RING_EVENT_HAS_NOTIFIER) || identity_equals(&first->notifier, &event->notifier));
}

static void fanout_complete_later(struct fanout *fanout, uint32_t origin, uint32_t incarnation,
    uint64_t ticket, enum publish_outcome outcome)
{
    if (origin == fanout->settings.counters.slot && incarnation == fanout->incarnation && ticket != 0)
        fanout->completions[fanout->completion_count++] = (struct fanout_completion){ticket, outcome};
}

/* An event that does not continue the run: it begins another, or stands for itself when it has several
 * topics. */
static void fanout_collect_other(struct fanout *fanout, const struct ring_event *event, uint32_t index)
{
    uint32_t offset = 0;
    struct slice name;
    fanout_end_run(fanout);
    while (ring_event_topic_next(event, &offset, &name)) {
        struct topic *topic = subscriptions_find(fanout->settings.subscriptions, name);
        if (!topic)
            continue;
        if (event->topic_count == 1) {
            fanout->run = (struct fanout_run){*event, topic, index, 1};
            return;
        }
        size_t before = fanout->delivery_count;
        fanout_collect_topic(fanout, topic, event, index, 1);
        fanout->delivery_total += fanout->delivery_count - before;
    }
}

static void fanout_collect_event(struct fanout *fanout, const struct ring_event *event)
{
    uint32_t index = (uint32_t)fanout->event_count++;
    fanout->events[index] = (struct fanout_event){.data = event->data, .entered_ns = event->entered_ns};
    if (fanout_continues_run(fanout, event))
        fanout->run.count++;
    else
        fanout_collect_other(fanout, event, index);
    if (fanout->run.topic) {
        uint32_t count;
        topic_subscriptions(fanout->run.topic, &count);
        fanout->delivery_total += count;
    }
    fanout_complete_later(fanout, event->origin, event->incarnation, event->ticket, PUBLISH_ORDERED);
}

/* Copies the body of a record that is a plain struct; false when it is too short for one. */
static bool record_take(const struct ring_record *record, void *body, size_t size)
{
    if (record->length < size)
        return false;
    memcpy(body, record->body, size);
    return true;
}

static bool fanout_collect_refusal(struct fanout *fanout, const struct ring_record *record)
{
    struct ring_refusal refusal;
    if (!record_take(record, &refusal, sizeof refusal))
        return false;
    fanout_complete_later(fanout, refusal.origin, refusal.incarnation, refusal.ticket,
        refusal.reason == RING_REFUSED_FROZEN ? PUBLISH_FROZEN : PUBLISH_REFUSED);
    return true;
}

static bool fanout_collect_acknowledgement(struct fanout *fanout, const struct ring_record *record)
{
    struct ring_acknowledgement acknowledgement;
    if (!record_take(record, &acknowledgement, sizeof acknowledgement))
        return false;
    fanout_complete_later(fanout, acknowledgement.origin, acknowledgement.incarnation, acknowledgement.ticket,
        acknowledgement.ok ? PUBLISH_ACKNOWLEDGED : PUBLISH_UNACKNOWLEDGED);
    return true;
}

/* False for a record that makes no sense. */
static bool fanout_collect_record(struct fanout *fanout, const struct ring_record *record)
{
    struct ring_event event;
    switch (record->type) {
    case RING_EVENT:
        if (!ring_event_decode(record->body, record->length, &event))
            return false;
        fanout_collect_event(fanout, &event);
        return true;
    case RING_REFUSED:
        return fanout_collect_refusal(fanout, record);
    case RING_ACKNOWLEDGED:
        return fanout_collect_acknowledgement(fanout, record);
    case RING_RESYNC:
        fanout->resync = record_take(record, &fanout->resync_order, sizeof fanout->resync_order);
        return fanout->resync;
    default:
        return false;
    }
}

/* Returns false when the batch must end with this record. */
static bool fanout_collect(struct fanout *fanout, const struct ring_record *record)
{
    if (!fanout_collect_record(fanout, record))
        log_write_limited(&fanout->bad_record, LOG_ERROR, LOGGER_WORKER,
            "Ring record skipped: type %u, %u bytes", record->type, record->length);
    return !fanout->resync;
}

/* Returns true when there may be more to read. */
static bool fanout_read_records(struct fanout *fanout)
{
    struct ring_record record;
    uint64_t bytes = 0;
    uint64_t bytes_max = fanout->settings.config->drain_batch_bytes;
    fanout->event_count = fanout->delivery_count = fanout->delivery_total = 0;
    fanout->touched_count = fanout->completion_count = 0;
    fanout->resync = false;
    for (size_t records = 0; records < fanout->event_max; records++) {
        if (!ring_reader_next(fanout->reader, &record))
            return false;
        bytes += record.length;
        if (!fanout_collect(fanout, &record))
            return true;
        if (bytes >= bytes_max || fanout->delivery_total >= FANOUT_DELIVERIES_MAX)
            return true;
    }
    return true;
}

static bool fanout_read(struct fanout *fanout)
{
    bool more = fanout_read_records(fanout);
    fanout_end_run(fanout);
    return more;
}

/* ---- step 2 ---- */

/* Connections and subscriptions of thousands of clients are in no cache: what is needed soon is asked for
 * now. */
static void fanout_prefetch(const struct fanout *fanout, size_t next)
{
    if (next + 4 < fanout->touched_count)
        __builtin_prefetch(fanout->touched[next + 4]);
    if (next + 2 < fanout->touched_count)
        __builtin_prefetch(fanout->deliveries[fanout->touched[next + 2]->delivery_first].subscription);
}

/* Several subscriptions of one client: all of them get an event before any gets the next. */
static void fanout_send_chain(struct fanout *fanout, struct connection *connection, uint32_t index)
{
    const struct fanout_delivery *deliveries = fanout->deliveries;
    fanout_sender_begin(fanout->sender, connection);
    while (index != CONNECTION_NO_DELIVERY) {
        uint32_t event = deliveries[index].event, count = deliveries[index].count, at = index;
        for (uint32_t i = 0; i < count; i++)
            for (at = index; at != CONNECTION_NO_DELIVERY && deliveries[at].event == event;
                 at = deliveries[at].next)
                fanout_sender_add(fanout->sender, deliveries[at].subscription, &fanout->events[event + i]);
        index = at;
    }
    fanout_sender_end(fanout->sender);
}

static void fanout_send(struct fanout *fanout)
{
    fanout->breath = false;
    uint64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < fanout->touched_count; i++) {
        struct connection *connection = fanout->touched[i];
        uint32_t index = connection->delivery_first;
        connection->delivery_first = connection->delivery_last = CONNECTION_NO_DELIVERY;
        const struct fanout_delivery *delivery = &fanout->deliveries[index];
        fanout_prefetch(fanout, i);
        if (delivery->next == CONNECTION_NO_DELIVERY)
            fanout_sender_run(fanout->sender, connection, delivery->subscription,
                &fanout->events[delivery->event], delivery->count);
        else
            fanout_send_chain(fanout, connection, index);
        if (connection->backlog && connection_deserves_breath(connection, now))
            fanout->breath = true;
        memory_ledger_check(fanout->settings.ledger);
    }
    fanout_sender_end_batch(fanout->sender);
}

/* ---- step 3 ---- */

static void fanout_resync(struct fanout *fanout)
{
    const struct segment *segment = fanout->settings.counters.segment;
    unsigned live = 0;
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++)
        live += worker_table_state(segment, slot) == WORKER_READY;
    double per_second = (double)fanout->resync_order.closes_per_second / (live > 0 ? live : 1);
    log_write(LOG_WARNING, LOGGER_WORKER,
        "Broadcaster recovered after a gap of %.1f s; resyncing this worker's clients",
        (double)fanout->resync_order.gap_ns / (double)CLOCK_SECOND);
    if (!connections_are_draining(fanout->settings.connections))
        paced_closing_start(fanout->settings.paced_closing, per_second, true, "Resync");
}

/* One look at the clock for the whole batch: the sends of its events were one piece of work. */
static void fanout_observe(struct fanout *fanout)
{
    const struct worker_counters *counters = &fanout->settings.counters;
    if (fanout->event_count == 0)
        return;
    uint64_t now = fanout->ended_ns = clock_monotonic_ns();
    for (size_t i = 0; i < fanout->event_count; i++)
        figures_observe_fanout(counters->segment, counters->slot,
            now > fanout->events[i].entered_ns ? now - fanout->events[i].entered_ns : 0);
}

static void fanout_finish_batch(struct fanout *fanout)
{
    fanout_observe(fanout);
    for (size_t i = 0; i < fanout->event_count; i++)
        output_block_drop(fanout->events[i].block);
    ring_reader_release(fanout->reader);
    for (size_t i = 0; i < fanout->completion_count; i++)
        publisher_complete(
            fanout->settings.publisher, fanout->completions[i].ticket, fanout->completions[i].outcome);
    if (fanout->resync)
        fanout_resync(fanout);
}

static void fanout_run(struct fanout *fanout)
{
    struct publisher *publisher = fanout->settings.publisher;
    fanout->breathing = false;
    bool more = fanout_read(fanout);
    fanout_send(fanout);
    fanout_finish_batch(fanout);
    if (publisher_is_blocked(publisher))
        publisher_flush(publisher);
    if (!more && ring_reader_sleep(fanout->reader)) {
        if (publisher_is_blocked(publisher))
            event_add(fanout->again, &(struct timeval){.tv_usec = FANOUT_BLOCKED_MS * 1000});
        return;
    }
    fanout->breathing = fanout->breath;
    event_add(fanout->again, &(struct timeval){.tv_usec = fanout->breathing ? FANOUT_BREATH_MS * 1000 : 0});
}

void fanout_client_caught_up(struct fanout *fanout)
{
    if (!fanout->breathing)
        return;
    fanout->breathing = false;
    event_add(fanout->again, &(struct timeval){0});
}

static void fanout_on_wake(evutil_socket_t fd, short what, void *argument)
{
    struct fanout *fanout = object_cast(struct fanout, FANOUT_MAGIC, argument);
    (void)fd;
    (void)what;
    ring_reader_awake(fanout->reader);
    if (clock_monotonic_ns() - fanout->ended_ns < FANOUT_MOMENTS_MS * CLOCK_MILLISECOND)
        for (int i = 0; i < FANOUT_STEPS_ASIDE; i++)
            sched_yield();
    fanout_run(fanout);
}

static void fanout_on_again(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    fanout_run(object_cast(struct fanout, FANOUT_MAGIC, argument));
}
