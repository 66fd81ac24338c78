/*
 * The messages of one transaction, as they are sent and as the answers come in; at most one batch at a time.
 * Pure.
 *
 * Within one transaction Postgres delivers two equal notifications as one. So a message that may equal one of
 * its batch (same hash) starts the next one.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_BATCH_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

#define POSTGRES_BATCH_MAX 256

/* Zero-initialise; postgres_batch_free. */
struct postgres_batch {
    unsigned count;
    size_t bytes;
    /* its sync is out */
    bool sent;
    /* its only message needs the table that is not there; nothing was sent */
    bool no_table;
    /* the first error is the message's own fault */
    bool data_error;
    bool too_long;
    /* so many of the next messages go in batches of one: a batch with several has failed */
    unsigned singles;
    struct text error;
    uint64_t hashes[POSTGRES_BATCH_MAX];
};

/* What the answer to a whole batch comes to. */
enum postgres_batch_end {
    /* committed */
    POSTGRES_BATCH_DONE,
    /* its only message will never be taken */
    POSTGRES_BATCH_REFUSED,
    /* one of its messages will never be taken: all are to be sent again, one by one */
    POSTGRES_BATCH_AGAIN,
    /* the server's fault: the messages are kept, the connection is given up */
    POSTGRES_BATCH_BROKEN,
};

/* True: `message` may join; it is counted in. */
MUST_CHECK bool postgres_batch_add(struct postgres_batch *batch, struct slice message);
/* The last one added could not be sent. */
void postgres_batch_take_back(struct postgres_batch *batch, struct slice message);
/* One statement failed: `code` is its SQLSTATE (NULL: none), `why` the reason. Only the first of a batch
 * counts. */
void postgres_batch_failed(struct postgres_batch *batch, const char *code, struct slice why);
/* The sync that ends it is answered. The batch is empty afterwards; *count is what it had, *why (owned by the
 * caller) its error. */
MUST_CHECK enum postgres_batch_end postgres_batch_finish(
    struct postgres_batch *batch, unsigned *count, bool *too_long, struct text *why);
/* The connection is gone. */
void postgres_batch_reset(struct postgres_batch *batch);
void postgres_batch_free(struct postgres_batch *batch);

#endif
