#include "worker/policy/bundle_cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/link/bundle_link.h"
#include "worker/policy/bundle_copy.h"
#include "worker/policy/policy_client.h"

#define BUNDLE_CACHE_MAGIC UINT32_C(0x62636163)
#define CACHE_ITEMS_MAX    256
/* a worker holds on to a quarter of what the policy process keeps */
#define CACHE_SHARE 4
/* for the time limits of what is pending */
#define CACHE_TICK_MS 250
#define TOO_MANY      "too many policy bundles wait to be built, retry shortly"
/* The policy process keeps the limit; this one is for when there is none. */
#define CACHE_MARGIN_SECONDS 5.0

struct cache_waiter {
    TAILQ_ENTRY(cache_waiter) link;
    uint64_t ticket;
    bundle_arrived *arrived;
    void *context;
};
TAILQ_HEAD(cache_waiters, cache_waiter);

/* Held when it has a copy, else pending. */
struct cache_item {
    /* held: least recently used first; pending: oldest first */
    TAILQ_ENTRY(cache_item) link;
    struct text question;
    /* the client that asked first, and how many of its questions were pending then */
    struct text peer;
    size_t rank;
    struct bundle_copy *copy;
    /* of the request on the link; 0: could not be sent yet */
    uint64_t id;
    uint64_t due_ns;
    struct cache_waiters waiters;
};
TAILQ_HEAD(cache_items, cache_item);

struct bundle_cache {
    uint32_t magic;
    const struct config *config;
    struct policy_client *client;
    /* the commit last served; empty: there was none yet */
    char head[POLICY_HASH_LENGTH + 1];
    struct event *tick;
    struct cache_items held;
    struct cache_items pending;
    /* whose waiters are being told: off the others, still to be found by a cancel */
    struct cache_items telling;
    size_t held_count;
    size_t held_bytes;
    size_t pending_count;
    uint64_t next_id;
    uint64_t next_ticket;
    struct log_limiter limit_bad;
    struct log_limiter limit_late;
    struct log_limiter limit_full;
};

/* ---- items ---- */

static void item_free(struct cache_item *item)
{
    bundle_copy_drop(item->copy);
    text_free(&item->question);
    text_free(&item->peer);
    free(item);
}

static void held_drop(struct bundle_cache *cache, struct cache_item *item)
{
    TAILQ_REMOVE(&cache->held, item, link);
    cache->held_count--;
    cache->held_bytes -= item->copy->mapped_bytes;
    item_free(item);
}

static struct cache_item *items_find(struct cache_items *items, struct slice question)
{
    struct cache_item *item;
    for (item = TAILQ_FIRST(items); item; item = TAILQ_NEXT(item, link)) {
        if (slice_equals(text_slice(&item->question), question))
            return item;
    }
    return NULL;
}

/* The whole repository without a base: what every client asks for at its start. */
static bool is_everything(const struct cache_item *item)
{
    struct slice question = text_slice(&item->question);
    return slice_equals(question, SLICE_LITERAL("\0")) || slice_equals(question, SLICE_LITERAL("\0.\0"));
}

static void held_trim(struct bundle_cache *cache)
{
    size_t room = cache->config->bundle_cache_bytes / CACHE_SHARE;
    struct cache_item *item = TAILQ_FIRST(&cache->held);
    while (item && (cache->held_bytes > room || cache->held_count > CACHE_ITEMS_MAX)) {
        struct cache_item *next = TAILQ_NEXT(item, link);
        if (!is_everything(item) || item->copy->mapped_bytes > room)
            held_drop(cache, item);
        item = next;
    }
}

/* Takes the item over; it may be gone afterwards. */
static void held_add(struct bundle_cache *cache, struct cache_item *item)
{
    /* the commit has moved on while it was built, or it came by another way meanwhile */
    if (strcmp(item->copy->head, cache->head) != 0 || items_find(&cache->held, text_slice(&item->question))) {
        item_free(item);
        return;
    }
    TAILQ_INSERT_TAIL(&cache->held, item, link);
    cache->held_count++;
    cache->held_bytes += item->copy->mapped_bytes;
    held_trim(cache);
}

