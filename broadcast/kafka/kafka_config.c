#include "broadcast/kafka/kafka_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broadcast/backend/backbone_uri.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"

/* ---- URI ---- */

bool kafka_config_is_mock(const char *uri)
{
    return strncasecmp(uri, "kafka+mock://", strlen("kafka+mock://")) == 0;
}

/* `number` counts the brokers from 1. The broker is not quoted: it may be a piece of a password. */
static int kafka_config_check_broker(struct slice broker, unsigned number, struct error *err)
{
    const char *end = broker.data + broker.length;
    const char *host_end;
    uint64_t port;
    if (broker.length && broker.data[0] == '[') { /* [IPv6]:port */
        const char *bracket = memchr(broker.data, ']', broker.length);
        if (!bracket)
            return error_set(err, -1, "backbone URI: broker %u lacks the closing bracket", number);
        host_end = bracket + 1;
        if (host_end < end && *host_end != ':')
            return error_set(err, -1, "backbone URI: broker %u is no [address]:port", number);
    } else {
        const char *colon = memchr(broker.data, ':', broker.length);
        host_end = colon ? colon : end;
    }
    if (host_end == broker.data)
        return error_set(err, -1, "backbone URI: a broker has no name; write kafka://host1:9092,host2:9092");
    for (const char *c = broker.data; c < end; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return error_set(
                err, -1, "backbone URI: a broker's name has a blank or a character outside ASCII");
    if (host_end == end)
        return 0;
    struct slice digits = {host_end + 1, (size_t)(end - host_end - 1)};
    if (!slice_read_number(digits, 65535, &port) || port < 1)
        return error_set(err, -1,
            "backbone URI: broker %u has no valid port (1 to 65535). Brokers are "
            "kafka://host1:9092,host2:9092; "
            "the protocol, user name and password are KAFKA_SECURITY_PROTOCOL, KAFKA_PLAIN_USERNAME and "
            "KAFKA_PLAIN_PASSWORD",
            number);
    return 0;
}

static int kafka_config_take_brokers(struct slice hosts, struct text *brokers, struct error *err)
{
    const char *end = hosts.data + hosts.length;
    unsigned number = 1;
    for (const char *at = hosts.data;; number++) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct slice broker = {at, (size_t)((comma ? comma : end) - at)};
        broker = slice_trim(broker, TEXT_SPACES);
        if (kafka_config_check_broker(broker, number, err) < 0)
            return -1;
        text_append_string(brokers, number > 1 ? "," : "");
        text_append_slice(brokers, broker);
        if (!comma)
            return 0;
        at = comma + 1;
    }
}

int kafka_config_parse_uri(const char *uri, struct text *brokers, struct error *err)
{
    struct backbone_uri parts;
    /* An '@' further behind is that of a password with a special character. */
    if (backbone_uri_split("Kafka", uri, "/?#", &parts, err) < 0 || parts.userinfo.data)
        return error_set(err, -1,
            "backbone URI: Kafka takes no user and password in the URI; set KAFKA_SECURITY_PROTOCOL, "
            "KAFKA_SASL_MECHANISM, KAFKA_PLAIN_USERNAME and KAFKA_PLAIN_PASSWORD");
    if (kafka_config_is_mock(uri)) {
        if (parts.hosts.length)
            return error_set(err, -1,
                "kafka+mock:// takes no broker: the trial cluster runs inside the server. For a real one "
                "write "
                "kafka://host:9092");
        return 0;
    }
    if (!parts.hosts.length)
        return error_set(err, -1, "backbone URI: no broker is named; write kafka://host1:9092,host2:9092");
    return kafka_config_take_brokers(parts.hosts, brokers, err);
}

/* ---- librdkafka ---- */

int kafka_config_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
    char reason[256];
    if (!conf || rd_kafka_conf_set(conf, name, value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return 0;
    /* librdkafka's reason may quote the value: not for what may be secret. */
    if (strstr(name, "password") || strstr(name, "username"))
        return error_set(err, -1, "Kafka: librdkafka refuses the value of %s", name);
    return error_set(err, -1, "Kafka: librdkafka refuses %s: %s", name, reason);
}

int kafka_config_set_number(rd_kafka_conf_t *conf, const char *name, long long value, struct error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    return kafka_config_set(conf, name, text, err);
}

/* ---- security ---- */

static const char *kafka_config_environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int kafka_config_choose(
    const char *name, const char *value, const char *const *choices, struct error *err)
{
    struct text known = {0};
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(value, choices[i]) == 0) {
            text_free(&known);
            return 0;
        }
        text_append_format(&known, "%s%s", i ? ", " : "", choices[i]);
    }
    error_set(err, -1, "%s=%s is not possible; it can be %s", name, value, known.data);
    text_free(&known);
    return -1;
}

