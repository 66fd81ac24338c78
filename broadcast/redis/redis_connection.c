#include "broadcast/redis/redis_connection.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/common/secret_mask.h"

#define REDIS_CONNECTION_MAGIC   0x7264636eu
#define REDIS_STEPS_MAX          4
#define REDIS_ARGUMENTS_MAX      4
#define REDIS_CONNECT_TIMEOUT_NS (10 * CLOCK_SECOND)
/* From the open socket to the answer to the last step. */
#define REDIS_START_TIMEOUT_NS (10 * CLOCK_SECOND)

struct redis_connection {
    uint32_t magic;
    const struct redis_uri *uri;
    const char *subscribe_to;
    size_t reply_max_bytes;
    struct redis_connection_callbacks callbacks;
    void *context;
    struct tls_client_settings tls;
    struct stream_target target;
    struct stream *stream;
    redisReader *reader;
    /* commands whose answers are awaited at the start */
    const char *steps[REDIS_STEPS_MAX];
    int step_count;
    int step;
    bool live;
    bool reading;
    /* this attempt sends the password without the user of the URI */
    bool as_default_user;
    /* what Redis said to that user */
    struct error user_refusal;
    struct log_limiter limit_default_user;
    /* changes when it is closed */
    uint64_t generation;
    /* of the start */
    struct event *timer;
    /* replies that waited while reading was off */
    struct event *again;
};

static struct redis_connection *connection_from(void *context)
{
    return object_cast(struct redis_connection, REDIS_CONNECTION_MAGIC, context);
}

static void connection_fail(struct redis_connection *connection, const char *doing, const char *why)
{
    struct error text = {0};
    error_set(&text, -1, "%s%s%s", doing, doing[0] ? ": " : "", why);
    secret_mask(text.text, connection->uri->secrets); /* Redis quotes commands that it does not know */
    redis_connection_close(connection);
    connection->callbacks.lost(connection->context, text.text);
}

void redis_connection_command(struct redis_connection *connection, int count, const struct slice *arguments)
{
    const char *texts[REDIS_ARGUMENTS_MAX];
    size_t lengths[REDIS_ARGUMENTS_MAX];
    char *command = NULL;
    for (int i = 0; i < count && i < REDIS_ARGUMENTS_MAX; i++) {
        texts[i] = arguments[i].data;
        lengths[i] = arguments[i].length;
    }
    int length = redisFormatCommandArgv(&command, count, texts, lengths);
    if (length < 0) {
        fprintf(stderr, "opald: out of memory while formatting a Redis command, ending this process\n");
        abort();
    }
    stream_write(connection->stream, command, (size_t)length);
    redisFreeCommand(command);
}

static void connection_begin_step(
    struct redis_connection *connection, int count, const struct slice *arguments)
{
    connection->steps[connection->step_count++] = arguments[0].data;
    redis_connection_command(connection, count, arguments);
}

/* All steps go out at once; Redis answers them in order. No database is chosen: channels belong to none, and
 * a cluster would refuse. */
static void connection_on_open(void *context)
{
    struct redis_connection *connection = connection_from(context);
    const struct redis_uri *uri = connection->uri;
    struct timeval limit = clock_timeval_ns(REDIS_START_TIMEOUT_NS);
    connection->step_count = connection->step = 0;
    if (uri->user && !connection->as_default_user)
        connection_begin_step(connection, 3,
            (struct slice[]){SLICE_LITERAL("AUTH"), slice_from_string(uri->user),
                slice_from_string(uri->password ? uri->password : "")});
    else if (uri->password)
        connection_begin_step(
            connection, 2, (struct slice[]){SLICE_LITERAL("AUTH"), slice_from_string(uri->password)});
    if (connection->subscribe_to)
        connection_begin_step(connection, 2,
            (struct slice[]){SLICE_LITERAL("SUBSCRIBE"), slice_from_string(connection->subscribe_to)});
    else
        connection_begin_step(connection, 1, (struct slice[]){SLICE_LITERAL("PING")});
    event_add(connection->timer, &limit);
    stream_flush(connection->stream);
}

