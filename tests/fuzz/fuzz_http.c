/*
 * HTTP against arbitrary bytes. The first byte chooses:
 *   even: a connection. The rest is what the peer sends, once in a single piece and once in small ones: both
 *         must be answered alike, with whole replies, and the session must end when it says so.
 *   odd:  the body of a data update. An accepted one must give an event that is JSON, with the four keys,
 *         whose entries have the topics that it is published to, and within the limits.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/json.h"
#include "shm/common/log.h"
#include "shm/load_limit.h"
#include "shm/figures.h"
#include "shm/worker_table.h"
#include "shm/link/publisher.h"
#include "worker/api/api_services.h"
#include "worker/api/data_update.h"
#include "worker/api/http_docs.h"
#include "worker/api/http_metrics.h"
#include "worker/api/routes.h"
#include "worker/http/forwarded.h"
#include "worker/http/http_session.h"
#include "worker/policy/policy_services.h"
#include "tests/fuzz/fuzz.h"

#define EVENT_MAX       4096
#define TOPICS_MAX      30
#define TOPIC_MAX_BYTES 64
#define JSON_DEPTH      40
#define JSON_TOKENS     2000
#define REQUIRE(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

/* ---- in place of shared memory and the publisher ---- */

void counter_add(struct segment *segment, uint32_t block, enum counter counter, uint64_t amount)
{
    (void)segment;
    (void)block;
    REQUIRE(counter < COUNTER_COUNT && amount == 1);
}

enum backbone_state backbone_state_read(const struct segment *segment)
{
    (void)segment;
    return BACKBONE_UP;
}

struct backbone_health backbone_health_read(const struct segment *segment)
{
    (void)segment;
    return (struct backbone_health){.trouble = BACKBONE_NO_TROUBLE};
}

uint64_t messages_limit_read(const struct segment *segment)
{
    (void)segment;
    return 0;
}

uint64_t master_heartbeat_read(const struct segment *segment)
{
    (void)segment;
    return 0;
}

/* shm/figures.c and the page that shows them need a segment */
void figures_count_http(struct segment *segment, unsigned slot, unsigned route, unsigned status)
{
    (void)segment;
    (void)slot;
    REQUIRE(route < FIGURES_ROUTES && status >= 200 && status < 600);
}

enum http_answer metrics_get(struct http_exchange *exchange)
{
    http_reply_set(&exchange->reply, 200, HTTP_TEXT, SLICE_LITERAL("opald_figure 1\n"));
    return HTTP_ANSWERED;
}

const struct rate_limit *load_limit_take(
    struct segment *segment, const struct rate_limits *limits, uint64_t now_ms)
{
    (void)segment;
    (void)now_ms;
    return &limits->items[0];
}

uint64_t event_limit_read(const struct segment *segment)
{
    (void)segment;
    return EVENT_MAX;
}

struct publisher {
    publish_done *done;
    void *context;
    /* for the backbone */
    bool waits;
    unsigned count;
};

enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket)
{
    REQUIRE(!publisher->done && request->topic_count > 0 && request->topic_count <= TOPICS_MAX);
    REQUIRE(request->data.length <= EVENT_MAX);
    if (++publisher->count % 4 == 0)
        return PUBLISH_BUSY;
    publisher->done = request->done;
    publisher->context = request->context;
    publisher->waits = request->wants_acknowledgement;
    REQUIRE(request->server_side);
    *ticket = publisher->count;
    return PUBLISH_ORDERED;
}

void publisher_cancel(struct publisher *publisher, uint64_t ticket)
{
    REQUIRE(publisher->done && ticket == publisher->count);
    publisher->done = NULL;
}

static void publisher_decide(struct publisher *publisher, struct http_session *session)
{
    while (publisher->done) {
        publish_done *done = publisher->done;
        if (publisher->waits && publisher->count % 5 == 0) {
            http_session_backbone_late(session); /* which cancels it */
            continue;
        }
        publisher->done = NULL;
        done(publisher->context, publisher->count % 3 == 0 ? PUBLISH_TOO_LARGE
                                 : publisher->waits        ? PUBLISH_ACKNOWLEDGED
                                                           : PUBLISH_ORDERED);
    }
}

/* ---- a connection ---- */

struct peer {
    struct text sent;
    struct text rest;
    bool upgraded;
    bool finished;
};

static void peer_send(void *connection, const void *bytes, size_t length)
{
    struct peer *peer = connection;
    REQUIRE(!peer->finished && !peer->upgraded);
    text_append(&peer->sent, bytes, length);
}

static void peer_upgrade(void *connection, const struct http_request *request, struct slice rest)
{
    struct peer *peer = connection;
    REQUIRE(!peer->finished && !peer->upgraded && request->path.data && request->body.length == 0);
    peer->upgraded = true;
    text_append_slice(&peer->rest, rest);
}

