#include "server/statistics/statistics_document.h"

#include <assert.h>
#include <string.h>

#include "shm/common/document.h"

/* Next to rpc_id in a state that a server of ours sends; the reference ignores it. */
#define OWNER_KEY "opald_server"

static const struct document_limits limits = {.depth = 16, .values = 1000000};
/* what the messages between servers have at most, but for the state */
static const struct document_limits small_limits = {.depth = 8, .values = 1000};

/* ---- reading ---- */

static bool is_name(const cJSON *item)
{
    return cJSON_IsString(item) && strlen(item->valuestring) <= STATISTICS_NAME_MAX;
}

static bool is_list_of_strings(const cJSON *item)
{
    const cJSON *each;
    if (!cJSON_IsArray(item))
        return false;
    cJSON_ArrayForEach (each, item)
        if (!cJSON_IsString(each))
            return false;
    return true;
}

bool statistics_read_member(struct slice data, const char *key, struct text *out)
{
    cJSON *document = document_parse(data, &small_limits);
    const cJSON *value = document_member(document, key);
    bool good = is_name(value);
    if (good)
        text_append_string(out, value->valuestring);
    cJSON_Delete(document);
    return good;
}

bool statistics_read_string(struct slice data, struct text *out)
{
    cJSON *document = document_parse(data, &small_limits);
    bool good = cJSON_IsString(document);
    if (good)
        text_append_string(out, document->valuestring);
    cJSON_Delete(document);
    return good;
}

/* The members that are shown, in this order; the rest of what was announced is not kept. */
static void show(const cJSON *rpc_id, const cJSON *client_id, const cJSON *topics, struct text *out)
{
    cJSON *shown = cJSON_CreateObject();
    cJSON_AddItemToObjectCS(shown, "rpc_id", cJSON_CreateStringReference(rpc_id->valuestring));
    cJSON_AddItemToObjectCS(shown, "client_id", cJSON_CreateStringReference(client_id->valuestring));
    cJSON_AddItemToObjectCS(shown, "topics", cJSON_CreateArrayReference(topics->child));
    document_write(shown, out);
    cJSON_Delete(shown);
}

/* `item`: {"rpc_id", "client_id", "topics"} */
static enum statistics_verdict put_item(struct statistics *statistics, const cJSON *item,
    struct statistics_owner owner, uint64_t now_ns, struct text *rpc_id)
{
    const cJSON *rpc = document_member(item, "rpc_id");
    const cJSON *client = document_member(item, "client_id");
    const cJSON *topics = document_member(item, "topics");
    struct text shown = {0};
    if (!is_name(rpc) || !is_name(client) || !is_list_of_strings(topics))
        return STATISTICS_INVALID;
    show(rpc, client, topics, &shown);
    const struct statistics_announcement announcement = {.rpc_id = slice_from_string(rpc->valuestring),
        .client_id = slice_from_string(client->valuestring),
        .shown = text_slice(&shown)};
    enum statistics_verdict verdict = statistics_put(statistics, &announcement, owner, now_ns);
    if (rpc_id)
        text_append_slice(rpc_id, announcement.rpc_id);
    text_free(&shown);
    return verdict;
}

enum statistics_verdict statistics_add(struct statistics *statistics, struct slice data,
    struct statistics_owner owner, uint64_t now_ns, struct text *rpc_id)
{
    cJSON *document = document_parse(data, &limits);
    enum statistics_verdict verdict = put_item(statistics, document, owner, now_ns, rpc_id);
    cJSON_Delete(document);
    return verdict;
}

/* A channel of another server's state, unless it is known, this host's own, or of a dead server. */
static void merge_item(struct statistics *statistics, const cJSON *item, struct slice self, uint64_t now_ns)
{
    const cJSON *rpc = document_member(item, "rpc_id");
    const cJSON *owner_name = document_member(item, OWNER_KEY);
    struct statistics_owner owner = {.slot = -1};
    if (is_name(owner_name))
        owner.source = slice_from_string(owner_name->valuestring);
    if (!is_name(rpc) || statistics_has(statistics, slice_from_string(rpc->valuestring)) ||
        (owner.source.data &&
            (slice_equals(owner.source, self) || statistics_is_dead(statistics, owner.source))))
        return;
    /* what is over a limit is left out: the server that has it says so */
    (void)!put_item(statistics, item, owner, now_ns, NULL);
}

