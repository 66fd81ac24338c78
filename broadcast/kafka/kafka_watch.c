#include "broadcast/kafka/kafka_watch.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void kafka_watch_on_event(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_watch *watch = object_cast(struct kafka_watch, KAFKA_WATCH_MAGIC, context);
    uint64_t count;
    /* Emptied before the queue is looked at. EAGAIN after kafka_watch_again is as good. */
    if (what & EV_READ && read(descriptor, &count, sizeof count) < 0)
        count = 0;
    watch->ready(watch->context);
}

int kafka_watch_open(struct kafka_watch *watch, struct event_base *base, rd_kafka_queue_t *queue,
    void (*ready)(void *context), void *context, struct error *err)
{
    static const uint64_t one = 1;
    watch->magic = KAFKA_WATCH_MAGIC;
    watch->queue = queue;
    watch->ready = ready;
    watch->context = context;
    watch->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (watch->descriptor < 0) {
        error_set_errno(err, errno, "Kafka: no eventfd");
        rd_kafka_queue_destroy(queue);
        watch->queue = NULL;
        return -1;
    }
    watch->event = event_new(base, watch->descriptor, EV_READ | EV_PERSIST, kafka_watch_on_event, watch);
    if (!watch->event || event_add(watch->event, NULL) < 0) {
        kafka_watch_close(watch);
        return error_set(err, ENOMEM, "Kafka: the event loop takes no more events");
    }
    rd_kafka_queue_io_event_enable(queue, watch->descriptor, &one, sizeof one);
    kafka_watch_again(watch); /* what came before */
    return 0;
}

void kafka_watch_again(struct kafka_watch *watch)
{
    event_active(watch->event, EV_TIMEOUT, 0);
}

void kafka_watch_close(struct kafka_watch *watch)
{
    if (!watch->queue)
        return;
    rd_kafka_queue_io_event_enable(watch->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(watch->queue);
    watch->queue = NULL;
    if (watch->event)
        event_free(watch->event);
    watch->event = NULL;
    close(watch->descriptor);
    watch->descriptor = -1;
    watch->magic = 0;
}
