#include "broadcast/kafka/kafka_mock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "shm/common/memory.h"
#include "shm/common/signals.h"

struct kafka_mock {
    /* librdkafka wants a handle for the cluster; it connects to nothing */
    rd_kafka_t *owner;
    rd_kafka_mock_cluster_t *cluster;
};

struct kafka_mock *kafka_mock_open(const char *topic, struct error *err)
{
    char reason[256] = "";
    sigset_t before;
    struct kafka_mock *mock = memory_allocate(sizeof *mock);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    mock->owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    if (!mock->owner) {
        rd_kafka_conf_destroy(conf);
        error_set(err, -1, "Kafka mock cluster: %s", reason);
        kafka_mock_close(mock);
        return NULL;
    }
    /* Unlike librdkafka's other threads, the mock's does not block signals by itself; ours must come to the
     * loop. */
    signals_hold(&before);
    mock->cluster = rd_kafka_mock_cluster_new(mock->owner, 1);
    signals_release(&before);
    if (!mock->cluster) {
        error_set(err, -1, "Kafka mock cluster: can't be started");
        kafka_mock_close(mock);
        return NULL;
    }
    rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(mock->cluster, topic, 1, 1);
    if (code) {
        error_set(err, -1, "Kafka mock cluster: topic '%s': %s", topic, rd_kafka_err2str(code));
        kafka_mock_close(mock);
        return NULL;
    }
    return mock;
}

const char *kafka_mock_brokers(const struct kafka_mock *mock)
{
    return rd_kafka_mock_cluster_bootstraps(mock->cluster);
}

void kafka_mock_close(struct kafka_mock *mock)
{
    if (mock->cluster)
        rd_kafka_mock_cluster_destroy(mock->cluster);
    if (mock->owner)
        rd_kafka_destroy(mock->owner);
    free(mock);
}