int statistics_merge(struct statistics *statistics, struct slice data, struct slice self, uint64_t now_ns,
    struct text *requester)
{
    cJSON *document = document_parse(data, &limits);
    const cJSON *asked_by = document_member(document, "requesting_worker_id");
    const cJSON *clients = document_member(document, "clients");
    const cJSON *list, *item;
    bool good = is_name(asked_by) && cJSON_IsObject(clients);
    if (good) {
        text_append_string(requester, asked_by->valuestring);
        cJSON_ArrayForEach (list, clients)
            if (cJSON_IsArray(list))
                cJSON_ArrayForEach (item, list)
                    merge_item(statistics, item, self, now_ns);
    }
    cJSON_Delete(document);
    return good ? 0 : -1;
}

/* ---- the answer of /statistics: a document for each client, so that no tree of all is built ---- */

static void write_name(const struct named *named, struct text *out)
{
    cJSON *name = cJSON_CreateStringReference(named->name);
    document_write(name, out);
    cJSON_Delete(name);
}

void statistics_write_clients(const struct statistics *statistics, struct text *out)
{
    const struct statistics_client *client = NULL;
    const char *comma = "";
    while ((client = statistics_next_client(statistics, client))) {
        const struct statistics_channel *first = TAILQ_FIRST(&client->channels);
        text_append_string(out, comma);
        write_name(&client->named, out);
        for (const struct statistics_channel *at = first; at; at = TAILQ_NEXT(at, in_client)) {
            text_append_string(out, at == first ? ":[" : ",");
            text_append_slice(out, text_slice(&at->shown));
        }
        text_append_char(out, ']');
        comma = ",";
    }
}

void statistics_write_servers(const struct statistics *statistics, bool after_other, struct text *out)
{
    const struct named *server = NULL;
    while ((server = statistics_next_server(statistics, server))) {
        text_append_string(out, after_other ? "," : "");
        write_name(server, out);
        after_other = true;
    }
}

/* ---- the state for other servers ---- */

/* A message that is being written. */
struct state_part {
    struct text data;
    /* of "rpc_id_to_client_id" */
    struct text names;
    /* whose list is open; NULL: the message has nothing yet */
    const struct statistics_client *client;
};

#define STATE_BETWEEN "]},\"rpc_id_to_client_id\":{"
#define STATE_END     "}}"

static void state_part_begin(struct state_part *part, const char *requester)
{
    cJSON *name = cJSON_CreateStringReference(requester);
    part->client = NULL;
    text_clear(&part->data);
    text_clear(&part->names);
    text_append_string(&part->data, "{\"requesting_worker_id\":");
    document_write(name, &part->data);
    text_append_string(&part->data, ",\"clients\":{");
    cJSON_Delete(name);
}

static void state_part_end(struct state_part *part)
{
    text_append_string(&part->data, STATE_BETWEEN);
    text_append_slice(&part->data, text_slice(&part->names));
    text_append_string(&part->data, STATE_END);
}

/* With its owner, which /statistics does not show. */
static void write_owned(const struct statistics_channel *channel, struct slice self, struct text *out)
{
    struct slice shown = text_slice(&channel->shown);
    struct slice owner = channel->slot >= 0 ? self
                         : channel->source  ? named_slice(&channel->source->named)
                                            : (struct slice){0};
    if (!self.data || !owner.data) {
        text_append_slice(out, shown);
        return;
    }
    text_append(out, shown.data, shown.length - 1); /* without its brace */
    text_append_string(out, ",\"" OWNER_KEY "\":");
    text_append_json_utf8(out, owner);
    text_append_char(out, '}');
}

/* False when it would be longer than `most` then: nothing is written. */
static bool state_part_add(
    struct state_part *part, const struct statistics_channel *channel, struct slice self, size_t most)
{
    const size_t data_before = part->data.length, names_before = part->names.length;
    assert(channel->client);
    if (part->client != channel->client) {
        text_append_string(&part->data, part->client ? "]," : "");
        write_name(&channel->client->named, &part->data);
        text_append_string(&part->data, ":[");
    } else {
        text_append_char(&part->data, ',');
    }
    write_owned(channel, self, &part->data);
    text_append_string(&part->names, part->client ? "," : "");
    write_name(&channel->named, &part->names);
    text_append_char(&part->names, ':');
    write_name(&channel->client->named, &part->names);
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
    struct text asked_by = {0};
    const struct statistics_client *client = NULL;
    size_t left_out = 0;
    text_append_slice(&asked_by, requester);
    text_append_char(&asked_by, '\0'); /* also of an empty one */
    state_part_begin(&made, asked_by.data);
    while ((client = statistics_next_client(statistics, client))) {
        const struct statistics_channel *at;
        TAILQ_FOREACH (at, &client->channels, in_client) {
            bool added = state_part_add(&made, at, self, part_max);
            if (!added && made.client) {
                state_part_end(&made);
                part(context, text_slice(&made.data));
                state_part_begin(&made, asked_by.data);
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
    text_free(&asked_by);
    return left_out;
}
