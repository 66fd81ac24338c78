#include "broadcast/relay/replay_buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

/* A linked list: each message is allocated on its own anyway, dropping from the middle is cheap, and nothing
 * is moved while the buffer grows to thousands in an outage. */
struct replay_item {
    struct replay_item *next;
    size_t length;
    /* 0: nobody asks after it */
    uint64_t token;
    bool control;
    char bytes[];
};

struct replay_buffer {
    struct replay_item *oldest;
    struct replay_item *newest;
    /* NULL: nothing is */
    struct replay_item *last_in_flight;
    size_t max_messages;
    size_t max_bytes;
    /* not control */
    size_t count;
    /* control messages */
    size_t controls;
    size_t bytes;
    size_t in_flight;
    size_t in_flight_bytes;
    /* NULL: nobody is told */
    replay_buffer_dropped *dropped;
    void *dropped_context;
};

struct replay_buffer *replay_buffer_make(size_t max_messages, size_t max_bytes)
{
    struct replay_buffer *buffer = memory_allocate(sizeof *buffer);
    replay_buffer_limit(buffer, max_messages, max_bytes);
    return buffer;
}

void replay_buffer_free(struct replay_buffer *buffer)
{
    if (!buffer)
        return;
    buffer->dropped = NULL;
    replay_buffer_clear(buffer);
    free(buffer);
}

void replay_buffer_limit(struct replay_buffer *buffer, size_t max_messages, size_t max_bytes)
{
    buffer->max_messages = max_messages;
    buffer->max_bytes = max_bytes;
}

void replay_buffer_on_dropped(struct replay_buffer *buffer, replay_buffer_dropped *dropped, void *context)
{
    buffer->dropped = dropped;
    buffer->dropped_context = context;
}

void replay_buffer_set_token(struct replay_buffer *buffer, uint64_t token)
{
    if (buffer->newest)
        buffer->newest->token = token;
}

uint64_t replay_buffer_token_in_flight(const struct replay_buffer *buffer)
{
    return buffer->last_in_flight ? buffer->oldest->token : 0;
}

static void tell_dropped(const struct replay_buffer *buffer, uint64_t token)
{
    if (token && buffer->dropped)
        buffer->dropped(buffer->dropped_context, token);
}

static struct replay_item *first_waiting(const struct replay_buffer *buffer)
{
    return buffer->last_in_flight ? buffer->last_in_flight->next : buffer->oldest;
}

static void account_removal(struct replay_buffer *buffer, const struct replay_item *item)
{
    buffer->bytes -= item->length;
    if (item->control)
        buffer->controls--;
    else
        buffer->count--;
}

/* Unlinks and frees the item after `before` (NULL: the oldest). */
static void remove_after(struct replay_buffer *buffer, struct replay_item *before)
{
    struct replay_item **link = before ? &before->next : &buffer->oldest;
    struct replay_item *item = *link;
    *link = item->next;
    if (buffer->newest == item)
        buffer->newest = before;
    account_removal(buffer, item);
    free(item);
}

/* Drops the oldest waiting message that is not control. False when there is none. */
static bool drop_oldest_waiting(struct replay_buffer *buffer)
{
    struct replay_item *before = buffer->last_in_flight;
    for (struct replay_item *item = first_waiting(buffer); item; item = item->next) {
        if (!item->control) {
            uint64_t token = item->token;
            remove_after(buffer, before);
            tell_dropped(buffer, token);
            return true;
        }
        before = item;
    }
    return false;
}

/* `before` NULL: it becomes the oldest. */
static void link_after(struct replay_buffer *buffer, struct replay_item *before, struct replay_item *item)
{
    struct replay_item **link = before ? &before->next : &buffer->oldest;
    item->next = *link;
    *link = item;
    if (!item->next)
        buffer->newest = item;
}

static size_t waiting_bytes(const struct replay_buffer *buffer)
{
    return buffer->bytes - buffer->in_flight_bytes;
}

