#include "server/statistics/statistics.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "shm/common/clock.h"
#include "shm/common/json.h"
#include "shm/common/memory.h"

#define OWNER_KEY \
    "opald_server" /* beside rpc_id in a state that one of ours tells; the reference passes over it */
#define JSON_DEPTH       16
#define JSON_TOKENS      1000000
#define SERVERS_MAX      16384
#define SOURCES_MAX      4096
#define FORGET_SECONDS   3600 /* a dead server is remembered for so long, for the case that it only slept */
#define OVERHEAD_CHANNEL 64   /* of the trees and the allocator, about */

/* Begins each thing that is found by its name in a tree (POSIX tsearch: balanced, so nobody can choose names that collide). */
struct named {
    size_t length;
    char *name;
};

/* Another server (in the reference: a worker process), by the id under which it speaks on the backbone. */
struct source {
    struct named named;
    TAILQ_ENTRY(source) link;
    uint64_t seen_ns;
    bool dead;
};

/* An id that somebody gives as a server's: the reference counts these. */
struct server {
    struct named named;
    TAILQ_ENTRY(server) link;
    uint64_t seen_ns;
};

struct client;

struct channel {
    struct named named; /* the rpc id */
    TAILQ_ENTRY(channel) in_client;
    TAILQ_ENTRY(channel) in_all;
    struct client *client;
    struct source *source; /* NULL: `slot`, or nobody knows */
    int slot;              /* -1: not this host's */
    size_t bytes;
    struct text topics; /* JSON array */
};

struct client {
    struct named named;
    TAILQ_ENTRY(client) link;
    TAILQ_HEAD(client_channels, channel) channels;
    size_t count;
};

struct statistics {
    struct statistics_settings settings;
    uint64_t version;
    size_t bytes;
    void *channel_tree, *client_tree, *source_tree, *server_tree;
    TAILQ_HEAD(all_channels, channel) channels;
    TAILQ_HEAD(all_clients, client) clients; /* in the order in which they came */
    TAILQ_HEAD(all_sources, source) sources;
    TAILQ_HEAD(all_servers, server) servers;
    size_t channel_count, client_count, source_count, server_count;
    struct json_document document; /* reused */
};

/* ---- names ---- */

static int named_compare(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->length ? memcmp(a->name, b->name, a->length) : 0;
}

static void *named_find(void *const *tree, struct slice name)
{
    const struct named key = {name.length, (char *)(uintptr_t)name.data};
    void *const *found = tfind(&key, tree, named_compare);
    return found ? *found : NULL;
}

/* Allocates `size` bytes that begin with a struct named. */
static void *named_make(void **tree, struct slice name, size_t size)
{
    struct named *named = memory_allocate(size);
    named->length = name.length;
    named->name = memory_allocate(name.length + 1);
    if (name.length)
        memcpy(named->name, name.data, name.length);
    if (!tsearch(named, tree, named_compare))
        abort(); /* only out of memory */
    return named;
}

static void named_free(void **tree, struct named *named)
{
    tdelete(named, tree, named_compare);
    free(named->name);
    free(named);
}

static struct slice named_slice(const struct named *named)
{
    return (struct slice){named->name, named->length};
}

/* ---- channels ---- */

static void channel_drop(struct statistics *statistics, struct channel *channel)
{
    struct client *client = channel->client;
    statistics->version++;
    statistics->bytes -= channel->bytes;
    statistics->channel_count--;
    TAILQ_REMOVE(&statistics->channels, channel, in_all);
    TAILQ_REMOVE(&client->channels, channel, in_client);
    text_free(&channel->topics);
    named_free(&statistics->channel_tree, &channel->named);
    if (--client->count > 0)
        return;
    TAILQ_REMOVE(&statistics->clients, client, link);
    statistics->client_count--;
    named_free(&statistics->client_tree, &client->named);
}

