#include "broadcast/broadcast.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka.h"
#include "broadcast/postgres/postgres.h"
#include "broadcast/redis/redis.h"
#include "shm/common/memory.h"

#define BROADCAST_MAGIC      0x62636173u
#define BROADCAST_SCHEME_MAX 24

struct broadcast {
    uint32_t magic;
    const struct broadcast_backend *backend;
    void *self;
};

/* To add a backbone: one operations table, one line here. */
static const struct broadcast_backend *const broadcast_backends[] = {
    &broadcast_kafka, &broadcast_redis, &broadcast_postgres};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void broadcast_list_schemes(struct text *out)
{
    for (size_t i = 0; i < COUNT_OF(broadcast_backends); i++)
        for (const char *const *scheme = broadcast_backends[i]->schemes; *scheme; scheme++)
            text_append_format(out, "%s%s://", out->length ? ", " : "", *scheme);
}

/* What to write instead of what other programs write, or call such a thing; NULL: no idea. */
static const char *broadcast_advice(const char *scheme)
{
    static const char kafka[] =
        "Kafka is kafka://host1:9092,host2:9092; TLS and SASL are set by KAFKA_SECURITY_PROTOCOL "
        "(SSL, SASL_PLAINTEXT, SASL_SSL), KAFKA_SASL_MECHANISM, KAFKA_PLAIN_USERNAME and "
        "KAFKA_PLAIN_PASSWORD";
    static const char redis[] =
        "Redis is reached by TCP at one address, redis://host:6379 or rediss://host:6379; unix "
        "sockets, Sentinel and Cluster are not supported";
    static const char postgres[] = "Postgres is postgresql://host:5432/database, with user:password@ before "
                                   "the host and without the name of a driver";
    static const struct {
        const char *start;
        const char *advice;
    } advices[] = {
        {"kafka", kafka},
        {"sasl_", kafka},
        {"ssl", kafka},
        {"plaintext", kafka},
        {"redis", redis},
        {"unix", redis},
        {"postgres", postgres},
        {"jdbc:postgresql", postgres},
        {"pg", postgres},
        {"asyncpg", postgres},
        {"memory", "this version does not carry the memory backbone yet"},
        {"pulsar", "this version does not carry the pulsar backbone yet"},
    };
    for (size_t i = 0; i < COUNT_OF(advices); i++)
        if (strncmp(scheme, advices[i].start, strlen(advices[i].start)) == 0)
            return advices[i].advice;
    return NULL;
}

/* Nothing but a scheme is quoted, and only if it looks like one: the rest of the URI may hold a password. */
static void broadcast_refuse_scheme(const char *uri, const char *scheme, struct error *err)
{
    struct text schemes = {0};
    bool quotable = scheme[strspn(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-._:")] == '\0';
    const char *advice = broadcast_advice(scheme);
    broadcast_list_schemes(&schemes);
    if (!*scheme && uri && strstr(uri, "password="))
        error_set(err, -1,
            "the backbone URI has no scheme; Postgres is postgresql://host:5432/database, with "
            "user:password@ before the host, not a list of key=value");
    else if (!*scheme)
        error_set(err, -1,
            "the backbone URI has no scheme; write for example kafka://host1:9092,host2:9092 (this version "
            "knows %s)",
            schemes.data);
    else if (!quotable)
        error_set(err, -1, "the backbone URI begins with no scheme; this version knows %s", schemes.data);
    else
        error_set(err, -1, "unknown backbone scheme '%s://'; %s%sthis version knows %s", scheme,
            advice ? advice : "", advice ? "; " : "", schemes.data);
    text_free(&schemes);
}

static const struct broadcast_backend *broadcast_find(const char *uri, struct error *err)
{
    char scheme[BROADCAST_SCHEME_MAX] = "";
    const char *end = uri ? strstr(uri, "://") : NULL;
    size_t length = end ? (size_t)(end - uri) : 0;
    if (length >= sizeof scheme) {
        error_set(err, -1, "unknown backbone scheme, of %zu characters", length);
        return NULL;
    }
    for (size_t i = 0; i < length; i++) /* RFC 3986 3.1: schemes are case-insensitive */
        scheme[i] = (char)(uri[i] >= 'A' && uri[i] <= 'Z' ? uri[i] - 'A' + 'a' : uri[i]);
    for (size_t i = 0; i < COUNT_OF(broadcast_backends); i++)
        for (const char *const *known = broadcast_backends[i]->schemes; *known; known++)
            if (strcmp(*known, scheme) == 0)
                return broadcast_backends[i];
    broadcast_refuse_scheme(uri, scheme, err);
    return NULL;
}

int broadcast_check_uri(const char *uri, struct error *err)
{
    const struct broadcast_backend *backend = broadcast_find(uri, err);
    return backend ? backend->check_uri(uri, err) : -1;
}

int broadcast_check_settings(const struct broadcast_settings *settings, struct error *err)
{
    const struct broadcast_backend *backend = broadcast_find(settings->uri, err);
    if (!backend || backend->check_uri(settings->uri, err) < 0)
        return -1;
    return backend->check_settings ? backend->check_settings(settings, err) : 0;
}

struct broadcast *broadcast_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err)
{
    const struct broadcast_backend *backend = broadcast_find(settings->uri, err);
    if (!backend || backend->check_uri(settings->uri, err) < 0)
        return NULL;
    void *self = backend->open(base, settings, callbacks, context, err);
    if (!self)
        return NULL;
    struct broadcast *broadcast = memory_allocate(sizeof *broadcast);
    broadcast->magic = BROADCAST_MAGIC;
    broadcast->backend = backend;
    broadcast->self = self;
    return broadcast;
}

int broadcast_publish(struct broadcast *broadcast, struct slice topic, struct slice data, uint64_t token)
{
    return broadcast->backend->publish(broadcast->self, topic, data, token);
}

void broadcast_resume(struct broadcast *broadcast)
{
    broadcast->backend->resume(broadcast->self);
}

uint64_t broadcast_message_max(const struct broadcast *broadcast)
{
    return broadcast->backend->message_max(broadcast->self);
}

size_t broadcast_close(struct broadcast *broadcast, int grace_ms)
{
    size_t unsent = broadcast->backend->close(broadcast->self, grace_ms);
    broadcast->magic = 0;
    free(broadcast);
    return unsent;
}