static void peer_finish(void *connection)
{
    struct peer *peer = connection;
    REQUIRE(!peer->finished && !peer->upgraded);
    peer->finished = true;
}

static void peer_deadline(void *connection, enum http_deadline deadline)
{
    REQUIRE(connection && deadline <= HTTP_DEADLINE_BACKBONE);
}

static const char *peer_name(void *connection)
{
    REQUIRE(connection);
    return "127.0.0.1:1";
}

static void peer_head(void *connection, const struct http_request *request)
{
    static char trusted[] = "10.0.0.0/8", *items[] = {trusted};
    struct network_list list;
    struct forwarded_client client;
    struct error err = {0};
    const char *wrong = NULL;
    REQUIRE(connection);
    if (!request)
        return;
    REQUIRE(network_list_parse(&list, items, 1, &err) == 0);
    enum forwarded_result result = forwarded_find_client(request, &list, 4, &client, &wrong);
    REQUIRE(result != FORWARDED_TAKEN || (client.host[0] && memchr(client.host, 0, sizeof client.host)));
    REQUIRE(result != FORWARDED_REFUSED || wrong);
    network_list_free(&list);
}

static const char *peer_scheme(void *connection)
{
    REQUIRE(connection);
    return "http";
}

static const struct http_connection_operations operations = {
    .send = peer_send,
    .upgrade = peer_upgrade,
    .finish = peer_finish,
    .deadline = peer_deadline,
    .head = peer_head,
    .peer = peer_name,
    .scheme = peer_scheme,
};

static void converse(const struct http_services *services, const uint8_t *data, size_t size, size_t piece,
    bool timeout, struct peer *peer)
{
    struct http_session *session = http_session_open(services, &operations, peer);
    bool going = true;
    while (size && going && !peer->finished && !peer->upgraded) {
        size_t take = size < piece ? size : piece;
        char *copy = malloc(take); /* of its own, so that each over-read is seen */
        REQUIRE(copy);
        memcpy(copy, data, take);
        going = http_session_input(session, copy, take);
        free(copy);
        REQUIRE(going == !(peer->finished || peer->upgraded));
        REQUIRE(!going || http_session_wants_input(session) == !services->publisher->done);
        publisher_decide(services->publisher, session);
        data += take;
        size -= take;
    }
    if (peer->upgraded) /* what was not fed any more belongs to the websocket too */
        text_append(&peer->rest, data, size);
    if (timeout && !peer->finished && !peer->upgraded) {
        http_session_timeout(session);
        REQUIRE(peer->finished);
    }
    http_session_free(session);
}

/* Whole replies only, each with what every reply has; the date is taken out. */
static void require_replies(struct text *sent)
{
    size_t at = 0;
    while (at < sent->length) {
        char *head = sent->data + at;
        char *end = strstr(head, "\r\n\r\n");
        REQUIRE(end && strncmp(head, "HTTP/1.1 ", 9) == 0);
        at = (size_t)(end - sent->data) + 4;
        if (strncmp(head, "HTTP/1.1 100 ", 13) == 0)
            continue;
        char *date = strstr(head, "\r\ndate: ");
        char *length = strstr(head, "\r\ncontent-length: ");
        REQUIRE(date && date < end && length && length < end && strstr(head, "\r\nserver: uvicorn\r\n"));
        memset(date + 8, '-', 29);
        size_t body = strtoul(length + 18, NULL, 10);
        if (at + body > sent->length || strncmp(sent->data + at, "HTTP/1.1 ", 9) == 0)
            body = 0; /* the reply to a HEAD; a reply that was cut off would fail in the next round */
        at += body;
    }
    REQUIRE(at == sent->length);
}

