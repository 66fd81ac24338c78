#include "server/statistics/statistics.h"

#include <stdlib.h>

#include "shm/common/clock.h"
#include "shm/common/memory.h"

#define SERVERS_MAX 16384
#define SOURCES_MAX 4096
/* A dead server is remembered for so long, for the case that it only slept. */
#define FORGET_SECONDS 3600
/* Of the trees and the allocator, about. */
#define OVERHEAD_CHANNEL 64
/* "name":[channels], and "name", */
#define SHOWN_CLIENT 5
#define SHOWN_SERVER 3

/* An id that somebody gives as a server's: the reference counts these. */
struct server {
    struct named named;
    TAILQ_ENTRY(server) link;
    uint64_t seen_ns;
};

struct statistics {
    struct statistics_settings settings;
    uint64_t version;
    size_t bytes;
    size_t shown_bytes;
    void *channel_tree, *client_tree, *source_tree, *server_tree;
    TAILQ_HEAD(all_channels, statistics_channel) channels;
    /* in the order in which they came */
    TAILQ_HEAD(all_clients, statistics_client) clients;
    TAILQ_HEAD(all_sources, statistics_source) sources;
    TAILQ_HEAD(all_servers, server) servers;
    size_t channel_count, client_count, source_count, server_count;
};

/* ---- channels ---- */

static void channel_drop(struct statistics *statistics, struct statistics_channel *channel)
{
    struct statistics_client *client = channel->client;
    statistics->version++;
    statistics->bytes -= channel->bytes;
    statistics->shown_bytes -= channel->shown.length + 1;
    statistics->channel_count--;
    TAILQ_REMOVE(&statistics->channels, channel, in_all);
    TAILQ_REMOVE(&client->channels, channel, in_client);
    text_free(&channel->shown);
    named_free(&statistics->channel_tree, &channel->named);
    if (--client->count > 0)
        return;
    TAILQ_REMOVE(&statistics->clients, client, link);
    statistics->client_count--;
    statistics->shown_bytes -= client->named.length + SHOWN_CLIENT;
    named_free(&statistics->client_tree, &client->named);
}

static struct statistics_client *client_make(struct statistics *statistics, struct slice client_id)
{
    struct statistics_client *client = named_make(&statistics->client_tree, client_id, sizeof *client);
    TAILQ_INIT(&client->channels);
    TAILQ_INSERT_TAIL(&statistics->clients, client, link);
    statistics->client_count++;
    statistics->shown_bytes += client_id.length + SHOWN_CLIENT;
    return client;
}

static struct statistics_channel *channel_make(
    struct statistics *statistics, struct statistics_client *client, struct slice rpc_id)
{
    struct statistics_channel *channel = named_make(&statistics->channel_tree, rpc_id, sizeof *channel);
    channel->client = client;
    TAILQ_INSERT_TAIL(&client->channels, channel, in_client);
    TAILQ_INSERT_TAIL(&statistics->channels, channel, in_all);
    client->count++;
    statistics->channel_count++;
    statistics->shown_bytes += 1;
    return channel;
}

static void channel_fill(struct statistics *statistics, struct statistics_channel *channel,
    struct slice shown, size_t bytes, int slot, struct statistics_source *source)
{
    statistics->bytes += bytes - channel->bytes;
    statistics->shown_bytes += shown.length - channel->shown.length;
    statistics->version++;
    text_clear(&channel->shown);
    text_append_slice(&channel->shown, shown);
    channel->bytes = bytes;
    channel->slot = slot;
    channel->source = source;
}

static struct statistics_source *source_of(struct statistics *statistics, struct slice name, uint64_t now_ns)
{
    struct statistics_source *source = named_find(&statistics->source_tree, name);
    if (source || name.length > STATISTICS_NAME_MAX || statistics->source_count >= SOURCES_MAX)
        return source;
    source = named_make(&statistics->source_tree, name, sizeof *source);
    source->seen_ns = now_ns;
    TAILQ_INSERT_TAIL(&statistics->sources, source, link);
    statistics->source_count++;
    return source;
}