static enum statistics_verdict channel_add(struct statistics *statistics, struct slice rpc_id,
    struct slice client_id, struct slice topics, int slot, struct source *source)
{
    struct channel *channel = named_find(&statistics->channel_tree, rpc_id);
    struct client *client = named_find(&statistics->client_tree, client_id);
    size_t bytes = sizeof *channel + sizeof *client + OVERHEAD_CHANNEL + rpc_id.length + client_id.length +
                   topics.length;
    if (channel && channel->client == client) { /* announced again */
        if (bytes > channel->bytes &&
            statistics->bytes - channel->bytes + bytes > statistics->settings.bytes_max)
            return STATISTICS_FULL;
        text_clear(&channel->topics);
        text_append_slice(&channel->topics, topics);
        statistics->bytes += bytes - channel->bytes;
        channel->bytes = bytes;
        channel->slot = slot;
        channel->source = source;
        statistics->version++;
        return STATISTICS_TAKEN;
    }
    if (client && client->count >= statistics->settings.channels_max)
        return STATISTICS_TOO_MANY;
    if (statistics->bytes + bytes > statistics->settings.bytes_max)
        return STATISTICS_FULL;
    if (channel) { /* under another client's name */
        channel_drop(statistics, channel);
        client = named_find(&statistics->client_tree, client_id);
    }
    if (!client) {
        client = named_make(&statistics->client_tree, client_id, sizeof *client);
        TAILQ_INIT(&client->channels);
        TAILQ_INSERT_TAIL(&statistics->clients, client, link);
        statistics->client_count++;
    }
    channel = named_make(&statistics->channel_tree, rpc_id, sizeof *channel);
    channel->client = client;
    channel->slot = slot;
    channel->source = source;
    channel->bytes = bytes;
    text_append_slice(&channel->topics, topics);
    TAILQ_INSERT_TAIL(&client->channels, channel, in_client);
    TAILQ_INSERT_TAIL(&statistics->channels, channel, in_all);
    client->count++;
    statistics->channel_count++;
    statistics->bytes += bytes;
    statistics->version++;
    return STATISTICS_TAKEN;
}

static bool read_string(const struct json_document *document, uint32_t token, struct text *out)
{
    text_clear(out);
    if (token == JSON_ABSENT || document->tokens[token].type != JSON_STRING)
        return false;
    json_string_decode(document, token, out);
    return out->length <= STATISTICS_NAME_MAX;
}

/* A JSON array of strings, written anew without spaces. */
static bool read_topics(const struct json_document *document, uint32_t token, struct text *out)
{
    struct text topic = {0};
    bool good = token != JSON_ABSENT && document->tokens[token].type == JSON_ARRAY;
    text_clear(out);
    text_append_char(out, '[');
    for (uint32_t at = good ? token + 1 : 0; good && at < document->tokens[token].next;
         at = document->tokens[at].next) {
        text_clear(&topic);
        good = document->tokens[at].type == JSON_STRING;
        if (good) {
            json_string_decode(document, at, &topic);
            text_append_string(out, out->length > 1 ? "," : "");
            text_append_json_utf8(out, text_slice(&topic));
        }
    }
    text_append_char(out, ']');
    text_free(&topic);
    return good;
}

static struct source *source_of(struct statistics *statistics, struct slice name, uint64_t now_ns)
{
    struct source *source = named_find(&statistics->source_tree, name);
    if (source || name.length > STATISTICS_NAME_MAX || statistics->source_count >= SOURCES_MAX)
        return source;
    source = named_make(&statistics->source_tree, name, sizeof *source);
    source->seen_ns = now_ns;
    TAILQ_INSERT_TAIL(&statistics->sources, source, link);
    statistics->source_count++;
    return source;
}