static void fuzz_connection(const uint8_t *data, size_t size, uint8_t choice)
{
    static char *any[] = {(char *)"*"};
    static const struct config config = {
        .host = "h",
        .port = 7002,
        .http_header_max_bytes = 512,
        .http_header_max_count = 12,
        .http_body_max_bytes = 2048,
        .limits.json_max_depth = JSON_DEPTH,
        .limits.json_max_tokens = JSON_TOKENS,
        .limits.topics_max = TOPICS_MAX,
        .limits.topic_max_bytes = TOPIC_MAX_BYTES,
        .data_config_route = "/data/config",
        .all_data_route = "/policy-data",
        .all_data_topic = "policy_data",
        .all_data_url = "http://localhost:7002/policy-data",
        .data_callback_default_route = "/data/callback_report",
        .auth_jwks_url = "/.well-known/jwks.json",
        .allowed_origins = {any, 1},
    };
    struct publisher publishers[2] = {0};
    struct peer peers[2] = {0};
    static const struct policy_services policy;
    static struct api_services api; /* one for all inputs */
    if (!api.docs)
        api.docs = http_docs_make(&config);
    for (int i = 0; i < 2; i++) {
        struct http_services services = {.config = &config,
            .routes = &api_routes,
            .publisher = &publishers[i],
            .api = &api,
            .policy = &policy};
        size_t piece = i == 0 ? size : 1u + (choice >> 4);
        converse(&services, data, size, piece, choice & 2, &peers[i]);
        require_replies(&peers[i].sent);
    }
    REQUIRE(slice_equals(text_slice(&peers[0].sent), text_slice(&peers[1].sent)));
    REQUIRE(slice_equals(text_slice(&peers[0].rest), text_slice(&peers[1].rest)));
    REQUIRE(peers[0].upgraded == peers[1].upgraded && peers[0].finished == peers[1].finished);
    REQUIRE(publishers[0].count == publishers[1].count);
    for (int i = 0; i < 2; i++) {
        text_free(&peers[i].sent);
        text_free(&peers[i].rest);
    }
}

/* ---- a data update ---- */

static void require_event(const struct data_update *update)
{
    static const char *const keys[] = {"id", "entries", "reason", "callback"};
    static const char *const entry_keys[] = {"url", "config", "topics", "dst_path", "save_method", "data"};
    struct json_document event = {0};
    struct text scratch = {0};
    /* wrapping patch actions and pairs adds no level that was not there */
    REQUIRE(json_parse(&event, update->data.data, update->data.length, JSON_DEPTH + 4, 100000) == JSON_OK);
    REQUIRE(event.tokens[0].type == JSON_OBJECT && event.tokens[0].size == 4);
    for (size_t i = 0; i < 4; i++)
        REQUIRE(json_member(&event, 0, keys[i]) != JSON_ABSENT);
    uint32_t entries = json_member(&event, 0, "entries");
    for (uint32_t entry = entries + 1; entry < event.tokens[entries].next; entry = event.tokens[entry].next) {
        REQUIRE(event.tokens[entry].size == 6);
        for (size_t i = 0; i < 6; i++)
            REQUIRE(json_member(&event, entry, entry_keys[i]) != JSON_ABSENT);
        uint32_t topics = json_member(&event, entry, "topics");
        for (uint32_t topic = topics + 1; topic < event.tokens[topics].next; topic++) {
            struct slice name = json_string_view(&event, topic, &scratch);
            uint32_t i = 0;
            while (i < update->topics.count && !slice_equals(topic_set_item(&update->topics, i), name))
                i++;
            REQUIRE(i < update->topics.count && name.length <= TOPIC_MAX_BYTES);
        }
    }
    for (size_t i = 0; i < update->topics.count; i++)
        for (size_t k = 0; k < i; k++)
            REQUIRE(!slice_equals(
                topic_set_item(&update->topics, (uint32_t)i), topic_set_item(&update->topics, (uint32_t)k)));
    text_free(&scratch);
    json_free(&event);
}

static void fuzz_update(const uint8_t *data, size_t size)
{
    static const struct event_limits limits = {
        .event_max_bytes = EVENT_MAX,
        .topics_max = TOPICS_MAX,
        .topic_max_bytes = TOPIC_MAX_BYTES,
        .json_max_depth = JSON_DEPTH,
        .json_max_tokens = JSON_TOKENS,
    };
    struct json_document document = {0};
    struct data_update update = {0};
    char *text = malloc(size ? size : 1);
    REQUIRE(text);
    memcpy(text, data, size);
    if (json_parse(&document, text, size, JSON_DEPTH, JSON_TOKENS) == JSON_OK) {
        enum data_update_outcome outcome = data_update_convert(&update, &document, &limits);
        REQUIRE((outcome == DATA_UPDATE_INVALID) <= (update.validation.count > 0));
        if (outcome == DATA_UPDATE_OK) {
            REQUIRE(update.validation.count == 0 && update.topics.count <= TOPICS_MAX);
            require_event(&update);
        }
        struct http_reply reply = {0};
        validation_reply(&update.validation, &reply);
        struct json_document errors = {0};
        REQUIRE(json_parse(&errors, reply.body.data, reply.body.length, 10, 1000000) == JSON_OK);
        json_free(&errors);
        http_reply_free(&reply);
    }
    data_update_free(&update);
    json_free(&document);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct log_settings quiet = {.level = LOG_CRITICAL};
    log_configure(&quiet);
    if (!size)
        return 0;
    if (data[0] & 1)
        fuzz_update(data + 1, size - 1);
    else
        fuzz_connection(data + 1, size - 1, data[0]);
    return 0;
}