/* The question becomes the one that was answered: without its base. */
static void item_take_off_base(struct cache_item *item)
{
    struct slice question = text_slice(&item->question);
    size_t base = strnlen(question.data, question.length);
    struct text without = {0};
    text_append(&without, question.data + base, question.length - base);
    text_free(&item->question);
    item->question = without;
}

static void pending_remove(struct bundle_cache *cache, struct cache_item *item)
{
    TAILQ_REMOVE(&cache->pending, item, link);
    if (--cache->pending_count == 0)
        event_del(cache->tick);
}

/*
 * The item is in no list. A waiter's call may ask for something else, or cancel another waiter of the same
 * item.
 */
static void item_tell(struct cache_item *item, const struct bundle_outcome *outcome)
{
    struct cache_waiter *waiter;
    while ((waiter = TAILQ_FIRST(&item->waiters))) {
        struct cache_waiter told = *waiter;
        TAILQ_REMOVE(&item->waiters, waiter, link);
        free(waiter);
        told.arrived(told.context, outcome);
    }
}

static void item_fail(
    struct bundle_cache *cache, struct cache_item *item, unsigned status, struct slice detail)
{
    pending_remove(cache, item);
    TAILQ_INSERT_TAIL(&cache->telling, item, link);
    item_tell(item, &(struct bundle_outcome){.status = status, .detail = detail});
    TAILQ_REMOVE(&cache->telling, item, link);
    item_free(item);
}

/* ---- the link ---- */

static void item_send(struct bundle_cache *cache, struct cache_item *item)
{
    if (policy_client_head(cache->client)->state != POLICY_READY)
        return; /* a new policy process that has no clone yet */
    item->id = ++cache->next_id;
    struct text body = {0};
    text_append_slice(&body, text_slice(&item->peer));
    text_append_char(&body, '\0');
    text_append_slice(&body, text_slice(&item->question));
    if (!policy_client_request_bundle(cache->client, item->id, text_slice(&body)))
        item->id = 0; /* at the next tick, or with the next connection */
    text_free(&body);
}

static void on_answer(void *context, uint64_t id, struct slice body, int descriptor)
{
    struct bundle_cache *cache = object_cast(struct bundle_cache, BUNDLE_CACHE_MAGIC, context);
    struct bundle_link_answer answer = {0};
    struct cache_item *item;
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link)) {
        if (item->id == id)
            break;
    }
    if (!item) { /* it came too late, or the other way round */
        if (descriptor >= 0)
            close(descriptor);
        return;
    }
    if (body.length >= sizeof answer)
        memcpy(&answer, body.data, sizeof answer);
    answer.tag[sizeof answer.tag - 1] = '\0';
    answer.head[sizeof answer.head - 1] = '\0';
    if (answer.status != 200) {
        struct slice detail = {body.data + sizeof answer, body.length - sizeof answer};
        if (descriptor >= 0)
            close(descriptor);
        if (body.length >= sizeof answer && answer.status >= 400 && answer.status < 600)
            item_fail(cache, item, answer.status, detail);
        return; /* an answer that makes no sense is none: the time limit stands */
    }
    item->copy = bundle_copy_map(&answer, descriptor);
    if (!item->copy) {
        log_write_limited(
            &cache->limit_bad, LOG_ERROR, LOGGER_WORKER, "a bundle of the policy process can't be mapped");
        item_fail(cache, item, 503, SLICE_LITERAL("the policy bundle can't be had now, retry shortly"));
        return;
    }
    struct bundle_copy *copy = bundle_copy_keep(item->copy);
    pending_remove(cache, item);
    TAILQ_INSERT_TAIL(&cache->telling, item, link);
    item_tell(item, &(struct bundle_outcome){.status = 200, .copy = copy});
    TAILQ_REMOVE(&cache->telling, item, link);
    if (answer.flags & BUNDLE_LINK_NO_BASE)
        item_take_off_base(item);
    held_add(cache, item);
    bundle_copy_drop(copy);
}