enum statistics_verdict statistics_put(struct statistics *statistics,
    const struct statistics_announcement *announcement, struct statistics_owner owner, uint64_t now_ns)
{
    struct slice rpc_id = announcement->rpc_id, client_id = announcement->client_id;
    struct statistics_channel *channel = named_find(&statistics->channel_tree, rpc_id);
    struct statistics_client *client = named_find(&statistics->client_tree, client_id);
    struct statistics_source *source =
        owner.slot < 0 && owner.source.data ? source_of(statistics, owner.source, now_ns) : NULL;
    size_t bytes = sizeof *channel + sizeof *client + OVERHEAD_CHANNEL + rpc_id.length + client_id.length +
                   announcement->shown.length;
    bool again = channel && channel->client == client;
    size_t freed = again ? channel->bytes : 0;
    if (!again && client && client->count >= statistics->settings.max_channels)
        return STATISTICS_TOO_MANY;
    if (bytes > freed && statistics->bytes - freed + bytes > statistics->settings.max_bytes)
        return STATISTICS_FULL;
    if (!again) {
        if (channel) { /* under another client's name */
            channel_drop(statistics, channel);
            client = named_find(&statistics->client_tree, client_id);
        }
        if (!client)
            client = client_make(statistics, client_id);
        channel = channel_make(statistics, client, rpc_id);
    }
    channel_fill(statistics, channel, announcement->shown, bytes, owner.slot, source);
    return STATISTICS_TAKEN;
}

bool statistics_has(const struct statistics *statistics, struct slice rpc_id)
{
    return named_find(&statistics->channel_tree, rpc_id) != NULL;
}

bool statistics_is_dead(const struct statistics *statistics, struct slice source)
{
    const struct statistics_source *found = named_find(&statistics->source_tree, source);
    return found && found->dead;
}

bool statistics_remove(struct statistics *statistics, struct slice rpc_id)
{
    struct statistics_channel *channel = named_find(&statistics->channel_tree, rpc_id);
    if (channel)
        channel_drop(statistics, channel);
    return channel != NULL;
}

/* Drops the channels for which `match` says so; `dropped` (may be NULL) is called for each before. */
static void drop_channels(struct statistics *statistics,
    bool (*match)(const struct statistics_channel *channel, const void *what), const void *what,
    void (*dropped)(void *context, struct slice rpc_id), void *context)
{
    struct statistics_channel *next;
    for (struct statistics_channel *at = TAILQ_FIRST(&statistics->channels); at; at = next) {
        next = TAILQ_NEXT(at, in_all);
        if (!match(at, what))
            continue;
        if (dropped)
            dropped(context, named_slice(&at->named));
        channel_drop(statistics, at);
    }
}

static bool is_of_source(const struct statistics_channel *channel, const void *source)
{
    return channel->source == source;
}

static bool is_of_slot(const struct statistics_channel *channel, const void *slot)
{
    return channel->slot == *(const int *)slot;
}

static bool is_of_others(const struct statistics_channel *channel, const void *nothing)
{
    (void)nothing;
    return channel->slot < 0;
}

void statistics_forget_others(struct statistics *statistics)
{
    drop_channels(statistics, is_of_others, NULL, NULL, NULL);
}

void statistics_drop_worker(struct statistics *statistics, int slot,
    void (*dropped)(void *context, struct slice rpc_id), void *context)
{
    drop_channels(statistics, is_of_slot, &slot, dropped, context);
}

/* ---- other servers ---- */

bool statistics_server_seen(
    struct statistics *statistics, struct slice worker_id, struct slice source_name, uint64_t now_ns)
{
    struct statistics_source *source = source_of(statistics, source_name, now_ns);
    struct server *server = named_find(&statistics->server_tree, worker_id);
    bool was_dead = source && source->dead;
    if (source) {
        source->seen_ns = now_ns;
        source->dead = false;
    }
    if (!server && worker_id.length <= STATISTICS_NAME_MAX && statistics->server_count < SERVERS_MAX) {
        server = named_make(&statistics->server_tree, worker_id, sizeof *server);
        TAILQ_INSERT_TAIL(&statistics->servers, server, link);
        statistics->server_count++;
        statistics->shown_bytes += worker_id.length + SHOWN_SERVER;
        statistics->version++;
    }
    if (server)
        server->seen_ns = now_ns;
    return was_dead;
}

