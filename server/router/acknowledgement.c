#include "server/router/acknowledgement.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "shm/common/memory.h"

struct acknowledgement_entry {
    TAILQ_ENTRY(acknowledgement_entry) link;
    uint64_t token;
    uint64_t deadline_ns;
    /* messages not done, the router's own share included */
    uint64_t left;
    struct ring_acknowledgement answer;
};

TAILQ_HEAD(acknowledgement_list, acknowledgement_entry);

/* Tokens rise, and backbones report in order: a search in `waiting` mostly ends at its first entry. */
struct acknowledgements {
    /* in the order of their tokens, and so of their deadlines */
    struct acknowledgement_list waiting;
    struct acknowledgement_list due;
    size_t count;
    size_t entries_max;
    uint64_t next_token;
};

struct acknowledgements *acknowledgement_make(size_t entries_max)
{
    struct acknowledgements *acknowledgements = memory_allocate(sizeof *acknowledgements);
    TAILQ_INIT(&acknowledgements->waiting);
    TAILQ_INIT(&acknowledgements->due);
    acknowledgements->entries_max = entries_max;
    acknowledgements->next_token = 1;
    return acknowledgements;
}

static void acknowledgement_end(struct acknowledgements *acknowledgements, struct acknowledgement_list *list,
    struct acknowledgement_entry *entry)
{
    TAILQ_REMOVE(list, entry, link);
    acknowledgements->count--;
    free(entry);
}

static void acknowledgement_end_all(
    struct acknowledgements *acknowledgements, struct acknowledgement_list *list)
{
    while (!TAILQ_EMPTY(list))
        acknowledgement_end(acknowledgements, list, TAILQ_FIRST(list));
}

static void acknowledgement_end_worker(
    struct acknowledgements *acknowledgements, struct acknowledgement_list *list, uint32_t origin)
{
    struct acknowledgement_entry *next;
    for (struct acknowledgement_entry *entry = TAILQ_FIRST(list); entry; entry = next) {
        next = TAILQ_NEXT(entry, link);
        if (entry->answer.origin == origin)
            acknowledgement_end(acknowledgements, list, entry);
    }
}

void acknowledgement_free(struct acknowledgements *acknowledgements)
{
    if (!acknowledgements)
        return;
    acknowledgement_end_all(acknowledgements, &acknowledgements->waiting);
    acknowledgement_end_all(acknowledgements, &acknowledgements->due);
    free(acknowledgements);
}

static struct acknowledgement_entry *acknowledgement_find(
    const struct acknowledgements *acknowledgements, uint64_t token)
{
    struct acknowledgement_entry *entry = TAILQ_FIRST(&acknowledgements->waiting);
    for (; entry; entry = TAILQ_NEXT(entry, link)) {
        if (entry->token == token)
            return entry;
        if (entry->token > token)
            break;
    }
    return NULL;
}

uint64_t acknowledgement_begin(struct acknowledgements *acknowledgements, const struct ring_event *event,
    uint64_t now_ns, uint64_t deadline_ns)
{
    struct acknowledgement_entry *oldest;
    while ((oldest = TAILQ_FIRST(&acknowledgements->waiting)) && oldest->deadline_ns <= now_ns)
        acknowledgement_end(acknowledgements, &acknowledgements->waiting, oldest);
    if (acknowledgements->count >= acknowledgements->entries_max)
        return 0;
    struct acknowledgement_entry *entry = memory_allocate(sizeof *entry);
    entry->token = acknowledgements->next_token++;
    entry->deadline_ns = deadline_ns;
    entry->left = 1;
    entry->answer = (struct ring_acknowledgement){
        .ticket = event->ticket, .origin = event->origin, .incarnation = event->incarnation, .ok = 1};
    TAILQ_INSERT_TAIL(&acknowledgements->waiting, entry, link);
    acknowledgements->count++;
    return entry->token;
}

void acknowledgement_expect(struct acknowledgements *acknowledgements, uint64_t token)
{
    struct acknowledgement_entry *entry =
        TAILQ_LAST(&acknowledgements->waiting, acknowledgement_list); /* the one just begun */
    if (!entry || entry->token != token)
        entry = acknowledgement_find(acknowledgements, token);
    if (entry)
        entry->left++;
}

bool acknowledgement_done(struct acknowledgements *acknowledgements, uint64_t token, bool ok)
{
    struct acknowledgement_entry *entry = TAILQ_LAST(&acknowledgements->waiting, acknowledgement_list);
    if (!entry || entry->token != token)
        entry = acknowledgement_find(acknowledgements, token);
    if (!entry)
        return false;
    if (!ok)
        entry->answer.ok = 0;
    if (--entry->left)
        return false;
    TAILQ_REMOVE(&acknowledgements->waiting, entry, link);
    TAILQ_INSERT_TAIL(&acknowledgements->due, entry, link);
    return true;
}

bool acknowledgement_due(const struct acknowledgements *acknowledgements, struct ring_acknowledgement *answer)
{
    const struct acknowledgement_entry *entry = TAILQ_FIRST(&acknowledgements->due);
    if (entry)
        *answer = entry->answer;
    return entry != NULL;
}

void acknowledgement_answered(struct acknowledgements *acknowledgements)
{
    struct acknowledgement_entry *entry = TAILQ_FIRST(&acknowledgements->due);
    if (entry)
        acknowledgement_end(acknowledgements, &acknowledgements->due, entry);
}

void acknowledgement_forget_worker(struct acknowledgements *acknowledgements, uint32_t origin)
{
    acknowledgement_end_worker(acknowledgements, &acknowledgements->waiting, origin);
    acknowledgement_end_worker(acknowledgements, &acknowledgements->due, origin);
}

size_t acknowledgement_count(const struct acknowledgements *acknowledgements)
{
    return acknowledgements->count;
}