static void on_head(void *context)
{
    struct bundle_cache *cache = object_cast(struct bundle_cache, BUNDLE_CACHE_MAGIC, context);
    const struct policy_head *head = policy_client_head(cache->client);
    struct cache_item *item, *next;
    if (head->state != POLICY_READY)
        return;
    memcpy(cache->head, head->hash, sizeof cache->head);
    for (item = TAILQ_FIRST(&cache->held); item; item = next) {
        next = TAILQ_NEXT(item, link);
        if (strcmp(item->copy->head, cache->head) != 0)
            held_drop(cache, item);
    }
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link)) {
        if (item->id == 0)
            item_send(cache, item);
    }
}

static void on_lost(void *context)
{
    struct bundle_cache *cache = object_cast(struct bundle_cache, BUNDLE_CACHE_MAGIC, context);
    struct cache_item *item;
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link)) {
        item->id = 0;
    }
}

static void on_tick(evutil_socket_t none, short what, void *context)
{
    struct bundle_cache *cache = object_cast(struct bundle_cache, BUNDLE_CACHE_MAGIC, context);
    uint64_t now = clock_monotonic_ns();
    struct cache_item *item;
    (void)none;
    (void)what;
    while ((item = TAILQ_FIRST(&cache->pending)) && item->due_ns <= now) {
        log_write_limited(&cache->limit_late, LOG_ERROR, LOGGER_WORKER,
            "no bundle from the policy process in time: a request is answered 503");
        item_fail(cache, item, 503, SLICE_LITERAL("the policy bundle can't be had now, retry shortly"));
    }
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link)) {
        if (item->id == 0)
            item_send(cache, item);
    }
}

/* ---- from outside ---- */

struct bundle_cache *bundle_cache_open(
    struct event_base *base, const struct config *config, const char *policy_address)
{
    struct bundle_cache *cache = memory_allocate(sizeof *cache);
    const struct policy_client_hooks hooks = {
        .answered = on_answer, .head = on_head, .lost = on_lost, .context = cache};
    cache->magic = BUNDLE_CACHE_MAGIC;
    cache->config = config;
    TAILQ_INIT(&cache->held);
    TAILQ_INIT(&cache->pending);
    TAILQ_INIT(&cache->telling);
    cache->tick = event_new(base, -1, EV_PERSIST, on_tick, cache);
    cache->client = policy_client_open(base, policy_address, &hooks);
    return cache;
}

void bundle_cache_close(struct bundle_cache *cache)
{
    struct cache_item *item;
    policy_client_close(cache->client);
    while ((item = TAILQ_FIRST(&cache->held)))
        held_drop(cache, item);
    while ((item = TAILQ_FIRST(&cache->pending))) {
        struct cache_waiter *waiter;
        pending_remove(cache, item);
        while ((waiter = TAILQ_FIRST(&item->waiters))) {
            TAILQ_REMOVE(&item->waiters, waiter, link);
            free(waiter);
        }
        item_free(item);
    }
    event_free(cache->tick);
    cache->magic = 0;
    free(cache);
}

struct policy_client *bundle_cache_client(const struct bundle_cache *cache)
{
    return cache->client;
}

static void arrive_now(bundle_arrived *arrived, void *context, unsigned status, const char *detail)
{
    arrived(context, &(struct bundle_outcome){.status = status, .detail = slice_from_string(detail)});
}

static size_t pending_rank(const struct bundle_cache *cache, struct slice peer)
{
    const struct cache_item *item;
    size_t rank = 0;
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link))
        rank += slice_equals(text_slice(&item->peer), peer);
    return rank;
}

