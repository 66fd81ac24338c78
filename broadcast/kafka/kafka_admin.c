#include "broadcast/kafka/kafka_admin.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_watch.h"
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

#define KAFKA_ADMIN_MAGIC   0x6b61646du
#define KAFKA_ADMIN_WAIT_MS 10000
/* after a refusal to make the topic */
#define KAFKA_ADMIN_AGAIN (5 * CLOCK_SECOND)
/* for how long they aren't asked for again */
#define KAFKA_ADMIN_FRESH (15 * CLOCK_SECOND)
/* ... after we were told that we may not know them */
#define KAFKA_ADMIN_REFUSED (600 * CLOCK_SECOND)

struct kafka_admin {
    uint32_t magic;
    rd_kafka_t *handle;
    const char *topic;
    const char *brokers;
    void (*changed)(void *context);
    void *context;
    struct kafka_watch answers;
    bool creating;
    bool asking;
    bool refusal_told;
    uint64_t create_after_ns;
    uint64_t ask_after_ns;
    struct kafka_topic_settings settings;
    /* What was logged last of what is wrong. */
    struct text advice;
    struct log_limiter limit_create;
};

/* ---- answers ---- */

static void kafka_admin_take_create(struct kafka_admin *admin, rd_kafka_resp_err_t code, const char *reason)
{
    admin->creating = false;
    admin->create_after_ns = clock_monotonic_ns() + KAFKA_ADMIN_AGAIN;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "topic '%s' was missing: made it, with one partition and the brokers' default of replicas",
            admin->topic);
    else if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        log_write(LOG_DEBUG, LOGGER_BROADCAST, "topic '%s' is being made by somebody else", admin->topic);
    else
        log_write_limited(&admin->limit_create, LOG_ERROR, LOGGER_BROADCAST,
            "topic '%s' is missing and can't be made: %s: %s; trying again", admin->topic,
            rd_kafka_err2name(code), reason ? reason : rd_kafka_err2str(code));
}

static void kafka_admin_on_created(struct kafka_admin *admin, rd_kafka_event_t *event)
{
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    size_t count = 0;
    const rd_kafka_topic_result_t **topics =
        code || !result ? NULL : rd_kafka_CreateTopics_result_topics(result, &count);
    if (count)
        kafka_admin_take_create(
            admin, rd_kafka_topic_result_error(topics[0]), rd_kafka_topic_result_error_string(topics[0]));
    else
        kafka_admin_take_create(
            admin, code ? code : RD_KAFKA_RESP_ERR__BAD_MSG, rd_kafka_event_error_string(event));
}

static void kafka_admin_log_advice(struct kafka_admin *admin)
{
    struct text advice = {0};
    kafka_topic_settings_check(&admin->settings, admin->topic, admin->brokers, &advice);
    if (!slice_equals(text_slice(&advice), text_slice(&admin->advice))) {
        char *rest = advice.length ? advice.data : NULL;
        char *copy = rest ? memory_copy_string(rest) : NULL;
        char *lines = copy;
        char *line;
        while ((line = strsep(&lines, "\n")))
            if (*line)
                log_write(LOG_ERROR, LOGGER_BROADCAST, "topic '%s': %s", admin->topic, line);
        if (!rest)
            log_write(LOG_INFO, LOGGER_BROADCAST, "topic '%s': its settings are right now", admin->topic);
        free(copy);
    }
    text_free(&admin->advice);
    admin->advice = advice;
}

static void kafka_admin_take_settings(
    struct kafka_admin *admin, const rd_kafka_ConfigEntry_t **entries, size_t count)
{
    struct kafka_topic_settings before = admin->settings;
    for (size_t i = 0; i < count; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (value)
            kafka_topic_settings_take(&admin->settings, rd_kafka_ConfigEntry_name(entries[i]), value);
    }
    admin->settings.known = true;
    if (admin->settings.message_max && admin->settings.message_max != before.message_max)
        log_write(LOG_INFO, LOGGER_BROADCAST, "topic '%s' takes messages of up to %" PRIu64 " bytes",
            admin->topic, admin->settings.message_max);
    kafka_admin_log_advice(admin);
    if (!before.known || before.message_max != admin->settings.message_max ||
        before.compacted != admin->settings.compacted)
        admin->changed(admin->context);
}

