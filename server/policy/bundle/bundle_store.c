#include "server/policy/bundle/bundle_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/bundle/bundle_builder_process.h"
#include "server/policy/bundle/bundle_entry.h"

#define BUNDLE_STORE_MAGIC UINT32_C(0x6273746f)
#define TOO_MANY           "too many policy bundles wait to be built, retry shortly"
/* Each is an open descriptor. */
#define STORE_KEPT_MAX 1024
/* A builder that dies may have died of something else. */
#define STORE_ATTEMPTS 2

struct bundle_store {
    uint32_t magic;
    struct bundle_store_settings settings;
    struct bundle_builder_process *builder;
    struct event *timer;
    /* NULL: none. */
    char *repository;
    char head[BUNDLE_HASH_LENGTH + 1];
    struct bundle_table table;
    /*
     * The bundle of everything first, then the first one of each client, then the second ones, and so on: a
     * client that asks for many waits for itself.
     */
    struct bundle_list waiting;
    /* The first of them, or NULL. */
    struct bundle_entry *building;
    /* In the order of use: oldest first. */
    struct bundle_list kept;
    uint64_t kept_bytes;
    struct log_limiter limit_full;
    struct log_limiter limit_late;
};

static void store_run(struct bundle_store *store);

static void store_count(const struct bundle_store *store, enum bundle_count what, uint64_t amount)
{
    if (store->settings.count && amount > 0)
        store->settings.count(store->settings.context, what, amount);
}

/* ---- entries ---- */

static size_t entry_order(const struct bundle_store *store, const struct bundle_key *key, uint64_t client)
{
    size_t order = 1;
    if (bundle_key_is_everything(key))
        return 0;
    for (const struct bundle_entry *entry = store->waiting.first; entry; entry = entry->next)
        order += entry->client == client && entry->order > 0;
    return order;
}

/* Takes the key over. The entry goes into the queue. */
static struct bundle_entry *entry_make(
    struct bundle_store *store, struct bundle_key *key, uint64_t client, size_t order)
{
    uint64_t limit = (uint64_t)(store->settings.build_seconds * (double)CLOCK_SECOND);
    struct bundle_entry *entry =
        bundle_entry_make(key, store->repository, store->head, clock_monotonic_ns() + limit);
    entry->client = client;
    entry->order = order;
    bundle_table_add(&store->table, entry);
    bundle_list_insert(&store->waiting, entry, store->building);
    return entry;
}

static void entry_free(struct bundle_store *store, struct bundle_entry *entry)
{
    bundle_table_remove(&store->table, entry);
    bundle_entry_free(entry);
}

static void answer_detail(
    struct bundle_store *store, unsigned status, struct slice detail, struct bundle_asker asker)
{
    const struct bundle_answer answer = {
        .status = status, .detail = detail, .descriptor = -1, .tag = "", .head = store->head};
    store->settings.answered(store->settings.context, asker, &answer);
}

static void answer_body(
    struct bundle_store *store, const struct bundle_entry *entry, struct bundle_asker asker)
{
    const struct bundle_answer answer = {.status = 200,
        .descriptor = entry->body.descriptor,
        .json_bytes = entry->body.json_bytes,
        .gzip_bytes = entry->body.gzip_bytes,
        .tag = entry->body.tag,
        .head = entry->head,
        .no_base = asker.with_base && entry->key.base.length == 0};
    store->settings.answered(store->settings.context, asker, &answer);
}

/* An entry of the queue that is not built. */
static void entry_fail(
    struct bundle_store *store, struct bundle_entry *entry, unsigned status, struct slice detail)
{
    bundle_list_remove(&store->waiting, entry);
    for (size_t i = 0; i < entry->asker_count; i++)
        answer_detail(store, status, detail, entry->askers[i]);
    entry_free(store, entry);
}

/* ---- what is kept ---- */

static void kept_remove(struct bundle_store *store, struct bundle_entry *entry)
{
    bundle_list_remove(&store->kept, entry);
    store->kept_bytes -= bundle_entry_bytes(entry);
    entry_free(store, entry);
}

