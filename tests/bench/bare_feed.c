/*
 * The baseline's link to Kafka: a librdkafka consumer with nothing behind it that hands each record's
 * `data` to the workers of bare.c. Prints "ready" when it reads. What a server adds to Kafka's own latency
 * is its figure less this one's.
 *
 *   bare_feed --brokers LIST --kafka-topic NAME --port P [--workers N]
 */
#include "tests/bench/bare.h"

#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKERS_MAX 64

struct feed {
    const char *brokers;
    const char *topic;
    unsigned port;
    unsigned workers;
    int sockets[WORKERS_MAX];
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bare_feed: %s: %s\n", what, why);
    exit(1);
}

static void connect_workers(struct feed *feed)
{
    for (unsigned i = 0; i < feed->workers; i++) {
        struct sockaddr_un address;
        const int room = 1 << 20;
        const socklen_t size = bare_address(&address, feed->port, i);
        feed->sockets[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        setsockopt(feed->sockets[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        if (connect(feed->sockets[i], (struct sockaddr *)&address, size) != 0) {
            fail("connect", "no such bare worker");
        }
    }
}

static void take(struct feed *feed, const char *record, size_t length)
{
    const char *data = memmem(record, length, "\"data\": ", 8);
    if (data == NULL) {
        return;
    }
    data += 8;
    for (unsigned i = 0; i < feed->workers; i++) {
        /* up to the record's closing bracket */
        if (send(feed->sockets[i], data, (size_t)(record + length - data) - 1, MSG_NOSIGNAL) < 0) {
            exit(0);
        }
    }
}

static rd_kafka_t *consumer_open(const struct feed *feed)
{
    static const char *settings[][2] = {{"group.id", "unused"}, {"enable.auto.commit", "false"},
        {"auto.offset.reset", "latest"}, {"socket.nagle.disable", "true"}, {"fetch.error.backoff.ms", "10"}};
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error, sizeof error) !=
            RD_KAFKA_CONF_OK) {
            fail(settings[i][0], error);
        }
    }
    rd_kafka_conf_set(conf, "bootstrap.servers", feed->brokers, error, sizeof error);
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    if (consumer == NULL) {
        fail("consumer", error);
    }
    rd_kafka_poll_set_consumer(consumer);
    int64_t low;
    int64_t high;
    const rd_kafka_resp_err_t failed =
        rd_kafka_query_watermark_offsets(consumer, feed->topic, 0, &low, &high, 10000);
    if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(feed->topic, rd_kafka_err2str(failed));
    }
    rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(partitions, feed->topic, 0)->offset = high;
    rd_kafka_assign(consumer, partitions);
    rd_kafka_topic_partition_list_destroy(partitions);
    return consumer;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"brokers", required_argument, NULL, 'b'},
        {"kafka-topic", required_argument, NULL, 't'}, {"port", required_argument, NULL, 'p'},
        {"workers", required_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    struct feed feed = {.workers = 2};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'b') {
            feed.brokers = optarg;
        } else if (option == 't') {
            feed.topic = optarg;
        } else if (option == 'p') {
            feed.port = (unsigned)strtoul(optarg, NULL, 10);
        } else if (option == 'w') {
            feed.workers = (unsigned)strtoul(optarg, NULL, 10);
        } else {
            return 2;
        }
    }
    if (feed.brokers == NULL || feed.topic == NULL || feed.port == 0 || feed.workers > WORKERS_MAX) {
        return 2;
    }
    connect_workers(&feed);
    rd_kafka_t *consumer = consumer_open(&feed);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 1000);
        if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            take(&feed, message->payload, message->len);
        }
        if (message != NULL) {
            rd_kafka_message_destroy(message);
        }
    }
}