static void kafka_admin_on_described(struct kafka_admin *admin, rd_kafka_event_t *event)
{
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    const char *reason = rd_kafka_event_error_string(event);
    const rd_kafka_ConfigResource_t *resource = NULL;
    size_t count = 0;
    admin->asking = false;
    if (!code && result) {
        const rd_kafka_ConfigResource_t **resources =
            rd_kafka_DescribeConfigs_result_resources(result, &count);
        if (count) {
            resource = resources[0];
            code = rd_kafka_ConfigResource_error(resource);
            reason = rd_kafka_ConfigResource_error_string(resource);
        }
    }
    if (code || !resource) {
        if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
            code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
            admin->ask_after_ns = clock_monotonic_ns() + KAFKA_ADMIN_REFUSED;
        log_write(admin->refusal_told ? LOG_DEBUG : LOG_INFO, LOGGER_BROADCAST,
            "Kafka doesn't tell the settings of topic '%s' (%s): what is too large is found out on "
            "sending",
            admin->topic, reason ? reason : "no answer");
        admin->refusal_told = true;
        return;
    }
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    kafka_admin_take_settings(admin, entries, count);
}

static void kafka_admin_on_answers(void *context)
{
    struct kafka_admin *admin = object_cast(struct kafka_admin, KAFKA_ADMIN_MAGIC, context);
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(admin->answers.queue, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
            kafka_admin_on_created(admin, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT)
            kafka_admin_on_described(admin, event);
        rd_kafka_event_destroy(event);
    }
}

/* ---- questions ---- */

static rd_kafka_AdminOptions_t *kafka_admin_options(struct kafka_admin *admin, rd_kafka_admin_op_t operation)
{
    char reason[128];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(admin->handle, operation);
    rd_kafka_AdminOptions_set_request_timeout(options, KAFKA_ADMIN_WAIT_MS, reason, sizeof reason);
    return options;
}

void kafka_admin_create_topic(struct kafka_admin *admin)
{
    char reason[256] = "";
    if (admin->creating || clock_monotonic_ns() < admin->create_after_ns)
        return;
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(admin->topic, 1, -1, reason, sizeof reason);
    if (!topic) {
        kafka_admin_take_create(admin, RD_KAFKA_RESP_ERR__INVALID_ARG, reason);
        return;
    }
    rd_kafka_AdminOptions_t *options = kafka_admin_options(admin, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    admin->creating = true;
    rd_kafka_CreateTopics(admin->handle, &topic, 1, options, admin->answers.queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(topic);
}

void kafka_admin_look(struct kafka_admin *admin)
{
    uint64_t now = clock_monotonic_ns();
    if (admin->asking || now < admin->ask_after_ns)
        return;
    admin->asking = true;
    admin->ask_after_ns = now + KAFKA_ADMIN_FRESH;
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, admin->topic);
    rd_kafka_AdminOptions_t *options = kafka_admin_options(admin, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(admin->handle, &resource, 1, options, admin->answers.queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(resource);
}

uint64_t kafka_admin_message_max(const struct kafka_admin *admin)
{
    return admin->settings.message_max ? admin->settings.message_max : UINT64_MAX;
}

const struct kafka_topic_settings *kafka_admin_topic(const struct kafka_admin *admin)
{
    return &admin->settings;
}

/* ---- life cycle ---- */

struct kafka_admin *kafka_admin_open(struct event_base *base, rd_kafka_t *handle, const char *topic,
    const char *brokers, void (*changed)(void *context), void *context, struct error *err)
{
    struct kafka_admin *admin = memory_allocate(sizeof *admin);
    admin->magic = KAFKA_ADMIN_MAGIC;
    admin->handle = handle;
    admin->topic = topic;
    admin->changed = changed;
    admin->context = context;
    admin->brokers = brokers;
    /* no limit until they are known */
    admin->settings.retention_ms = admin->settings.retention_bytes = -1;
    if (kafka_watch_open(
            &admin->answers, base, rd_kafka_queue_new(handle), kafka_admin_on_answers, admin, err) < 0) {
        free(admin);
        return NULL;
    }
    return admin;
}

void kafka_admin_close(struct kafka_admin *admin)
{
    if (!admin)
        return;
    kafka_watch_close(&admin->answers);
    text_free(&admin->advice);
    admin->magic = 0;
    free(admin);
}
