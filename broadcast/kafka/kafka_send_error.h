/* What an error means for a message that was to be sent. Pure. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_SEND_ERROR_H
#define OPALD_BROADCAST_KAFKA_KAFKA_SEND_ERROR_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

/* The same message may well be taken later: the fault is the topic's or the connection's, not the message's.
 * */
bool kafka_send_error_is_passing(rd_kafka_resp_err_t code);
/* This user may not write. */
bool kafka_send_error_is_refusal(rd_kafka_resp_err_t code);
/* The message, or its batch, is larger than Kafka takes. */
bool kafka_send_error_is_size(rd_kafka_resp_err_t code);

#endif
