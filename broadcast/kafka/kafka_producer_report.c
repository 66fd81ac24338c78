/* What becomes of a message: acknowledged, given back to be sent again, or given up. */
#include "broadcast/kafka/kafka_producer_internal.h"
#include "shm/common/loggers.h"

bool kafka_producer_may_retry(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: /* librdkafka then refuses all for this topic */
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
    case RD_KAFKA_RESP_ERR__INCONSISTENT:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
        return true;
    default:
        return false;
    }
}

bool kafka_producer_is_size(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

static void kafka_producer_forget(struct kafka_producer *producer, size_t length)
{
    producer->pending--;
    producer->pending_bytes -= length;
}

/* Tells whoever asks after the message. */
static void kafka_producer_tell(struct kafka_producer *producer, uint64_t number, bool ok)
{
    uint64_t token = producer->tokens.count ? kafka_tokens_take(&producer->tokens, number) : 0;
    if (token && producer->callbacks->acknowledged)
        producer->callbacks->acknowledged(producer->context, token, ok);
}

void kafka_producer_give_up(
    struct kafka_producer *producer, uint64_t number, rd_kafka_resp_err_t code, size_t length)
{
    kafka_producer_forget(producer, length);
    kafka_producer_tell(producer, number, false);
    producer->lost++;
    if (kafka_producer_is_size(code)) {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_TOO_LARGE, 1);
        log_write_limited(&producer->limit_large, LOG_ERROR, LOGGER_BROADCAST,
            "Broadcast to backbone failed: the message of %zu bytes is larger than Kafka takes; other "
            "servers don't get this event, their clients will be asked to refetch (raise the topic's "
            "max.message.bytes, or lower OPAL_EVENT_MAX_BYTES)",
            length);
    } else {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SEND_FAILED, 1);
        log_write_limited(&producer->limit_failed, LOG_ERROR, LOGGER_BROADCAST,
            "Broadcast to backbone failed (%s: %s): other servers don't get this event",
            rd_kafka_err2name(code), rd_kafka_err2str(code));
    }
}

void kafka_producer_take_back(
    struct kafka_producer *producer, uint64_t number, struct slice message, rd_kafka_resp_err_t code)
{
    if (!kafka_producer_may_retry(code)) {
        if (producer->alone) {
            kafka_producer_give_up(producer, number, code, message.length);
            return;
        }
        if (number > producer->alone_until)
            producer->alone_until = number;
    }
    kafka_outbox_put(&producer->outbox, number, message);
    kafka_producer_hold(producer, rd_kafka_err2str(code));
}

void kafka_producer_on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_producer *producer = opaque;
    uint64_t number = (uint64_t)(uintptr_t)message->_private;
    (void)handle;
    if (!message->err) {
        producer->sent++;
        producer->proven = true;
        producer->fatal_count = 0;
        kafka_producer_forget(producer, message->len);
        kafka_producer_tell(producer, number, true);
        return;
    }
    kafka_producer_take_back(producer, number, (struct slice){message->payload, message->len}, message->err);
}
