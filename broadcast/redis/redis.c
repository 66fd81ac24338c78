/*
 * Redis as the backbone: SUBSCRIBE on one connection, PUBLISH on another (RESP2 allows nothing else on a
 * subscribed one). PUBLISH is pipelined; Redis answers each with the number of receivers, in order: that is
 * the acknowledgement. It means that Redis has put the message into the output buffer of every subscriber of
 * this moment, no more: Redis keeps nothing. What follows from that, and the guarantees, are in
 * broadcast/relay/relay.h.
 */
#include "broadcast/redis/redis.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/redis/redis_connection.h"
#include "broadcast/relay/relay.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define REDIS_MAGIC 0x72656473u
/* Enough to fill the way to Redis and back; what waits beyond it waits in the replay buffer, where it is
 * bounded. */
#define REDIS_IN_FLIGHT_MAX       1024
#define REDIS_UNWRITTEN_MAX_BYTES (1024 * 1024)
/* Redis refuses longer strings by default (proto-max-bulk-len). */
#define REDIS_MESSAGE_MAX     ((uint64_t)512 * 1024 * 1024)
#define REDIS_REPLY_EXTRA_MAX ((size_t)64 * 1024 * 1024)

struct redis {
    uint32_t magic;
    struct relay *relay;
    struct redis_uri uri;
    char *channel;
    struct redis_connection *listener;
    struct redis_connection *sender;
    unsigned in_flight;
};

/* ---- the listener's replies ---- */

static struct redis *redis_from(void *context)
{
    return object_cast(struct redis, REDIS_MAGIC, context);
}

static void listener_live(void *context)
{
    struct redis *redis = redis_from(context);
    relay_live(redis->relay, RELAY_LISTENER);
}

static bool listener_reply(void *context, const struct redis_reply *reply)
{
    struct redis *redis = redis_from(context);
    relay_heard(redis->relay);
    if (reply->type == REDIS_REPLY_ERROR) {
        relay_lost(redis->relay, RELAY_LISTENER, reply->bytes);
        return false;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->element_count != 3 ||
        !slice_equals_string(redis_reply_text(reply->elements[0]), "message"))
        return true; /* the answer to a PING */
    struct slice payload = redis_reply_text(reply->elements[2]);
    return payload.data ? relay_received(redis->relay, payload) : true;
}

static void listener_batch_end(void *context)
{
    struct redis *redis = redis_from(context);
    relay_heard(redis->relay);
    relay_batch_end(redis->relay);
}

static void listener_lost(void *context, const char *why)
{
    struct redis *redis = redis_from(context);
    relay_lost(redis->relay, RELAY_LISTENER, why);
}

/* ---- the sender's replies ---- */

static void sender_live(void *context)
{
    struct redis *redis = redis_from(context);
    redis->in_flight = 0;
    relay_live(redis->relay, RELAY_SENDER);
}

static bool sender_reply(void *context, const struct redis_reply *reply)
{
    struct redis *redis = redis_from(context);
    if (redis->in_flight)
        redis->in_flight--;
    if (reply->type == REDIS_REPLY_INTEGER) {
        if (!relay_acknowledged(redis->relay))
            relay_lost(redis->relay, RELAY_SENDER, "an acknowledgement of nothing");
        return true;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        /* Too long for this Redis (proto-max-bulk-len): it would be refused again each time, and hold up all
         * behind it. Any other error, such as a missing permission, is a matter of the server and may pass:
         * the message is kept. */
        if (strncmp(reply->bytes, "ERR Protocol error", 18) == 0 &&
            !relay_refused(redis->relay, reply->bytes, true))
            log_write(LOG_DEBUG, LOGGER_REDIS, "an error reply to nothing");
        relay_lost(redis->relay, RELAY_SENDER, reply->bytes);
        return true;
    }
    relay_lost(redis->relay, RELAY_SENDER, "an answer that PUBLISH does not have");
    return true;
}

static void sender_batch_end(void *context)
{
    (void)context;
}

static void sender_lost(void *context, const char *why)
{
    struct redis *redis = redis_from(context);
    relay_lost(redis->relay, RELAY_SENDER, why);
}

/* ---- the relay's driver ---- */

static void redis_open_side(void *self, enum relay_side side)
{
    struct redis *redis = redis_from(self);
    redis_connection_open(side == RELAY_LISTENER ? redis->listener : redis->sender);
}

static void redis_close_side(void *self, enum relay_side side)
{
    struct redis *redis = redis_from(self);
    redis_connection_close(side == RELAY_LISTENER ? redis->listener : redis->sender);
}

static bool redis_send(void *self, struct slice message)
{
    struct redis *redis = redis_from(self);
    if (redis->in_flight >= REDIS_IN_FLIGHT_MAX ||
        redis_connection_unwritten(redis->sender) >= REDIS_UNWRITTEN_MAX_BYTES)
        return false;
    redis_connection_command(redis->sender, 3,
        (struct slice[]){SLICE_LITERAL("PUBLISH"), slice_from_string(redis->channel), message});
    redis->in_flight++;
    return true;
}

