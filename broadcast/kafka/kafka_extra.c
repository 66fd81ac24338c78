#include "broadcast/kafka/kafka_extra.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/pem_text.h"
#include "shm/common/text.h"

#define KAFKA_EXTRA_KEY_MAX 128

/* ---- what can't be changed ---- */

struct kafka_extra_rule {
    const char *key;
    /* the one value that is accepted, since it is the one in force; NULL: none */
    const char *only;
    const char *reason;
};

#define ONCE_IN_ORDER "events would be lost, doubled or out of order"
#define ALL_HEAR      "every server reads the whole topic by itself, without a group and offsets in Kafka"
#define QUEUE         "OPAL_KAFKA_QUEUE_MAX_BYTES and OPAL_KAFKA_QUEUE_MAX_MESSAGES bound the queue"
#define SEEN_LOSS     "a lost offset must be noticed, so that the clients refetch"
#define OWN_LOOP      "this server's event loop depends on it"
#define SIZE          "OPAL_EVENT_MAX_BYTES sets it"

static const struct kafka_extra_rule kafka_extra_rules[] = {
    {"enable.idempotence", "true", ONCE_IN_ORDER},
    {"enable.gapless.guarantee", "true", ONCE_IN_ORDER},
    {"acks", "all", ONCE_IN_ORDER},
    {"request.required.acks", "all", ONCE_IN_ORDER},
    {"retries", NULL, "retries are unlimited within the bounded queue"},
    {"message.send.max.retries", NULL, "retries are unlimited within the bounded queue"},
    {"message.timeout.ms", "0", "events wait as long as Kafka is away; " QUEUE},
    {"delivery.timeout.ms", "0", "events wait as long as Kafka is away; " QUEUE},
    {"queuing.strategy", "fifo", ONCE_IN_ORDER},
    {"msg_order_cmp", NULL, ONCE_IN_ORDER},
    {"queue.buffering.max.messages", NULL, QUEUE},
    {"queue.buffering.max.kbytes", NULL, QUEUE},
    {"message.max.bytes", NULL, SIZE},
    {"transactional.id", NULL, "this server sends outside transactions"},
    {"delivery.report.only.error", "false", "acknowledgements are counted"},
    {"auto.offset.reset", "error", SEEN_LOSS},
    {"enable.partition.eof", "true", "it tells when everything up to the end was read"},
    {"group.id", NULL, ALL_HEAR},
    {"group.instance.id", NULL, ALL_HEAR},
    {"enable.auto.commit", "false", ALL_HEAR},
    {"auto.commit.enable", "false", ALL_HEAR},
    {"enable.auto.offset.store", "false", ALL_HEAR},
    {"offset.store.method", NULL, ALL_HEAR},
    {"offset.store.path", NULL, ALL_HEAR},
    {"topic.metadata.propagation.max.ms", "0", "this server judges itself how long a topic may be missing"},
    {"topic.blacklist", NULL, "it would hide topics from this server"},
    {"bootstrap.servers", NULL, "OPAL_BROADCAST_URI names the brokers"},
    {"metadata.broker.list", NULL, "OPAL_BROADCAST_URI names the brokers"},
    {"statistics.interval.ms", NULL, "the state of the connection is read from the statistics"},
    {"enabled_events", NULL, OWN_LOOP},
    {"log.queue", "true", OWN_LOOP},
    {"test.mock.num.brokers", NULL, "a trial cluster is OPAL_BROADCAST_URI=kafka+mock://"},
};

static int kafka_extra_check(const char *key, const char *value, struct error *err)
{
    for (size_t i = 0; i < sizeof kafka_extra_rules / sizeof *kafka_extra_rules; i++) {
        const struct kafka_extra_rule *rule = &kafka_extra_rules[i];
        if (strcmp(rule->key, key) != 0 || (rule->only && strcmp(rule->only, value) == 0))
            continue;
        if (rule->only)
            return error_set(
                err, -1, "OPAL_KAFKA_CONFIG: %s can't be changed from %s: %s", key, rule->only, rule->reason);
        return error_set(err, -1, "OPAL_KAFKA_CONFIG: %s can't be set: %s", key, rule->reason);
    }
    return 0;
}

