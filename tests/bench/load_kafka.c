/* The Kafka producer of the load generator: no linger, acknowledgements reported through the loop by an
 * eventfd. */
#include "tests/bench/load_publish.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "tests/bench/load_loop.h"

struct load_kafka {
    struct source source;
    int wake;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    load_kafka_answered *answered;
    void *context;
};

static void kafka_ready(struct source *source, uint32_t events)
{
    struct load_kafka *kafka = (struct load_kafka *)source;
    uint64_t count;
    (void)events;
    if (read(kafka->wake, &count, sizeof count) < 0) {
        return;
    }
    rd_kafka_poll(kafka->producer, 0);
}

static void kafka_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *context)
{
    struct load_kafka *kafka = context;
    (void)producer;
    kafka->answered(
        kafka->context, (uint64_t)(uintptr_t)message->_private, message->err == RD_KAFKA_RESP_ERR_NO_ERROR);
}

struct load_kafka *load_kafka_open(
    int loop, const char *brokers, const char *topic, load_kafka_answered *answered, void *context)
{
    static const char *settings[][2] = {{"linger.ms", "0"}, {"acks", "1"}, {"socket.nagle.disable", "true"},
        {"queue.buffering.max.messages", "4000000"}, {"queue.buffering.max.kbytes", "4000000"}};
    char error[256];
    struct load_kafka *kafka = calloc(1, sizeof *kafka);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (kafka == NULL) {
        load_fail("calloc");
    }
    kafka->source.ready = kafka_ready;
    kafka->answered = answered;
    kafka->context = context;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error, sizeof error) !=
            RD_KAFKA_CONF_OK) {
            fprintf(stderr, "load: %s\n", error);
            exit(1);
        }
    }
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof error);
    rd_kafka_conf_set_dr_msg_cb(conf, kafka_delivered);
    rd_kafka_conf_set_opaque(conf, kafka);
    kafka->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (kafka->producer == NULL) {
        fprintf(stderr, "load: %s\n", error);
        exit(1);
    }
    kafka->topic = rd_kafka_topic_new(kafka->producer, topic, NULL);
    kafka->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (kafka->wake < 0) {
        load_fail("eventfd");
    }
    const uint64_t one = 1;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(kafka->producer);
    rd_kafka_queue_io_event_enable(queue, kafka->wake, &one, sizeof one);
    rd_kafka_queue_destroy(queue);
    loop_set(loop, EPOLL_CTL_ADD, kafka->wake, &kafka->source, EPOLLIN);
    return kafka;
}

void load_kafka_produce(struct load_kafka *kafka, const void *bytes, size_t length, uint64_t sent)
{
    if (rd_kafka_produce(kafka->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)bytes,
            length, NULL, 0, (void *)(uintptr_t)sent) != 0) {
        fprintf(stderr, "load: produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
        kafka->answered(kafka->context, sent, 0);
    }
}