/* `at`: the token of {"rpc_id", "client_id", "topics"}. */
static enum statistics_verdict add_token(struct statistics *statistics, uint32_t at, int slot,
    struct source *source, bool only_new, struct text *rpc_id)
{
    const struct json_document *document = &statistics->document;
    struct text client_id = {0}, topics = {0};
    enum statistics_verdict verdict = STATISTICS_INVALID;
    if (document->tokens[at].type == JSON_OBJECT &&
        read_string(document, json_member(document, at, "rpc_id"), rpc_id) &&
        read_string(document, json_member(document, at, "client_id"), &client_id) &&
        read_topics(document, json_member(document, at, "topics"), &topics)) {
        verdict = STATISTICS_TAKEN;
        if (!only_new || !named_find(&statistics->channel_tree, text_slice(rpc_id)))
            verdict = channel_add(
                statistics, text_slice(rpc_id), text_slice(&client_id), text_slice(&topics), slot, source);
    }
    text_free(&client_id);
    text_free(&topics);
    return verdict;
}

static bool parse(struct statistics *statistics, struct slice data)
{
    return json_parse(&statistics->document, data.data, data.length, JSON_DEPTH, JSON_TOKENS) == JSON_OK &&
           statistics->document.tokens[0].type == JSON_OBJECT;
}

enum statistics_verdict statistics_add(
    struct statistics *statistics, struct slice data, struct statistics_owner owner, struct text *rpc_id)
{
    struct text own = {0};
    struct source *source = NULL;
    if (!parse(statistics, data))
        return STATISTICS_INVALID;
    if (owner.slot < 0 && owner.source.data)
        source = source_of(statistics, owner.source, clock_monotonic_ns());
    enum statistics_verdict verdict =
        add_token(statistics, 0, owner.slot, source, false, rpc_id ? rpc_id : &own);
    text_free(&own);
    return verdict;
}

bool statistics_remove(struct statistics *statistics, struct slice rpc_id)
{
    struct channel *channel = named_find(&statistics->channel_tree, rpc_id);
    if (channel)
        channel_drop(statistics, channel);
    return channel != NULL;
}

/* ---- other servers ---- */

/* Whom the sender names as the channel's server. True: it is this host, which knows its own channels. */
static bool merge_owner(struct statistics *statistics, uint32_t channel, struct slice self, uint64_t now_ns,
    struct source **source)
{
    const struct json_document *document = &statistics->document;
    struct text name = {0};
    bool own = false;
    *source = NULL;
    if (document->tokens[channel].type == JSON_OBJECT &&
        read_string(document, json_member(document, channel, OWNER_KEY), &name)) {
        own = slice_equals(text_slice(&name), self);
        *source = own ? NULL : source_of(statistics, text_slice(&name), now_ns);
    }
    text_free(&name);
    return own;
}

int statistics_merge(struct statistics *statistics, struct slice data, struct slice self, uint64_t now_ns,
    struct text *requester)
{
    const struct json_document *document = &statistics->document;
    struct text rpc_id = {0};
    if (!parse(statistics, data) ||
        !read_string(document, json_member(document, 0, "requesting_worker_id"), requester))
        return -1;
    uint32_t clients = json_member(document, 0, "clients");
    if (clients == JSON_ABSENT || document->tokens[clients].type != JSON_OBJECT)
        return -1;
    for (uint32_t key = clients + 1; key < document->tokens[clients].next;) {
        uint32_t list = key + 1;
        key = document->tokens[list].next;
        if (document->tokens[list].type != JSON_ARRAY)
            continue;
        for (uint32_t at = list + 1; at < document->tokens[list].next; at = document->tokens[at].next) {
            struct source *source;
            if (!merge_owner(statistics, at, self, now_ns, &source) && !(source && source->dead))
                add_token(statistics, at, -1, source, true, &rpc_id);
        }
    }
    text_free(&rpc_id);
    return 0;
}

bool statistics_server_seen(
    struct statistics *statistics, struct slice worker_id, struct slice source_name, uint64_t now_ns)
{
    struct source *source = source_of(statistics, source_name, now_ns);
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
        statistics->version++;
    }
    if (server)
        server->seen_ns = now_ns;
    return was_dead;
}

