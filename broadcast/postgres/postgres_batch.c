#include "broadcast/postgres/postgres_batch.h"

#include <string.h>

/* More than one message only up to this size. */
#define BATCH_BYTES_MAX ((size_t)1024 * 1024)

/* FNV-1a, 64 bits. Two different messages with one hash only cost a second transaction. */
static uint64_t batch_hash(struct slice message)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < message.length; i++)
        hash = (hash ^ (unsigned char)message.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static bool batch_contains(const struct postgres_batch *batch, uint64_t hash)
{
    for (unsigned i = 0; i < batch->count; i++)
        if (batch->hashes[i] == hash)
            return true;
    return false;
}

static bool batch_has_room(const struct postgres_batch *batch, size_t length)
{
    if (batch->sent || batch->no_table)
        return false;
    return !batch->count ||
           (!batch->singles && batch->count < POSTGRES_BATCH_MAX && batch->bytes + length <= BATCH_BYTES_MAX);
}

bool postgres_batch_add(struct postgres_batch *batch, struct slice message)
{
    if (!batch_has_room(batch, message.length))
        return false;
    uint64_t hash = batch_hash(message);
    if (batch_contains(batch, hash))
        return false;
    batch->hashes[batch->count++] = hash;
    batch->bytes += message.length;
    return true;
}

void postgres_batch_take_back(struct postgres_batch *batch, struct slice message)
{
    batch->count--;
    batch->bytes -= message.length;
}

void postgres_batch_failed(struct postgres_batch *batch, const char *code, struct slice why)
{
    if (batch->error.length)
        return; /* after the first error the rest is only skipped */
    text_append_slice(&batch->error, why.length ? why : SLICE_LITERAL("the statement failed"));
    /* Class 22 (data exception: too long, not to be represented) is the message's fault and will be so again.
     * Anything else, such as a full disk or a dropped table, is the server's and may pass: the message is
     * kept, and the start of the next connection looks again. */
    batch->data_error = code && strncmp(code, "22", 2) == 0;
    batch->too_long = code && strcmp(code, "22023") == 0;
}

static void batch_clear(struct postgres_batch *batch)
{
    batch->count = 0;
    batch->bytes = 0;
    batch->sent = batch->no_table = batch->data_error = batch->too_long = false;
    text_clear(&batch->error);
}

enum postgres_batch_end postgres_batch_finish(
    struct postgres_batch *batch, unsigned *count, bool *too_long, struct text *why)
{
    enum postgres_batch_end end = !batch->error.length ? POSTGRES_BATCH_DONE
                                  : !batch->data_error ? POSTGRES_BATCH_BROKEN
                                  : batch->count == 1  ? POSTGRES_BATCH_REFUSED
                                                       : POSTGRES_BATCH_AGAIN;
    *count = batch->count;
    *too_long = batch->too_long;
    *why = batch->error;
    batch->error = (struct text){0};
    if (end == POSTGRES_BATCH_AGAIN)
        batch->singles = batch->count;
    else
        batch->singles -= batch->singles > batch->count ? batch->count : batch->singles;
    batch_clear(batch);
    return end;
}

void postgres_batch_reset(struct postgres_batch *batch)
{
    batch_clear(batch);
    batch->singles = 0;
}

void postgres_batch_free(struct postgres_batch *batch)
{
    text_free(&batch->error);
}