static void redis_flush(void *self)
{
    struct redis *redis = redis_from(self);
    redis_connection_flush(redis->sender);
}

static void redis_read(void *self, bool on)
{
    struct redis *redis = redis_from(self);
    redis_connection_read(redis->listener, on);
}

static void redis_probe(void *self)
{
    struct redis *redis = redis_from(self);
    redis_connection_command(redis->listener, 1, (struct slice[]){SLICE_LITERAL("PING")});
    redis_connection_flush(redis->listener);
}

static void redis_wait(void *self, int timeout_ms)
{
    struct redis *redis = redis_from(self);
    redis_connection_wait(redis->sender, timeout_ms);
}

/* ---- the backend ---- */

static int redis_check_uri(const char *text, struct error *err)
{
    struct redis_uri uri;
    if (redis_uri_parse(text, &uri, err) < 0)
        return -1;
    redis_uri_free(&uri);
    return 0;
}

static int redis_check_tls(const struct redis_uri *uri, struct error *err)
{
    const struct tls_client_settings tls = {.ca_file = uri->ca_file,
        .ca_path = uri->ca_path,
        .certificate_file = uri->certificate_file,
        .key_file = uri->key_file,
        .key_password = uri->key_password,
        .verify = uri->verify,
        .verify_host = uri->verify_host};
    if (!uri->tls)
        return 0;
    SSL_CTX *context = tls_client_context(&tls, err);
    SSL_CTX_free(context);
    return context ? 0 : -1;
}

static void *redis_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err)
{
    static const struct relay_driver driver = {.logger = LOGGER_REDIS,
        .open = redis_open_side,
        .close = redis_close_side,
        .send = redis_send,
        .flush = redis_flush,
        .read = redis_read,
        .probe = redis_probe,
        .wait = redis_wait};
    static const struct redis_connection_callbacks listener_callbacks = {.live = listener_live,
        .reply = listener_reply,
        .batch_end = listener_batch_end,
        .lost = listener_lost};
    static const struct redis_connection_callbacks sender_callbacks = {
        .live = sender_live, .reply = sender_reply, .batch_end = sender_batch_end, .lost = sender_lost};
    struct redis *redis = memory_allocate(sizeof *redis);
    if (redis_uri_parse(settings->uri, &redis->uri, err) < 0) {
        free(redis);
        return NULL;
    }
    if (redis_check_tls(&redis->uri, err) < 0) {
        redis_uri_free(&redis->uri);
        free(redis);
        return NULL;
    }
    redis->magic = REDIS_MAGIC;
    redis->channel = memory_copy_string(settings->channel);
    redis->relay = relay_make(base, settings, callbacks, context, &driver, redis);
    relay_set_message_max(redis->relay, REDIS_MESSAGE_MAX);
    uint64_t user_timeout_ns = relay_deadline_ns(settings) / 2;
    size_t reply_max_bytes = settings->limits->event_max_bytes + REDIS_REPLY_EXTRA_MAX;
    redis->listener = redis_connection_make(
        base, &redis->uri, redis->channel, user_timeout_ns, reply_max_bytes, &listener_callbacks, redis);
    redis->sender = redis_connection_make(
        base, &redis->uri, NULL, user_timeout_ns, reply_max_bytes, &sender_callbacks, redis);
    if (redis->uri.tls && !redis->uri.verify)
        log_write(LOG_WARNING, LOGGER_REDIS,
            "the certificate of Redis is not verified (ssl_cert_reqs=none): anybody in between can read and "
            "write");
    relay_start(redis->relay);
    return redis;
}

static int redis_publish(void *self, struct slice topic, struct slice data, uint64_t token)
{
    struct redis *redis = redis_from(self);
    return relay_publish(redis->relay, topic, data, token);
}

static void redis_resume(void *self)
{
    struct redis *redis = redis_from(self);
    relay_resume(redis->relay);
}

static uint64_t redis_message_max(void *self)
{
    struct redis *redis = redis_from(self);
    return relay_message_max(redis->relay);
}

static size_t redis_close(void *self, int grace_ms)
{
    struct redis *redis = redis_from(self);
    size_t unsent = relay_close(redis->relay, grace_ms);
    redis_connection_free(redis->listener);
    redis_connection_free(redis->sender);
    redis_uri_free(&redis->uri);
    free(redis->channel);
    redis->magic = 0;
    free(redis);
    return unsent;
}

static const char *const redis_schemes[] = {"redis", "rediss", NULL};

const struct broadcast_backend broadcast_redis = {.schemes = redis_schemes,
    .check_uri = redis_check_uri,
    .open = redis_open,
    .publish = redis_publish,
    .resume = redis_resume,
    .message_max = redis_message_max,
    .close = redis_close};
