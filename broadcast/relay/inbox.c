#include "broadcast/relay/inbox.h"

#include <assert.h>
#include <stdlib.h>

#include "shm/common/memory.h"

struct inbox_item {
    struct inbox_item *next;
    /* never INBOX_EMPTY */
    enum inbox_front kind;
    bool asked;
    uint64_t row;
    /* owned; INBOX_READY only */
    char *bytes;
    size_t length;
};

struct inbox {
    struct inbox_item *oldest;
    struct inbox_item *newest;
    size_t count;
    size_t bytes;
    size_t max_messages;
    size_t max_bytes;
    /* rows to be asked for; spares the walk in the usual case of none */
    size_t unasked;
};

struct inbox *inbox_make(size_t max_messages, size_t max_bytes)
{
    struct inbox *inbox = memory_allocate(sizeof *inbox);
    inbox->max_messages = max_messages;
    inbox->max_bytes = max_bytes;
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox)
        return;
    while (inbox->oldest)
        inbox_pop(inbox);
    free(inbox);
}

bool inbox_is_full(const struct inbox *inbox)
{
    return inbox->count >= inbox->max_messages || inbox->bytes >= inbox->max_bytes;
}

size_t inbox_count(const struct inbox *inbox)
{
    return inbox->count;
}

static struct inbox_item *append_item(struct inbox *inbox, enum inbox_front kind)
{
    struct inbox_item *item = memory_allocate(sizeof *item);
    item->kind = kind;
    if (inbox->newest)
        inbox->newest->next = item;
    else
        inbox->oldest = item;
    inbox->newest = item;
    inbox->count++;
    return item;
}

static void set_bytes(struct inbox *inbox, struct inbox_item *item, struct slice message)
{
    item->kind = INBOX_READY;
    item->bytes = memory_copy(message.data, message.length);
    item->length = message.length;
    inbox->bytes += message.length;
}

void inbox_append(struct inbox *inbox, struct slice message)
{
    set_bytes(inbox, append_item(inbox, INBOX_READY), message);
}

void inbox_append_row(struct inbox *inbox, uint64_t row)
{
    append_item(inbox, INBOX_AWAITS_ROW)->row = row;
    inbox->unasked++;
}

bool inbox_next_row(struct inbox *inbox, uint64_t *row)
{
    if (!inbox->unasked)
        return false;
    for (struct inbox_item *item = inbox->oldest; item; item = item->next) {
        if (item->kind == INBOX_AWAITS_ROW && !item->asked) {
            item->asked = true;
            inbox->unasked--;
            *row = item->row;
            return true;
        }
    }
    return false;
}

void inbox_ask_again(struct inbox *inbox)
{
    inbox->unasked = 0;
    for (struct inbox_item *item = inbox->oldest; item; item = item->next) {
        if (item->kind == INBOX_AWAITS_ROW) {
            item->asked = false;
            inbox->unasked++;
        }
    }
}

bool inbox_fill_row(struct inbox *inbox, uint64_t row, struct slice message)
{
    for (struct inbox_item *item = inbox->oldest; item; item = item->next) {
        if (item->kind == INBOX_AWAITS_ROW && item->asked && item->row == row) {
            if (message.data)
                set_bytes(inbox, item, message);
            else
                item->kind = INBOX_ROW_MISSING;
            return true;
        }
    }
    return false;
}

enum inbox_front inbox_front(const struct inbox *inbox, struct slice *message, uint64_t *row)
{
    const struct inbox_item *item = inbox->oldest;
    if (!item)
        return INBOX_EMPTY;
    *message = (struct slice){item->bytes, item->length};
    *row = item->row;
    return item->kind;
}

void inbox_pop(struct inbox *inbox)
{
    struct inbox_item *item = inbox->oldest;
    assert(item);
    if (item->kind == INBOX_AWAITS_ROW && !item->asked)
        inbox->unasked--;
    inbox->oldest = item->next;
    if (!inbox->oldest)
        inbox->newest = NULL;
    inbox->count--;
    inbox->bytes -= item->length;
    free(item->bytes);
    free(item);
}