static bool kept_is_full(const struct bundle_store *store)
{
    return store->kept_bytes > store->settings.cache_bytes || store->kept.count > STORE_KEPT_MAX;
}

/* Drops others for it, but not the bundle of everything: the next client that starts asks for it. */
static void kept_add(struct bundle_store *store, struct bundle_entry *entry)
{
    bundle_list_append(&store->kept, entry);
    store->kept_bytes += bundle_entry_bytes(entry);
    for (struct bundle_entry *at = store->kept.first; at && kept_is_full(store);) {
        struct bundle_entry *next = at->next;
        bool pinned =
            bundle_key_is_everything(&at->key) && bundle_entry_bytes(at) <= store->settings.cache_bytes;
        if (!pinned) {
            kept_remove(store, at);
            store_count(store, BUNDLE_COUNT_DROPPED, 1);
        }
        at = next;
    }
}

/* ---- what the builder says ---- */

static void entry_built(
    struct bundle_store *store, struct bundle_entry *entry, const struct bundle_reply *reply)
{
    const struct bundle_wire_reply *head = &reply->head;
    entry->body.descriptor = reply->descriptor;
    entry->body.json_bytes = head->json_bytes;
    entry->body.gzip_bytes = head->gzip_bytes;
    memcpy(entry->body.tag, head->tag, sizeof entry->body.tag);
    store_count(store, BUNDLE_COUNT_BUILT, 1);
    store_count(store, BUNDLE_COUNT_REPAIRED_FILES, head->repaired);
    log_write(LOG_INFO, LOGGER_BUNDLE,
        "Built a bundle of %.12s%s%.12s: %" PRIu64 " files, %" PRIu64 " bytes (gzip %" PRIu64 ") in %" PRIu64
        " ms",
        entry->head, entry->key.base.length ? " since " : "",
        entry->key.base.length ? entry->key.base.data : "", head->files, head->json_bytes, head->gzip_bytes,
        head->build_ns / CLOCK_MILLISECOND);
    bundle_list_remove(&store->waiting, entry);
    for (size_t i = 0; i < entry->asker_count; i++) {
        store_count(store, BUNDLE_COUNT_SHARED, i > 0);
        answer_body(store, entry, entry->askers[i]);
    }
    bundle_entry_forget_askers(entry);
    if (entry->findable)
        kept_add(store, entry);
    else
        entry_free(store, entry);
}

/* The base has another name: its askers move to the entry of that one, which may be there already. */
static void entry_rename_base(struct bundle_store *store, struct bundle_entry *entry, const char *base)
{
    struct bundle_key key = {0};
    bundle_key_with_base(&entry->key, slice_from_string(base), &key);
    struct bundle_entry *other = entry->findable ? bundle_table_find(&store->table, &key) : NULL;
    if (!other || other == entry) {
        bool findable = entry->findable;
        bundle_table_remove(&store->table, entry);
        bundle_key_free(&entry->key);
        entry->key = key;
        if (findable)
            bundle_table_add(&store->table, entry);
        return; /* it stays the first to be built */
    }
    bundle_key_free(&key);
    for (size_t i = 0; i < entry->asker_count; i++) {
        if (bundle_entry_is_built(other))
            answer_body(store, other, entry->askers[i]);
        else
            bundle_entry_add_asker(other, entry->askers[i]);
        store_count(store, BUNDLE_COUNT_SHARED, 1);
    }
    bundle_list_remove(&store->waiting, entry);
    entry_free(store, entry);
}

static void on_reply(void *context, const struct bundle_reply *reply)
{
    struct bundle_store *store = object_cast(struct bundle_store, BUNDLE_STORE_MAGIC, context);
    struct bundle_entry *entry = store->building;
    store->building = NULL;
    if (reply->head.status == 200) {
        entry_built(store, entry, reply);
    } else if (reply->head.status == BUNDLE_OTHER_BASE && entry->key.base.length > 0) {
        entry_rename_base(store, entry, reply->head.base);
    } else {
        store_count(store, BUNDLE_COUNT_FAILED, reply->head.status != 404);
        entry_fail(store, entry, reply->head.status == 404 ? 404 : 500, reply->detail);
    }
    store_run(store);
}

