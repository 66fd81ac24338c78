/*
 * One bundle of the store: who waits for it, or what was built. And the two ways to hold entries: a table by
 * key, and a list in order. Plain data; no I/O but closing descriptors. For bundle_store.c.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_ENTRY_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_key.h"
#include "server/policy/bundle/bundle_output.h"

#define BUNDLE_ENTRY_BUCKETS 1024

/* Who asks: given back with the answer; it means nothing here. */
struct bundle_asker {
    uint64_t peer;
    uint64_t id;
    /* Which client it is (a hash): builds are shared out by it. */
    uint64_t client;
    /* With a base, though it may be none that the repository has. */
    bool with_base;
};

struct bundle_entry {
    struct bundle_entry *next_bucket;
    struct bundle_entry *next;
    struct bundle_entry *previous;
    /* It is in the table: it belongs to the commit that is served. */
    bool findable;
    /* Builds that were begun. */
    unsigned attempts;
    struct bundle_key key;
    char *repository;
    char head[BUNDLE_HASH_LENGTH + 1];
    /* When it must be there (clock_monotonic_ns). */
    uint64_t due_ns;
    /* The client that asked first, and the place in the queue: lower ones are built first. */
    uint64_t client;
    size_t order;
    struct bundle_asker *askers;
    size_t asker_count;
    size_t asker_capacity;
    /* Its descriptor is -1 until it is built. */
    struct bundle_body body;
};

/* Takes `key` over. Never NULL. */
struct bundle_entry *bundle_entry_make(
    struct bundle_key *key, const char *repository, const char *head, uint64_t due_ns);
/* It must be in no table and no list. */
void bundle_entry_free(struct bundle_entry *entry);
bool bundle_entry_is_built(const struct bundle_entry *entry);
/* Of memory, when it is built. */
uint64_t bundle_entry_bytes(const struct bundle_entry *entry);
void bundle_entry_add_asker(struct bundle_entry *entry, struct bundle_asker asker);
void bundle_entry_forget_askers(struct bundle_entry *entry);

/* Zero-initialise. */
struct bundle_table {
    struct bundle_entry *buckets[BUNDLE_ENTRY_BUCKETS];
};

/* NULL: there is none. */
struct bundle_entry *bundle_table_find(const struct bundle_table *table, const struct bundle_key *key);
void bundle_table_add(struct bundle_table *table, struct bundle_entry *entry);
/* Nothing happens when it is not in the table. */
void bundle_table_remove(struct bundle_table *table, struct bundle_entry *entry);

/* Zero-initialise. */
struct bundle_list {
    struct bundle_entry *first;
    struct bundle_entry *last;
    size_t count;
};

void bundle_list_append(struct bundle_list *list, struct bundle_entry *entry);
/* By `order`, behind those of the same order, and not before `fixed` (NULL: none), which is in the list. */
void bundle_list_insert(
    struct bundle_list *list, struct bundle_entry *entry, const struct bundle_entry *fixed);
void bundle_list_remove(struct bundle_list *list, struct bundle_entry *entry);

#endif