/* False: no client has more pending questions than one with `rank` of them. */
static bool pending_make_room(struct bundle_cache *cache, size_t rank)
{
    struct cache_item *most = NULL;
    struct cache_item *item;
    if (cache->pending_count < cache->config->bundle_waiting_max)
        return true;
    for (item = TAILQ_FIRST(&cache->pending); item; item = TAILQ_NEXT(item, link))
        if (item->rank > rank && (!most || item->rank > most->rank))
            most = item;
    log_write_limited(&cache->limit_full, LOG_WARNING, LOGGER_WORKER,
        "%zu policy bundles are asked for (OPAL_BUNDLE_WAITING_MAX): a request%s%.*s is refused",
        cache->pending_count, most ? " of " : "", most ? (int)most->peer.length : 0,
        most ? most->peer.data : "");
    if (most)
        item_fail(cache, most, 503, SLICE_LITERAL(TOO_MANY));
    return most;
}

static struct cache_item *pending_make(
    struct bundle_cache *cache, struct slice peer, size_t rank, struct slice question)
{
    const struct timeval tick = {0, CACHE_TICK_MS * 1000};
    double seconds = cache->config->bundle_build_seconds + CACHE_MARGIN_SECONDS;
    struct cache_item *item = memory_allocate(sizeof *item);
    text_append_slice(&item->question, question);
    text_append_slice(&item->peer, peer);
    item->rank = rank;
    item->due_ns = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    TAILQ_INIT(&item->waiters);
    TAILQ_INSERT_TAIL(&cache->pending, item, link);
    if (cache->pending_count++ == 0)
        event_add(cache->tick, &tick);
    item_send(cache, item);
    return item;
}

uint64_t bundle_cache_ask(struct bundle_cache *cache, struct slice peer, struct slice question,
    bundle_arrived *arrived, void *context)
{
    /*
     * The policy process tells a new head before it publishes the event: whoever asks because of the event
     * must not get the old bundle.
     */
    policy_client_poll(cache->client);
    if (!cache->head[0]) {
        arrive_now(arrived, context, 503, "policy repo was not found");
        return 0;
    }
    struct cache_item *item = items_find(&cache->held, question);
    if (item) {
        TAILQ_REMOVE(&cache->held, item, link);
        TAILQ_INSERT_TAIL(&cache->held, item, link);
        arrived(context, &(struct bundle_outcome){.status = 200, .copy = item->copy});
        return 0;
    }
    item = items_find(&cache->pending, question);
    if (!item) {
        size_t rank = pending_rank(cache, peer);
        if (!pending_make_room(cache, rank)) {
            arrive_now(arrived, context, 503, TOO_MANY);
            return 0;
        }
        item = pending_make(cache, peer, rank, question);
    }
    struct cache_waiter *waiter = memory_allocate(sizeof *waiter);
    waiter->ticket = ++cache->next_ticket;
    waiter->arrived = arrived;
    waiter->context = context;
    TAILQ_INSERT_TAIL(&item->waiters, waiter, link);
    return waiter->ticket;
}

static bool items_cancel(struct cache_items *items, uint64_t ticket)
{
    struct cache_item *item;
    struct cache_waiter *waiter;
    for (item = TAILQ_FIRST(items); item; item = TAILQ_NEXT(item, link)) {
        for (waiter = TAILQ_FIRST(&item->waiters); waiter; waiter = TAILQ_NEXT(waiter, link)) {
            if (waiter->ticket == ticket) {
                TAILQ_REMOVE(&item->waiters, waiter, link);
                free(waiter);
                return true;
            }
        }
    }
    return false;
}

void bundle_cache_cancel(struct bundle_cache *cache, uint64_t ticket)
{
    if (!items_cancel(&cache->pending, ticket))
        items_cancel(&cache->telling, ticket);
}