/* Could `length` more bytes fit if everything that waits were dropped? Asked first, so that nothing is
 * dropped in vain. */
static bool can_make_room(const struct replay_buffer *buffer, size_t length)
{
    size_t kept_messages = buffer->count + buffer->controls > buffer->in_flight
                               ? buffer->in_flight
                               : buffer->count + buffer->controls;
    size_t kept_bytes = buffer->bytes - waiting_bytes(buffer);
    return kept_messages < buffer->max_messages && length <= buffer->max_bytes &&
           kept_bytes <= buffer->max_bytes - length;
}

bool replay_buffer_append(struct replay_buffer *buffer, struct slice message, bool control, size_t *dropped)
{
    *dropped = 0;
    if (!control) {
        if (!can_make_room(buffer, message.length))
            return false;
        while (buffer->count >= buffer->max_messages || buffer->bytes > buffer->max_bytes - message.length) {
            if (!drop_oldest_waiting(buffer))
                break; /* control messages are few and small: a little above the bound is all right */
            ++*dropped;
        }
    }
    struct replay_item *item = memory_allocate(sizeof *item + message.length + 1);
    item->length = message.length;
    item->control = control;
    if (message.length)
        memcpy(item->bytes, message.data, message.length);
    /* A control message goes ahead of all that waits. */
    link_after(buffer, control ? buffer->last_in_flight : buffer->newest, item);
    buffer->bytes += item->length;
    if (control)
        buffer->controls++;
    else
        buffer->count++;
    return true;
}

bool replay_buffer_next(const struct replay_buffer *buffer, bool control_only, struct slice *message)
{
    const struct replay_item *item = first_waiting(buffer);
    if (!item || (control_only && !item->control))
        return false;
    *message = (struct slice){item->bytes, item->length};
    return true;
}

void replay_buffer_sent(struct replay_buffer *buffer)
{
    struct replay_item *item = first_waiting(buffer);
    assert(item);
    buffer->last_in_flight = item;
    buffer->in_flight++;
    buffer->in_flight_bytes += item->length;
}

bool replay_buffer_done(struct replay_buffer *buffer, bool *control)
{
    struct replay_item *item = buffer->oldest;
    if (!buffer->last_in_flight)
        return false;
    *control = item->control;
    buffer->in_flight--;
    buffer->in_flight_bytes -= item->length;
    if (buffer->last_in_flight == item)
        buffer->last_in_flight = NULL;
    remove_after(buffer, NULL);
    return true;
}

bool replay_buffer_oldest_in_flight(const struct replay_buffer *buffer, struct slice *message)
{
    if (!buffer->last_in_flight)
        return false;
    *message = (struct slice){buffer->oldest->bytes, buffer->oldest->length};
    return true;
}

void replay_buffer_rewind(struct replay_buffer *buffer)
{
    struct replay_item *before = NULL;
    buffer->last_in_flight = NULL;
    buffer->in_flight = 0;
    buffer->in_flight_bytes = 0;
    for (struct replay_item *item = buffer->oldest; item;) {
        struct replay_item *next = item->next;
        if (item->control)
            remove_after(buffer, before);
        else
            before = item;
        item = next;
    }
}

size_t replay_buffer_clear(struct replay_buffer *buffer)
{
    size_t count = buffer->count;
    buffer->last_in_flight = NULL;
    buffer->in_flight = 0;
    buffer->in_flight_bytes = 0;
    while (buffer->oldest) {
        uint64_t token = buffer->oldest->token;
        remove_after(buffer, NULL);
        tell_dropped(buffer, token);
    }
    return count;
}

size_t replay_buffer_count(const struct replay_buffer *buffer)
{
    return buffer->count;
}

size_t replay_buffer_in_flight(const struct replay_buffer *buffer)
{
    return buffer->in_flight;
}

size_t replay_buffer_bytes(const struct replay_buffer *buffer)
{
    return buffer->bytes;
}

size_t replay_buffer_in_flight_bytes(const struct replay_buffer *buffer)
{
    return buffer->in_flight_bytes;
}
