#include "worker/net/output_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include "shm/common/memory.h"

#define OUTPUT_IOVECS 64

struct output_block {
    uint32_t references;
    size_t length;
    const char *bytes;
    /* NULL: they stand behind this struct */
    void (*release)(void *owner);
    void *owner;
    /* NULL for borrowed ones */
    uint64_t *ledger;
    char own[];
};

struct output_frame {
    struct output_frame *next;
    struct output_block *block;
    /* of head + block + tail */
    size_t sent;
    uint32_t head_length;
    uint32_t tail_length;
    bool delivery;
    /* head, then tail */
    char own[];
};

struct output_block *output_block_make(struct slice bytes, uint64_t *ledger)
{
    struct output_block *block = memory_allocate(sizeof *block + bytes.length);
    block->references = 1;
    block->length = bytes.length;
    block->bytes = block->own;
    block->ledger = ledger;
    *ledger += sizeof *block + bytes.length;
    memcpy(block->own, bytes.data, bytes.length);
    return block;
}

struct output_block *output_block_borrow(struct slice bytes, void (*release)(void *owner), void *owner)
{
    struct output_block *block = memory_allocate(sizeof *block);
    block->references = 1;
    block->length = bytes.length;
    block->bytes = bytes.data;
    block->release = release;
    block->owner = owner;
    return block;
}

struct slice output_block_bytes(const struct output_block *block)
{
    return (struct slice){block->bytes, block->length};
}

struct output_block *output_block_take(struct output_block *block)
{
    block->references++;
    return block;
}

void output_block_drop(struct output_block *block)
{
    if (!block || --block->references > 0)
        return;
    if (block->ledger)
        *block->ledger -= sizeof *block + block->length;
    if (block->release)
        block->release(block->owner);
    free(block);
}

static size_t frame_block_length(const struct output_frame *frame)
{
    return frame->block ? frame->block->length : 0;
}

static size_t frame_length(const struct output_frame *frame)
{
    return frame->head_length + frame_block_length(frame) + frame->tail_length;
}

static size_t frame_memory(const struct output_frame *frame)
{
    return sizeof *frame + frame->head_length + frame->tail_length;
}

static void frame_free(const struct output_queue *queue, struct output_frame *frame)
{
    *queue->ledger -= frame_memory(frame);
    output_block_drop(frame->block);
    free(frame);
}

void output_queue_append(struct output_queue *queue, const struct output_parts *parts)
{
    struct output_frame *frame = memory_allocate(sizeof *frame + parts->head.length + parts->tail.length);
    frame->block = parts->block;
    frame->sent = parts->sent;
    frame->head_length = (uint32_t)parts->head.length;
    frame->tail_length = (uint32_t)parts->tail.length;
    frame->delivery = parts->delivery;
    memcpy(frame->own, parts->head.data, parts->head.length);
    if (parts->tail.length > 0)
        memcpy(frame->own + parts->head.length, parts->tail.data, parts->tail.length);
    if (queue->last)
        queue->last->next = frame;
    else
        queue->first = frame;
    queue->last = frame;
    queue->bytes += frame_length(frame) - frame->sent;
    *queue->ledger += frame_memory(frame);
}

/* Adds the part of `bytes` that lies behind the first `*skip` bytes. */
static size_t iovec_add(struct iovec *vector, size_t count, const char *bytes, size_t length, size_t *skip)
{
    if (*skip >= length) {
        *skip -= length;
        return count;
    }
    vector[count] = (struct iovec){(void *)(uintptr_t)(bytes + *skip), length - *skip};
    *skip = 0;
    return count + 1;
}

static size_t queue_gather(const struct output_queue *queue, struct iovec *vector)
{
    size_t count = 0;
    for (struct output_frame *frame = queue->first; frame && count + 3 <= OUTPUT_IOVECS;
         frame = frame->next) {
        size_t skip = frame->sent;
        count = iovec_add(vector, count, frame->own, frame->head_length, &skip);
        if (frame->block)
            count = iovec_add(vector, count, frame->block->bytes, frame->block->length, &skip);
        count = iovec_add(vector, count, frame->own + frame->head_length, frame->tail_length, &skip);
    }
    return count;
}

static void queue_advance(struct output_queue *queue, size_t sent)
{
    queue->bytes -= sent;
    while (queue->first) {
        struct output_frame *frame = queue->first;
        size_t left = frame_length(frame) - frame->sent;
        if (sent < left) {
            frame->sent += sent;
            return;
        }
        sent -= left;
        queue->first = frame->next;
        if (!queue->first)
            queue->last = NULL;
        frame_free(queue, frame);
    }
}

static enum output_result flush_failed(void)
{
    return transport_would_block(errno) ? OUTPUT_AGAIN : OUTPUT_ERROR;
}

enum output_result output_queue_flush(
    struct output_queue *queue, struct transport *transport, size_t *sent, uint64_t *calls)
{
    *sent = 0;
    while (queue->first) {
        struct iovec vector[OUTPUT_IOVECS];
        size_t count = queue_gather(queue, vector);
        ssize_t taken = transport_send(transport, vector, count, calls);
        if (taken < 0)
            return flush_failed();
        *sent += (size_t)taken;
        queue_advance(queue, (size_t)taken);
    }
    /* The last bytes may be encrypted, but not out yet. */
    if (transport->holding && transport_push(transport) < 0)
        return flush_failed();
    return OUTPUT_DONE;
}

size_t output_queue_drop_unsent(struct output_queue *queue)
{
    size_t deliveries = 0;
    struct output_frame *kept = queue->first && queue->first->sent > 0 ? queue->first : NULL;
    struct output_frame *frame = kept ? kept->next : queue->first;
    while (frame) {
        struct output_frame *next = frame->next;
        deliveries += frame->delivery;
        frame_free(queue, frame);
        frame = next;
    }
    queue->first = queue->last = kept;
    queue->bytes = 0;
    if (kept) {
        kept->next = NULL;
        queue->bytes = frame_length(kept) - kept->sent;
    }
    return deliveries;
}

size_t output_queue_clear(struct output_queue *queue)
{
    size_t deliveries = output_queue_drop_unsent(queue);
    if (queue->first) {
        deliveries += queue->first->delivery;
        frame_free(queue, queue->first);
        queue->first = queue->last = NULL;
        queue->bytes = 0;
    }
    return deliveries;
}