static void server_drop(struct statistics *statistics, struct server *server)
{
    TAILQ_REMOVE(&statistics->servers, server, link);
    named_free(&statistics->server_tree, &server->named);
    statistics->server_count--;
    statistics->version++;
}

static void source_drop_channels(struct statistics *statistics, const struct source *source)
{
    struct channel *next;
    for (struct channel *at = TAILQ_FIRST(&statistics->channels); at; at = next) {
        next = TAILQ_NEXT(at, in_all);
        if (at->source == source)
            channel_drop(statistics, at);
    }
}

void statistics_expire(struct statistics *statistics, uint64_t now_ns)
{
    uint64_t timeout_ns = (uint64_t)(statistics->settings.timeout * (double)CLOCK_SECOND);
    struct server *next_server;
    struct source *next_source;
    for (struct server *at = TAILQ_FIRST(&statistics->servers); at; at = next_server) {
        next_server = TAILQ_NEXT(at, link);
        if (now_ns - at->seen_ns >= timeout_ns)
            server_drop(statistics, at);
    }
    for (struct source *at = TAILQ_FIRST(&statistics->sources); at; at = next_source) {
        next_source = TAILQ_NEXT(at, link);
        uint64_t silent_ns = now_ns - at->seen_ns;
        if (!at->dead && silent_ns >= timeout_ns) {
            at->dead = true;
            source_drop_channels(statistics, at);
        }
        if (!at->dead || silent_ns < timeout_ns + FORGET_SECONDS * CLOCK_SECOND)
            continue;
        source_drop_channels(statistics, at);
        TAILQ_REMOVE(&statistics->sources, at, link);
        named_free(&statistics->source_tree, &at->named);
        statistics->source_count--;
    }
}

void statistics_forget_others(struct statistics *statistics)
{
    struct channel *next;
    for (struct channel *at = TAILQ_FIRST(&statistics->channels); at; at = next) {
        next = TAILQ_NEXT(at, in_all);
        if (at->slot < 0)
            channel_drop(statistics, at);
    }
}

void statistics_drop_worker(struct statistics *statistics, int slot,
    void (*dropped)(void *context, struct slice rpc_id), void *context)
{
    struct channel *next;
    for (struct channel *at = TAILQ_FIRST(&statistics->channels); at; at = next) {
        next = TAILQ_NEXT(at, in_all);
        if (at->slot != slot)
            continue;
        dropped(context, named_slice(&at->named));
        channel_drop(statistics, at);
    }
}

/* ---- showing ---- */

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

/* `self`: whose channels of this host are, when the owners are to be told; absent: not. */
static void write_channel(const struct channel *channel, struct slice self, struct text *out)
{
    text_append_string(out, "{\"rpc_id\":");
    text_append_json_utf8(out, named_slice(&channel->named));
    text_append_string(out, ",\"client_id\":");
    text_append_json_utf8(out, named_slice(&channel->client->named));
    text_append_string(out, ",\"topics\":");
    text_append_slice(out, text_slice(&channel->topics));
    if (self.data && (channel->slot >= 0 || channel->source)) {
        text_append_string(out, ",\"" OWNER_KEY "\":");
        text_append_json_utf8(out, channel->slot >= 0 ? self : named_slice(&channel->source->named));
    }
    text_append_char(out, '}');
}

static void write_client(const struct client *client, struct text *out)
{
    const struct channel *first = TAILQ_FIRST(&client->channels);
    text_append_json_utf8(out, named_slice(&client->named));
    text_append_string(out, ":[");
    for (const struct channel *at = first; at; at = TAILQ_NEXT(at, in_client)) {
        text_append_string(out, at == first ? "" : ",");
        write_channel(at, (struct slice){0}, out);
    }
    text_append_char(out, ']');
}

