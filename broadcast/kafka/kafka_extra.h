/*
 * The operator's own settings of librdkafka, applied after ours. Text: one "key=value" a line, as the option
 * tables make it.
 *
 * A setting that only the producer or only the consumer knows goes to that one (librdkafka tells which). A
 * setting that would break what this server guarantees is refused with the reason, so that nobody loses
 * events by a line in a file. Values are never shown where they may be secret.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_EXTRA_H
#define OPALD_BROADCAST_KAFKA_KAFKA_EXTRA_H

#include <librdkafka/rdkafka.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

/* As in librdkafka's own table of properties. */
enum kafka_extra_role { KAFKA_EXTRA_PRODUCER = 'P', KAFKA_EXTRA_CONSUMER = 'C' };

/* `settings` may be NULL. -1 with the key and librdkafka's message, or our reason. */
int kafka_extra_apply(
    rd_kafka_conf_t *conf, enum kafka_extra_role role, const char *settings, struct error *err) MUST_CHECK;

#endif