static void on_lost(void *context)
{
    struct bundle_store *store = object_cast(struct bundle_store, BUNDLE_STORE_MAGIC, context);
    struct bundle_entry *entry = store->building;
    store->building = NULL;
    store_count(store, BUNDLE_COUNT_BUILDERS_DIED, 1);
    log_write(LOG_ERROR, LOGGER_BUNDLE, "The bundle builder died while it made a bundle of %.12s%s",
        entry->head, entry->attempts < STORE_ATTEMPTS ? ": another one tries it" : "");
    if (entry->attempts >= STORE_ATTEMPTS) {
        store_count(store, BUNDLE_COUNT_FAILED, 1);
        entry_fail(store, entry, 500, SLICE_LITERAL("the policy bundle could not be made"));
    }
    store_run(store);
}

/* ---- the queue ---- */

static void entry_too_late(struct bundle_store *store, struct bundle_entry *entry)
{
    store_count(store, BUNDLE_COUNT_REFUSED, 1);
    log_write_limited(&store->limit_late, LOG_ERROR, LOGGER_BUNDLE,
        "A bundle of %.12s was not there in time (OPAL_BUNDLE_BUILD_SECONDS=%g): refused", entry->head,
        store->settings.build_seconds);
    entry_fail(store, entry, 503, SLICE_LITERAL("the policy bundle was not built in time, retry shortly"));
}

static void store_set_timer(struct bundle_store *store)
{
    event_del(store->timer);
    if (!store->waiting.first)
        return;
    uint64_t now = clock_monotonic_ns(), due = UINT64_MAX;
    for (const struct bundle_entry *entry = store->waiting.first; entry; entry = entry->next)
        due = entry->due_ns < due ? entry->due_ns : due;
    uint64_t left = due > now ? due - now : 0;
    const struct timeval delay = {
        (time_t)(left / CLOCK_SECOND), (suseconds_t)(left % CLOCK_SECOND / 1000 + 1)};
    event_add(store->timer, &delay);
}

static int entry_start(struct bundle_store *store, struct bundle_entry *entry)
{
    struct error err = {0};
    const struct bundle_request request = {
        .repository = entry->repository,
        .head = entry->head,
        .paths = entry->key.paths,
        .path_count = entry->key.path_count,
        .base = entry->key.base,
    };
    entry->attempts++;
    if (bundle_builder_process_ask(store->builder, &request, &err) == 0)
        return 0;
    log_write(LOG_ERROR, LOGGER_BUNDLE, "%s", err.text);
    return -1;
}

static void store_refuse_late(struct bundle_store *store)
{
    uint64_t now = clock_monotonic_ns();
    for (struct bundle_entry *entry = store->waiting.first; entry;) {
        struct bundle_entry *next = entry->next;
        if (entry != store->building && entry->due_ns <= now)
            entry_too_late(store, entry);
        entry = next;
    }
}

/* Gives the builder the first entry of the queue, and sets the timer. */
static void store_run(struct bundle_store *store)
{
    store_refuse_late(store);
    while (!store->building && store->waiting.first) {
        struct bundle_entry *entry = store->waiting.first;
        if (entry_start(store, entry) < 0) {
            store_count(store, BUNDLE_COUNT_REFUSED, 1);
            entry_fail(
                store, entry, 503, SLICE_LITERAL("the policy bundle can't be built now, retry shortly"));
        } else {
            store->building = entry;
        }
    }
    store_set_timer(store);
}

static void on_timer(evutil_socket_t none, short what, void *context)
{
    struct bundle_store *store = object_cast(struct bundle_store, BUNDLE_STORE_MAGIC, context);
    (void)none;
    (void)what;
    if (store->building && store->building->due_ns <= clock_monotonic_ns()) {
        bundle_builder_process_kill(store->builder);
        store->building = NULL;
    }
    store_run(store); /* refuses those that are late */
}

