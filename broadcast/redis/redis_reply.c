#include "broadcast/redis/redis_reply.h"

#include <stdlib.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"

#define REDIS_REPLY_MAGIC 0x72707279u

struct redis_reply *redis_reply_from(void *object)
{
    return object_cast(struct redis_reply, REDIS_REPLY_MAGIC, object);
}

/* Makes an object and puts it where its parent keeps it. */
static struct redis_reply *reply_make(const redisReadTask *task)
{
    struct redis_reply *reply = memory_allocate(sizeof *reply);
    reply->magic = REDIS_REPLY_MAGIC;
    reply->type = task->type;
    if (task->parent) {
        struct redis_reply *parent = redis_reply_from(task->parent->obj);
        if (task->idx >= 0 && task->idx < parent->element_count)
            parent->elements[task->idx] = reply;
    }
    return reply;
}

static void *reply_string(const redisReadTask *task, char *bytes, size_t length)
{
    struct redis_reply *reply = reply_make(task);
    reply->bytes = memory_copy(bytes, length);
    reply->length = length;
    return reply;
}

static void *reply_array(const redisReadTask *task, int elements)
{
    if (elements < 0 || elements > REDIS_REPLY_ELEMENTS_MAX)
        return NULL; /* the parser reports an error; the connection is dropped */
    struct redis_reply *reply = reply_make(task);
    reply->element_count = elements;
    return reply;
}

static void *reply_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *reply = reply_make(task);
    reply->integer = value;
    return reply;
}

static void *reply_nil(const redisReadTask *task)
{
    struct redis_reply *reply = reply_make(task);
    reply->type = REDIS_REPLY_NIL; /* the task's is that of a string or an array */
    return reply;
}

void redis_reply_free(void *object)
{
    if (!object)
        return;
    struct redis_reply *reply = redis_reply_from(object);
    for (int i = 0; i < reply->element_count; i++)
        redis_reply_free(reply->elements[i]);
    reply->magic = 0;
    free(reply->bytes);
    free(reply);
}

redisReader *redis_reply_reader(void)
{
    static redisReplyObjectFunctions functions = {.createString = reply_string,
        .createArray = reply_array,
        .createInteger = reply_integer,
        .createNil = reply_nil,
        .freeObject = redis_reply_free};
    return redisReaderCreateWithFunctions(&functions);
}

struct slice redis_reply_text(const struct redis_reply *reply)
{
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS &&
                      reply->type != REDIS_REPLY_ERROR))
        return (struct slice){0};
    return (struct slice){reply->bytes, reply->length};
}
