/*
 * Replies of Redis, built by hiredis' incremental parser (bytes in, replies out, no I/O) with object
 * functions of our own: what a peer may make us allocate is limited, and one reply is one flat object.
 */
#ifndef OPALD_BROADCAST_REDIS_REDIS_REPLY_H
#define OPALD_BROADCAST_REDIS_REDIS_REPLY_H

#include <hiredis/read.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"

/* A pub/sub message has three elements; nothing we ask for is answered by more. */
#define REDIS_REPLY_ELEMENTS_MAX 8

struct redis_reply {
    uint32_t magic;
    /* REDIS_REPLY_* of hiredis */
    int type;
    long long integer;
    /* owned: string, status, error */
    char *bytes;
    size_t length;
    int element_count;
    /* owned */
    struct redis_reply *elements[REDIS_REPLY_ELEMENTS_MAX];
};

/* Free with redisReaderFree. Get replies by redisReaderGetReply, free them by redis_reply_free. */
redisReader *redis_reply_reader(void);
/* What the reader gave. */
struct redis_reply *redis_reply_from(void *object);
/* NULL is allowed. */
void redis_reply_free(void *object);
/* The bytes of a string, status or error; absent for anything else. */
struct slice redis_reply_text(const struct redis_reply *reply);

#endif