/* ---- from outside ---- */

struct bundle_store *bundle_store_open(const struct bundle_store_settings *settings)
{
    struct bundle_store *store = memory_allocate(sizeof *store);
    store->magic = BUNDLE_STORE_MAGIC;
    store->settings = *settings;
    store->timer = event_new(settings->base, -1, 0, on_timer, store);
    store->builder = bundle_builder_process_open(
        settings->base, &(struct bundle_builder_hooks){
                            .reply = on_reply, .lost = on_lost, .start = settings->start, .context = store});
    return store;
}

void bundle_store_close(struct bundle_store *store)
{
    bundle_builder_process_close(store->builder);
    while (store->kept.first)
        kept_remove(store, store->kept.first);
    while (store->waiting.first) {
        struct bundle_entry *entry = store->waiting.first;
        bundle_list_remove(&store->waiting, entry);
        entry_free(store, entry);
    }
    event_free(store->timer);
    free(store->repository);
    store->magic = 0;
    free(store);
}

void bundle_store_set_head(struct bundle_store *store, const char *repository, const char *commit)
{
    bool same = repository && store->repository && strcmp(repository, store->repository) == 0 &&
                strcmp(commit, store->head) == 0;
    if (same)
        return;
    while (store->kept.first)
        kept_remove(store, store->kept.first);
    for (struct bundle_entry *entry = store->waiting.first; entry; entry = entry->next)
        bundle_table_remove(&store->table, entry);
    free(store->repository);
    store->repository = repository ? memory_copy_string(repository) : NULL;
    store->head[0] = '\0';
    if (repository)
        strncat(store->head, commit, BUNDLE_HASH_LENGTH);
}

/*
 * The queue is full: the client that waits for most makes room for one that waits for less. False: there is
 * no such client.
 */
static bool store_make_room(struct bundle_store *store, size_t order)
{
    struct bundle_entry *last = store->waiting.last;
    bool makes_room = last && last != store->building && last->order > order;
    store_count(store, BUNDLE_COUNT_REFUSED, 1);
    log_write_limited(&store->limit_full, LOG_WARNING, LOGGER_BUNDLE,
        "%zu bundles wait to be built (OPAL_BUNDLE_WAITING_MAX): a request is refused", store->waiting.count);
    if (makes_room)
        entry_fail(store, last, 503, SLICE_LITERAL(TOO_MANY));
    return makes_room;
}

static void store_enqueue(struct bundle_store *store, struct bundle_key *key, struct bundle_asker asker)
{
    size_t order = entry_order(store, key, asker.client);
    if (store->waiting.count >= store->settings.waiting_max && !store_make_room(store, order)) {
        answer_detail(store, 503, SLICE_LITERAL(TOO_MANY), asker);
        return;
    }
    bundle_entry_add_asker(entry_make(store, key, asker.client, order), asker);
    store_run(store);
}

void bundle_store_ask(struct bundle_store *store, const struct slice *paths, size_t path_count,
    struct slice base, struct bundle_asker asker)
{
    struct bundle_key key = {0};
    struct bundle_entry *entry = NULL;
    if (!store->repository) {
        answer_detail(store, 503, SLICE_LITERAL("policy repo was not found"), asker);
        return;
    }
    bundle_key_make(&key, paths, path_count, base);
    asker.with_base = base.length > 0;
    entry = bundle_table_find(&store->table, &key);
    if (entry && bundle_entry_is_built(entry)) {
        bundle_list_remove(&store->kept, entry);
        bundle_list_append(&store->kept, entry);
        store_count(store, BUNDLE_COUNT_SHARED, 1);
        answer_body(store, entry, asker);
    } else if (entry) {
        bundle_entry_add_asker(entry, asker);
    } else {
        store_enqueue(store, &key, asker);
    }
    bundle_key_free(&key);
}