/* ---- whose it is ---- */

/* librdkafka's table of its properties, "key | C/P | ..." a line; to be freed. NULL when it can't be had. */
static char *kafka_extra_table(void)
{
    char *table = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&table, &size);
    if (!stream)
        return NULL;
    rd_kafka_conf_properties_show(stream);
    return fclose(stream) == 0 ? table : NULL;
}

/* False for what only the other one knows. What is in no line of the table belongs to both: librdkafka then
 * tells whether it knows it. */
static bool kafka_extra_belongs(const char *table, const char *key, enum kafka_extra_role role)
{
    size_t length = strlen(key);
    for (const char *line = table; line && *line;) {
        const char *end = strchrnul(line, '\n');
        const char *after = line + length;
        if ((size_t)(end - line) > length && strncmp(line, key, length) == 0 &&
            (*after == ' ' || *after == '|')) {
            const char *owner = memchr(line, '|', (size_t)(end - line));
            owner = owner ? owner + 1 + strspn(owner + 1, " ") : end;
            return *owner != 'P' && *owner != 'C' ? true : *owner == (char)role;
        }
        line = *end ? end + 1 : end;
    }
    return true;
}

/* ---- applying ---- */

static bool kafka_extra_is_secret(const char *key)
{
    static const char *const parts[] = {"password", "username", "secret", ".pem", "oauthbearer", NULL};
    for (size_t i = 0; parts[i]; i++)
        if (strstr(key, parts[i]))
            return true;
    return false;
}

static int kafka_extra_set_text(rd_kafka_conf_t *conf, const char *key, const char *value, struct error *err)
{
    char reason[512];
    if (rd_kafka_conf_set(conf, key, value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return 0;
    reason[strcspn(reason, "\n")] = '\0';
    if (kafka_extra_is_secret(key)) /* the reason may quote the value */
        return error_set(err, -1, "OPAL_KAFKA_CONFIG: librdkafka refuses the value of %s", key);
    return error_set(err, -1, "OPAL_KAFKA_CONFIG: %s: %s", key, reason);
}

/* A value is one line: PEM text in it has something else for its line ends. */
static int kafka_extra_set_pem(rd_kafka_conf_t *conf, const char *key, const char *value, struct error *err)
{
    struct text repaired = {0};
    int result = pem_text_repair(slice_from_string(value), &repaired, err);
    if (result < 0)
        error_prefix(err, "OPAL_KAFKA_CONFIG: %s (value not shown)", key);
    else
        result = kafka_extra_set_text(conf, key, repaired.data, err);
    if (repaired.data)
        explicit_bzero(repaired.data, repaired.length);
    text_free(&repaired);
    return result;
}

static int kafka_extra_set(rd_kafka_conf_t *conf, const char *key, const char *value, struct error *err)
{
    size_t length = strlen(key);
    bool pem = length > 4 && strcmp(key + length - 4, ".pem") == 0;
    return pem ? kafka_extra_set_pem(conf, key, value, err) : kafka_extra_set_text(conf, key, value, err);
}

int kafka_extra_apply(
    rd_kafka_conf_t *conf, enum kafka_extra_role role, const char *settings, struct error *err)
{
    int result = 0;
    if (!settings || !*settings)
        return 0;
    char *table = kafka_extra_table();
    char *copy = memory_copy_string(settings);
    char *rest = copy;
    char *line;
    while (result == 0 && (line = strsep(&rest, "\n"))) {
        char *equals = strchr(line, '=');
        if (!*line)
            continue;
        if (!equals || equals - line >= KAFKA_EXTRA_KEY_MAX) { /* the options let no such line through */
            result = error_set(err, -1, "OPAL_KAFKA_CONFIG: a line is no key=value");
            break;
        }
        *equals = '\0';
        result = kafka_extra_check(line, equals + 1, err);
        if (result == 0 && kafka_extra_belongs(table, line, role))
            result = kafka_extra_set(conf, line, equals + 1, err);
    }
    free(copy);
    free(table);
    return result;
}