/* Whatever else answers at this port must not pass for a Redis that works. */
static bool connection_is_answer(const char *step, const struct redis_reply *reply)
{
    if (strcmp(step, "SUBSCRIBE") != 0)
        return reply->type == REDIS_REPLY_STATUS;
    return reply->type == REDIS_REPLY_ARRAY && reply->element_count == 3 &&
           slice_equals_string(redis_reply_text(reply->elements[0]), "subscribe");
}

/* The user of the URI is not known to Redis, or Redis knows no users: hosting services put any name there,
 * and opal-server sends none. The password alone, once; when that fails too, the next attempt begins with the
 * user again. */
static bool connection_try_default_user(
    struct redis_connection *connection, const char *step, const char *why)
{
    bool had_user = connection->uri->user && connection->uri->password && !connection->as_default_user;
    if (!had_user || strcmp(step, "AUTH") != 0)
        return false;
    error_set(&connection->user_refusal, -1, "%s", why);
    redis_connection_open(connection);
    connection->as_default_user = true;
    return true;
}

static void connection_on_step(struct redis_connection *connection, const struct redis_reply *reply)
{
    char why[256];
    const char *step = connection->steps[connection->step];
    if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(why, sizeof why, "%.*s", (int)(reply->length < 200 ? reply->length : 200), reply->bytes);
        if (connection_try_default_user(connection, step, why))
            return;
        bool was_user = connection->as_default_user && strcmp(step, "AUTH") == 0;
        connection_fail(connection, step, was_user ? connection->user_refusal.text : why);
        return;
    }
    if (!connection_is_answer(step, reply)) {
        connection_fail(connection, step, "answered as Redis would not");
        return;
    }
    if (++connection->step < connection->step_count)
        return;
    event_del(connection->timer);
    connection->live = true;
    if (connection->as_default_user && connection->subscribe_to)
        log_write_limited(&connection->limit_default_user, LOG_WARNING, LOGGER_REDIS,
            "Redis does not accept the user '%s' of the URI with its password, but the password alone: "
            "connected as its default "
            "user, as opal-server does",
            connection->uri->user);
    connection->callbacks.live(connection->context);
}

/* Takes what the parser has. Returns false when the connection was closed meanwhile. */
static bool connection_take_replies(struct redis_connection *connection)
{
    uint64_t generation = connection->generation;
    void *object = NULL;
    while (connection->reading || !connection->live) {
        if (redisReaderGetReply(connection->reader, &object) != REDIS_OK) {
            connection_fail(connection, "not understood", redisReaderGetError(connection->reader));
            return false;
        }
        if (!object)
            break;
        struct redis_reply *reply = redis_reply_from(object);
        if (!connection->live)
            connection_on_step(connection, reply);
        else if (!connection->callbacks.reply(connection->context, reply))
            connection->reading = false;
        redis_reply_free(reply);
        if (connection->generation != generation)
            return false;
    }
    if (connection->reader->len - connection->reader->pos > connection->reply_max_bytes) {
        connection_fail(connection, "", "a message from Redis is longer than can be taken");
        return false;
    }
    return true;
}

static bool connection_on_data(void *context, const char *bytes, size_t length)
{
    struct redis_connection *connection = connection_from(context);
    if (redisReaderFeed(connection->reader, bytes, length) != REDIS_OK) {
        connection_fail(connection, "not understood", redisReaderGetError(connection->reader));
        return false;
    }
    return connection_take_replies(connection) && connection->reading;
}

static void connection_on_batch_end(void *context)
{
    struct redis_connection *connection = connection_from(context);
    connection->callbacks.batch_end(connection->context);
}