void statistics_write_clients(const struct statistics *statistics, struct text *out)
{
    const struct client *first = TAILQ_FIRST(&statistics->clients);
    for (const struct client *at = first; at; at = TAILQ_NEXT(at, link)) {
        text_append_string(out, at == first ? "" : ",");
        write_client(at, out);
    }
}

void statistics_write_servers(const struct statistics *statistics, bool after_other, struct text *out)
{
    for (const struct server *at = TAILQ_FIRST(&statistics->servers); at; at = TAILQ_NEXT(at, link)) {
        text_append_string(out, after_other ? "," : "");
        text_append_json_utf8(out, named_slice(&at->named));
        after_other = true;
    }
}

/* A message of the state in the making. */
struct state_part {
    struct text data;
    struct text names;           /* of "rpc_id_to_client_id" */
    const struct client *client; /* whose list is open; NULL: the message has nothing yet */
};

#define STATE_BETWEEN "]},\"rpc_id_to_client_id\":{"
#define STATE_END     "}}"

static void state_part_begin(struct state_part *part, struct slice requester)
{
    part->client = NULL;
    text_clear(&part->data);
    text_clear(&part->names);
    text_append_string(&part->data, "{\"requesting_worker_id\":");
    text_append_json_utf8(&part->data, requester);
    text_append_string(&part->data, ",\"clients\":{");
}

static void state_part_end(struct state_part *part)
{
    text_append_string(&part->data, STATE_BETWEEN);
    text_append_slice(&part->data, text_slice(&part->names));
    text_append_string(&part->data, STATE_END);
}

/* False when it would be longer than `most` then: nothing is written. */
static bool state_part_add(
    struct state_part *part, const struct channel *channel, struct slice self, size_t most)
{
    const size_t data_before = part->data.length, names_before = part->names.length;
    struct slice client = named_slice(&channel->client->named);
    if (part->client != channel->client) {
        text_append_string(&part->data, part->client ? "]," : "");
        text_append_json_utf8(&part->data, client);
        text_append_string(&part->data, ":[");
    } else {
        text_append_char(&part->data, ',');
    }
    write_channel(channel, self, &part->data);
    text_append_string(&part->names, part->client ? "," : "");
    text_append_json_utf8(&part->names, named_slice(&channel->named));
    text_append_char(&part->names, ':');
    text_append_json_utf8(&part->names, client);
    if (part->data.length + part->names.length + strlen(STATE_BETWEEN STATE_END) <= most) {
        part->client = channel->client;
        return true;
    }
    part->data.length = data_before;
    part->names.length = names_before;
    return false;
}

size_t statistics_write_state(const struct statistics *statistics, struct slice requester, struct slice self,
    size_t part_max, void (*part)(void *context, struct slice data), void *context)
{
    struct state_part made = {0};
    size_t left_out = 0;
    state_part_begin(&made, requester);
    for (const struct client *client = TAILQ_FIRST(&statistics->clients); client;
         client = TAILQ_NEXT(client, link)) {
        for (const struct channel *at = TAILQ_FIRST(&client->channels); at; at = TAILQ_NEXT(at, in_client)) {
            bool added = state_part_add(&made, at, self, part_max);
            if (!added && made.client) {
                state_part_end(&made);
                part(context, text_slice(&made.data));
                state_part_begin(&made, requester);
                added = state_part_add(&made, at, self, part_max);
            }
            left_out += !added;
        }
    }
    if (made.client) {
        state_part_end(&made);
        part(context, text_slice(&made.data));
    }
    text_free(&made.data);
    text_free(&made.names);
    return left_out;
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
        struct source *source = TAILQ_FIRST(&statistics->sources);
        TAILQ_REMOVE(&statistics->sources, source, link);
        named_free(&statistics->source_tree, &source->named);
    }
    json_free(&statistics->document);
    free(statistics);
}
