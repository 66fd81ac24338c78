#include "server/policy/bundle/bundle_entry.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/memory.h"

struct bundle_entry *bundle_entry_make(
    struct bundle_key *key, const char *repository, const char *head, uint64_t due_ns)
{
    struct bundle_entry *entry = memory_allocate(sizeof *entry);
    entry->key = *key;
    *key = (struct bundle_key){0};
    entry->repository = memory_copy_string(repository);
    strncpy(entry->head, head, sizeof entry->head - 1);
    entry->due_ns = due_ns;
    entry->body.descriptor = -1;
    return entry;
}

void bundle_entry_free(struct bundle_entry *entry)
{
    if (entry->body.descriptor >= 0)
        close(entry->body.descriptor);
    bundle_key_free(&entry->key);
    free(entry->askers);
    free(entry->repository);
    free(entry);
}

bool bundle_entry_is_built(const struct bundle_entry *entry)
{
    return entry->body.descriptor >= 0;
}

uint64_t bundle_entry_bytes(const struct bundle_entry *entry)
{
    return entry->body.json_bytes + entry->body.gzip_bytes;
}

void bundle_entry_add_asker(struct bundle_entry *entry, struct bundle_asker asker)
{
    if (entry->asker_count == entry->asker_capacity) {
        entry->asker_capacity = entry->asker_capacity ? entry->asker_capacity * 2 : 1;
        entry->askers = memory_resize(entry->askers, entry->asker_capacity * sizeof *entry->askers);
    }
    entry->askers[entry->asker_count++] = asker;
}

void bundle_entry_forget_askers(struct bundle_entry *entry)
{
    free(entry->askers);
    entry->askers = NULL;
    entry->asker_count = entry->asker_capacity = 0;
}

/* ---- by key ---- */

struct bundle_entry *bundle_table_find(const struct bundle_table *table, const struct bundle_key *key)
{
    struct bundle_entry *entry = table->buckets[key->hash % BUNDLE_ENTRY_BUCKETS];
    while (entry && !slice_equals(text_slice(&entry->key.bytes), text_slice(&key->bytes)))
        entry = entry->next_bucket;
    return entry;
}

void bundle_table_add(struct bundle_table *table, struct bundle_entry *entry)
{
    struct bundle_entry **bucket = &table->buckets[entry->key.hash % BUNDLE_ENTRY_BUCKETS];
    entry->next_bucket = *bucket;
    *bucket = entry;
    entry->findable = true;
}

void bundle_table_remove(struct bundle_table *table, struct bundle_entry *entry)
{
    struct bundle_entry **at = &table->buckets[entry->key.hash % BUNDLE_ENTRY_BUCKETS];
    if (!entry->findable)
        return;
    while (*at != entry)
        at = &(*at)->next_bucket;
    *at = entry->next_bucket;
    entry->findable = false;
}

/* ---- in order ---- */

void bundle_list_append(struct bundle_list *list, struct bundle_entry *entry)
{
    entry->next = NULL;
    entry->previous = list->last;
    if (list->last)
        list->last->next = entry;
    else
        list->first = entry;
    list->last = entry;
    list->count++;
}

void bundle_list_insert(
    struct bundle_list *list, struct bundle_entry *entry, const struct bundle_entry *fixed)
{
    struct bundle_entry *before = list->last;
    while (before && before != fixed && before->order > entry->order)
        before = before->previous;
    if (before == list->last) {
        bundle_list_append(list, entry);
        return;
    }
    entry->previous = before;
    entry->next = before ? before->next : list->first;
    entry->next->previous = entry;
    if (before)
        before->next = entry;
    else
        list->first = entry;
    list->count++;
}

void bundle_list_remove(struct bundle_list *list, struct bundle_entry *entry)
{
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        list->first = entry->next;
    if (entry->next)
        entry->next->previous = entry->previous;
    else
        list->last = entry->previous;
    list->count--;
}