static void connection_on_again(evutil_socket_t descriptor, short what, void *context)
{
    struct redis_connection *connection = connection_from(context);
    (void)descriptor;
    (void)what;
    if (!connection->live || !connection->reading || !connection_take_replies(connection))
        return;
    connection->callbacks.batch_end(connection->context);
    if (connection->reading)
        stream_read(connection->stream, true);
}

static void connection_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct redis_connection *connection = connection_from(context);
    (void)descriptor;
    (void)what;
    connection_fail(connection, connection->steps[connection->step], "no answer in time");
}

static void connection_on_lost(void *context, const char *why)
{
    struct redis_connection *connection = connection_from(context);
    connection_fail(connection,
        connection->live || !connection->step_count ? "" : connection->steps[connection->step], why);
}

void redis_connection_open(struct redis_connection *connection)
{
    redis_connection_close(connection);
    connection->as_default_user = false;
    connection->reader = redis_reply_reader();
    connection->reading = true;
    stream_open(connection->stream, &connection->target);
}

void redis_connection_close(struct redis_connection *connection)
{
    connection->generation++;
    connection->live = false;
    connection->step_count = connection->step = 0;
    stream_close(connection->stream);
    event_del(connection->timer);
    event_del(connection->again);
    if (connection->reader)
        redisReaderFree(connection->reader);
    connection->reader = NULL;
}

void redis_connection_flush(struct redis_connection *connection)
{
    stream_flush(connection->stream);
}

size_t redis_connection_unwritten(const struct redis_connection *connection)
{
    return stream_unwritten(connection->stream);
}

void redis_connection_read(struct redis_connection *connection, bool on)
{
    if (connection->reading == on)
        return;
    connection->reading = on;
    if (!on)
        stream_read(connection->stream, false);
    else if (connection->live)
        event_active(
            connection->again, EV_TIMEOUT, 0); /* what the parser holds comes before what the socket holds */
}

void redis_connection_wait(struct redis_connection *connection, int timeout_ms)
{
    stream_wait(connection->stream, timeout_ms);
}

struct redis_connection *redis_connection_make(struct event_base *base, const struct redis_uri *uri,
    const char *subscribe_to, uint64_t user_timeout_ns, size_t reply_max_bytes,
    const struct redis_connection_callbacks *callbacks, void *context)
{
    static const struct stream_callbacks stream_callbacks = {.open = connection_on_open,
        .data = connection_on_data,
        .batch_end = connection_on_batch_end,
        .lost = connection_on_lost};
    struct redis_connection *connection = memory_allocate(sizeof *connection);
    connection->magic = REDIS_CONNECTION_MAGIC;
    connection->uri = uri;
    connection->subscribe_to = subscribe_to;
    connection->reply_max_bytes = reply_max_bytes;
    connection->callbacks = *callbacks;
    connection->context = context;
    connection->tls = (struct tls_client_settings){.ca_file = uri->ca_file,
        .ca_path = uri->ca_path,
        .certificate_file = uri->certificate_file,
        .key_file = uri->key_file,
        .key_password = uri->key_password,
        .verify = uri->verify,
        .verify_host = uri->verify_host};
    connection->target = (struct stream_target){.to = {.host = uri->host,
                                                    .port = uri->port,
                                                    .connect_timeout_ns = REDIS_CONNECT_TIMEOUT_NS,
                                                    .user_timeout_ns = user_timeout_ns},
        .tls = uri->tls ? &connection->tls : NULL};
    connection->stream = stream_make(base, &stream_callbacks, connection);
    connection->timer = event_new(base, -1, 0, connection_on_timer, connection);
    connection->again = event_new(base, -1, 0, connection_on_again, connection);
    return connection;
}

void redis_connection_free(struct redis_connection *connection)
{
    if (!connection)
        return;
    redis_connection_close(connection);
    stream_free(connection->stream);
    event_free(connection->timer);
    event_free(connection->again);
    connection->magic = 0;
    free(connection);
}
