#include "server/router/acknowledgement.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "shm/common/memory.h"

struct certainty_entry {
    TAILQ_ENTRY(certainty_entry) link;
    uint64_t token;
    uint64_t deadline_ns;
    uint64_t left; /* messages not done, the router's own share included */
    struct event_acknowledgement answer;
};

TAILQ_HEAD(certainty_list, certainty_entry);

/* Two queues. Tokens rise, and backbones report in order, so that a search in `waiting` mostly ends at its first entry. */
struct certainty {
    struct certainty_list waiting; /* in order of their tokens, and so of their deadlines */
    struct certainty_list due;
    size_t count;
    size_t entries_max;
    uint64_t next_token;
};

struct certainty *certainty_make(size_t entries_max)
{
    struct certainty *certainty = memory_allocate(sizeof *certainty);
    TAILQ_INIT(&certainty->waiting);
    TAILQ_INIT(&certainty->due);
    certainty->entries_max = entries_max;
    certainty->next_token = 1;
    return certainty;
}

static void certainty_end(
    struct certainty *certainty, struct certainty_list *list, struct certainty_entry *entry)
{
    TAILQ_REMOVE(list, entry, link);
    certainty->count--;
    free(entry);
}

static void certainty_end_all(struct certainty *certainty, struct certainty_list *list,
    bool (*which)(void *, const struct certainty_entry *), void *context)
{
    struct certainty_entry *next;
    for (struct certainty_entry *entry = TAILQ_FIRST(list); entry; entry = next) {
        next = TAILQ_NEXT(entry, link);
        if (which(context, entry))
            certainty_end(certainty, list, entry);
    }
}

static bool is_any(void *context, const struct certainty_entry *entry)
{
    (void)context;
    (void)entry;
    return true;
}

static bool is_of_worker(void *context, const struct certainty_entry *entry)
{
    return entry->answer.origin == *(const uint32_t *)context;
}

void certainty_free(struct certainty *certainty)
{
    if (!certainty)
        return;
    certainty_end_all(certainty, &certainty->waiting, is_any, NULL);
    certainty_end_all(certainty, &certainty->due, is_any, NULL);
    free(certainty);
}

static struct certainty_entry *certainty_find(const struct certainty *certainty, uint64_t token)
{
    struct certainty_entry *entry = TAILQ_FIRST(&certainty->waiting);
    for (; entry; entry = TAILQ_NEXT(entry, link)) {
        if (entry->token == token)
            return entry;
        if (entry->token > token)
            break;
    }
    return NULL;
}

uint64_t certainty_begin(
    struct certainty *certainty, const struct event *event, uint64_t now_ns, uint64_t deadline_ns)
{
    struct certainty_entry *oldest;
    while ((oldest = TAILQ_FIRST(&certainty->waiting)) && oldest->deadline_ns <= now_ns)
        certainty_end(certainty, &certainty->waiting, oldest);
    if (certainty->count >= certainty->entries_max)
        return 0;
    struct certainty_entry *entry = memory_allocate(sizeof *entry);
    entry->token = certainty->next_token++;
    entry->deadline_ns = deadline_ns;
    entry->left = 1;
    entry->answer = (struct event_acknowledgement){
        .ticket = event->ticket, .origin = event->origin, .incarnation = event->incarnation, .ok = 1};
    TAILQ_INSERT_TAIL(&certainty->waiting, entry, link);
    certainty->count++;
    return entry->token;
}

void certainty_expect(struct certainty *certainty, uint64_t token)
{
    struct certainty_entry *entry = TAILQ_LAST(&certainty->waiting, certainty_list); /* the one just begun */
    if (!entry || entry->token != token)
        entry = certainty_find(certainty, token);
    if (entry)
        entry->left++;
}

bool certainty_done(struct certainty *certainty, uint64_t token, bool ok)
{
    struct certainty_entry *entry = TAILQ_LAST(&certainty->waiting, certainty_list);
    if (!entry || entry->token != token)
        entry = certainty_find(certainty, token);
    if (!entry)
        return false;
    if (!ok)
        entry->answer.ok = 0;
    if (--entry->left)
        return false;
    TAILQ_REMOVE(&certainty->waiting, entry, link);
    TAILQ_INSERT_TAIL(&certainty->due, entry, link);
    return true;
}

bool certainty_due(const struct certainty *certainty, struct event_acknowledgement *answer)
{
    const struct certainty_entry *entry = TAILQ_FIRST(&certainty->due);
    if (entry)
        *answer = entry->answer;
    return entry != NULL;
}

void certainty_answered(struct certainty *certainty)
{
    struct certainty_entry *entry = TAILQ_FIRST(&certainty->due);
    if (entry)
        certainty_end(certainty, &certainty->due, entry);
}

void certainty_forget_worker(struct certainty *certainty, uint32_t origin)
{
    certainty_end_all(certainty, &certainty->waiting, is_of_worker, &origin);
    certainty_end_all(certainty, &certainty->due, is_of_worker, &origin);
}

size_t certainty_count(const struct certainty *certainty)
{
    return certainty->count;
}