static int kafka_config_apply_sasl(rd_kafka_conf_t *conf, struct error *err)
{
    static const char *const mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", NULL};
    const char *mechanism = kafka_config_environment("KAFKA_SASL_MECHANISM", "PLAIN");
    const char *user = kafka_config_environment("KAFKA_PLAIN_USERNAME", NULL);
    const char *password = kafka_config_environment("KAFKA_PLAIN_PASSWORD", NULL);
    if (kafka_config_choose("KAFKA_SASL_MECHANISM", mechanism, mechanisms, err) < 0)
        return -1;
    if (!user || !password)
        return error_set(err, -1, "KAFKA_SECURITY_PROTOCOL asks for SASL, but %s is not set",
            user ? "KAFKA_PLAIN_PASSWORD" : "KAFKA_PLAIN_USERNAME");
    if (kafka_config_set(conf, "sasl.mechanisms", mechanism, err) < 0 ||
        kafka_config_set(conf, "sasl.username", user, err) < 0 ||
        kafka_config_set(conf, "sasl.password", password, err) < 0)
        return -1;
    return 0;
}

static int kafka_config_apply_tls(rd_kafka_conf_t *conf, struct error *err)
{
    static const struct {
        const char *variable;
        const char *property;
    } files[] = {
        {"KAFKA_SSL_CERTFILE", "ssl.certificate.location"},
        {"KAFKA_SSL_KEYFILE", "ssl.key.location"},
        {"KAFKA_SSL_KEY_PASSWORD", "ssl.key.password"},
    };
    const char *file = kafka_config_environment("KAFKA_SSL_CAFILE", NULL);
    const char *folder = kafka_config_environment("KAFKA_SSL_CAPATH", NULL);
    if (file && folder && conf)
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "KAFKA_SSL_CAFILE and KAFKA_SSL_CAPATH are both set: the file is used, the folder is not");
    /* ssl.ca.location takes a file or a folder. */
    if ((file || folder) && kafka_config_set(conf, "ssl.ca.location", file ? file : folder, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *value = kafka_config_environment(files[i].variable, NULL);
        if (value && kafka_config_set(conf, files[i].property, value, err) < 0)
            return -1;
    }
    if (kafka_config_environment("KAFKA_SSL_KEYFILE", NULL) &&
        !kafka_config_environment("KAFKA_SSL_CERTFILE", NULL))
        return error_set(err, -1, "KAFKA_SSL_KEYFILE is set without KAFKA_SSL_CERTFILE");
    /* The reference's TLS context checks the broker's name; so do we. */
    return kafka_config_set(conf, "ssl.endpoint.identification.algorithm", "https", err);
}

int kafka_config_apply_security(rd_kafka_conf_t *conf, struct error *err)
{
    static const char *const protocols[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", NULL};
    const char *protocol = kafka_config_environment("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT");
    if (kafka_config_choose("KAFKA_SECURITY_PROTOCOL", protocol, protocols, err) < 0 ||
        kafka_config_set(conf, "security.protocol", protocol, err) < 0)
        return -1;
    if (strncmp(protocol, "SASL", 4) == 0 && kafka_config_apply_sasl(conf, err) < 0)
        return -1;
    if (strstr(protocol, "SSL") && kafka_config_apply_tls(conf, err) < 0)
        return -1;
    return 0;
}

/* ---- common settings ---- */

int kafka_config_apply_common(rd_kafka_conf_t *conf, const char *brokers, bool secure, struct error *err)
{
    static const struct {
        const char *name;
        const char *value;
    } fixed[] = {
        {"client.id", "opald"},
        /* logs and events come to our loop, never from a thread of librdkafka */
        {"log.queue", "true"},
        /* one small event must leave now */
        {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},
        /* a broker that answers nothing for so long is given up (half-open connection) */
        {"socket.timeout.ms", "10000"},
        {"socket.connection.setup.timeout.ms", "10000"},
        /* new partitions are found within this */
        {"topic.metadata.refresh.interval.ms", "10000"},
        {"topic.metadata.refresh.fast.interval.ms", "100"},
        /* Per broker: one that restarts must be found at once, and several are tried in turn. librdkafka adds
         * its own jitter of -25% to +50%. */
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (kafka_config_set(conf, fixed[i].name, fixed[i].value, err) < 0)
            return -1;
    if (brokers && kafka_config_set(conf, "bootstrap.servers", brokers, err) < 0)
        return -1;
    if (log_enabled(LOG_DEBUG) && kafka_config_set(conf, "debug", "broker,topic,metadata", err) < 0)
        return -1;
    return secure ? kafka_config_apply_security(conf, err) : 0;
}
