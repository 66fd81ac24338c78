/* Kafka's settings: the broker list out of the backbone's URI, security out of the environment. No connection
 * is made here. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_CONFIG_H
#define OPALD_BROADCAST_KAFKA_KAFKA_CONFIG_H

#include <stdbool.h>
#include <librdkafka/rdkafka.h>
#include "broadcast/backend/backend.h"
#include "shm/common/error.h"
#include "shm/common/text.h"
#include "shm/common/object.h"

/* True for kafka+mock://, the cluster inside the process. */
bool kafka_config_is_mock(const char *uri);
/* Appends "h1:9092,h2:9092" to `brokers`. The authority alone counts, as in the reference: path and query are
 * ignored. -1 when there is user information, no broker, or a port that is none. */
int kafka_config_parse_uri(const char *uri, struct text *brokers, struct error *err) MUST_CHECK;
/* The KAFKA_* variables of the environment: -1 when they can't work together. `conf` may be NULL: only the
 * check. */
int kafka_config_apply_security(rd_kafka_conf_t *conf, struct error *err) MUST_CHECK;
/* As rd_kafka_conf_set. A refusal is a fault of the program or of a setting; the text names the property,
 * never its value. */
int kafka_config_set(
    rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err) MUST_CHECK;
int kafka_config_set_number(
    rd_kafka_conf_t *conf, const char *name, long long value, struct error *err) MUST_CHECK;
/* `brokers` NULL: none. What producer and consumer share: brokers, security, latency, reconnects, logging
 * through the queue. */
int kafka_config_apply_common(
    rd_kafka_conf_t *conf, const char *brokers, bool secure, struct error *err) MUST_CHECK;

#endif