static void server_drop(struct statistics *statistics, struct server *server)
{
    TAILQ_REMOVE(&statistics->servers, server, link);
    statistics->shown_bytes -= server->named.length + SHOWN_SERVER;
    named_free(&statistics->server_tree, &server->named);
    statistics->server_count--;
    statistics->version++;
}

static void expire_source(
    struct statistics *statistics, struct statistics_source *source, uint64_t silent_ns, uint64_t timeout_ns)
{
    if (!source->dead && silent_ns >= timeout_ns) {
        source->dead = true;
        drop_channels(statistics, is_of_source, source, NULL, NULL);
    }
    if (!source->dead || silent_ns < timeout_ns + FORGET_SECONDS * CLOCK_SECOND)
        return;
    drop_channels(statistics, is_of_source, source, NULL, NULL);
    TAILQ_REMOVE(&statistics->sources, source, link);
    named_free(&statistics->source_tree, &source->named);
    statistics->source_count--;
}

void statistics_expire(struct statistics *statistics, uint64_t now_ns)
{
    uint64_t timeout_ns = (uint64_t)statistics->settings.keepalive_timeout * CLOCK_SECOND;
    struct server *next_server;
    struct statistics_source *next_source;
    for (struct server *at = TAILQ_FIRST(&statistics->servers); at; at = next_server) {
        next_server = TAILQ_NEXT(at, link);
        if (now_ns - at->seen_ns >= timeout_ns)
            server_drop(statistics, at);
    }
    for (struct statistics_source *at = TAILQ_FIRST(&statistics->sources); at; at = next_source) {
        next_source = TAILQ_NEXT(at, link);
        expire_source(statistics, at, now_ns - at->seen_ns, timeout_ns);
    }
}

/* ---- what there is ---- */

uint64_t statistics_version(const struct statistics *statistics)
{
    return statistics->version;
}

size_t statistics_clients(const struct statistics *statistics)
{
    return statistics->client_count;
}

size_t statistics_channels(const struct statistics *statistics)
{
    return statistics->channel_count;
}

size_t statistics_servers(const struct statistics *statistics)
{
    return statistics->server_count;
}

size_t statistics_shown_bytes(const struct statistics *statistics)
{
    return statistics->shown_bytes;
}

const struct statistics_client *statistics_next_client(
    const struct statistics *statistics, const struct statistics_client *client)
{
    return client ? TAILQ_NEXT(client, link) : TAILQ_FIRST(&statistics->clients);
}

const struct named *statistics_next_server(const struct statistics *statistics, const struct named *server)
{
    const struct server *at = (const struct server *)server;
    at = at ? TAILQ_NEXT(at, link) : TAILQ_FIRST(&statistics->servers);
    return at ? &at->named : NULL;
}

/* ---- life ---- */

struct statistics *statistics_make(const struct statistics_settings *settings)
{
    struct statistics *statistics = memory_allocate(sizeof *statistics);
    statistics->settings = *settings;
    TAILQ_INIT(&statistics->channels);
    TAILQ_INIT(&statistics->clients);
    TAILQ_INIT(&statistics->sources);
    TAILQ_INIT(&statistics->servers);
    return statistics;
}

void statistics_free(struct statistics *statistics)
{
    while (!TAILQ_EMPTY(&statistics->channels))
        channel_drop(statistics, TAILQ_FIRST(&statistics->channels));
    while (!TAILQ_EMPTY(&statistics->servers))
        server_drop(statistics, TAILQ_FIRST(&statistics->servers));
    while (!TAILQ_EMPTY(&statistics->sources)) {
        struct statistics_source *source = TAILQ_FIRST(&statistics->sources);
        TAILQ_REMOVE(&statistics->sources, source, link);
        named_free(&statistics->source_tree, &source->named);
    }
    free(statistics);
}
