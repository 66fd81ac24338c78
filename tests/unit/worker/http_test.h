/* What the HTTP tests share: a connection that keeps what is sent, and a publisher (in place of shm/link/publisher.c at link time) that
 * keeps what is published and decides when told. */
#ifndef OPALD_TESTS_UNIT_WORKER_HTTP_TEST_H
#define OPALD_TESTS_UNIT_WORKER_HTTP_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/worker_table.h"
#include "worker/http/forwarded.h"
#include "worker/http/http_session.h"

/* ---- the fake publisher ---- */

struct publisher {
    enum publish_outcome answer; /* of publisher_publish itself */
    unsigned published;
    unsigned cancelled;
    bool wants_acknowledgement;
    struct text topics; /* one a line */
    struct text data;
    publish_done *done;
    void *context;
};

enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket)
{
    if (publisher->answer != PUBLISH_ORDERED)
        return publisher->answer;
    publisher->published++;
    text_clear(&publisher->topics);
    text_clear(&publisher->data);
    for (uint32_t i = 0; i < request->topic_count; i++) {
        text_append_slice(&publisher->topics, request->topics[i]);
        text_append_char(&publisher->topics, '\n');
    }
    text_append_slice(&publisher->data, request->data);
    assert_null(request->notifier.data);
    assert_true(request->server_side);
    publisher->wants_acknowledgement = request->wants_acknowledgement;
    publisher->done = request->done;
    publisher->context = request->context;
    *ticket = 41 + publisher->published;
    return PUBLISH_ORDERED;
}

void publisher_cancel(struct publisher *publisher, uint64_t ticket)
{
    assert_int_equal(ticket, 41 + publisher->published);
    publisher->cancelled++;
    publisher->done = NULL;
}

static inline void publisher_decide(struct publisher *publisher, enum publish_outcome outcome)
{
    publish_done *done = publisher->done;
    publisher->done = NULL;
    assert_non_null(done);
    done(publisher->context, outcome);
}

/* ---- the fake connection ---- */

struct http_test {
    struct config config;
    struct http_services services;
    struct publisher publisher;
    struct http_session *session;
    struct text sent;
    struct text upgrade_path;
    struct text upgrade_rest;
    bool finished;
    bool over; /* http_session_input returned false */
    int deadline;
    unsigned deadlines_set;
    const char *scheme; /* as the request in hand was forwarded */
};

static inline void test_send(void *connection, const void *bytes, size_t length)
{
    struct http_test *test = connection;
    assert_false(test->finished);
    text_append(&test->sent, bytes, length);
}

static inline void test_upgrade(void *connection, const struct http_request *request, struct slice rest)
{
    struct http_test *test = connection;
    text_append_slice(&test->upgrade_path, request->path);
    text_append_slice(&test->upgrade_rest, rest);
}

static inline void test_finish(void *connection)
{
    struct http_test *test = connection;
    assert_false(test->finished);
    test->finished = true;
}

static inline void test_deadline(void *connection, enum http_deadline deadline)
{
    struct http_test *test = connection;
    test->deadline = (int)deadline;
    test->deadlines_set++;
}

static inline const char *test_peer(void *connection)
{
    (void)connection;
    return "127.0.0.1:33210";
}

/* Behind a trusted proxy. */
static inline void test_head(void *connection, const struct http_request *request)
{
    struct http_test *test = connection;
    test->scheme = request ? forwarded_find_scheme(request) : NULL;
}

static inline const char *test_scheme(void *connection)
{
    const struct http_test *test = connection;
    return test->scheme ? test->scheme : "http";
}

static const struct http_connection_operations test_operations = {
    .send = test_send,
    .upgrade = test_upgrade,
    .finish = test_finish,
    .deadline = test_deadline,
    .head = test_head,
    .peer = test_peer,
    .scheme = test_scheme,
};

static inline struct segment *test_segment(void)
{
    static struct segment *segment;
    struct error err = {0};
    struct segment_settings settings = {.ring_bytes = 65536, .uplink_bytes = 65536, .slots = 1};
    if (!segment)
        segment = segment_create(&settings, &err);
    assert_non_null(segment);
    event_limit_write(segment, 1 << 20);
    backbone_state_write(segment, BACKBONE_NONE);
    return segment;
}

static inline void test_open(struct http_test *test)
{
    static char *any[] = {(char *)"*"};
    *test = (struct http_test){
        .config =
            {
                .host = "127.0.0.1",
                .port = 7002,
                .http_header_max_bytes = 4096,
                .http_header_max_count = 20,
                .http_body_max_bytes = 100000,
                .publish_wait_seconds = 2.5,
                .json_max_depth = 64,
                .json_max_tokens = 20000,
                .topics_max = 50,
                .topic_max_bytes = 100,
                .data_config_route = "/data/config",
                .all_data_route = "/policy-data",
                .all_data_topic = "policy_data",
                .all_data_url = "http://localhost:7002/policy-data",
                .data_callback_default_route = "/data/callback_report",
                .auth_jwks_url = "/.well-known/jwks.json",
                .allowed_origins = {any, 1},
            },
    };
    struct log_settings quiet = {.level = LOG_CRITICAL};
    log_configure(&quiet);
    test->services = (struct http_services){
        .config = &test->config, .segment = test_segment(), .slot = 0, .publisher = &test->publisher};
    test->session = http_session_open(&test->services, &test_operations, test);
}

static inline void test_close(struct http_test *test)
{
    http_session_free(test->session);
    text_free(&test->sent);
    text_free(&test->upgrade_path);
    text_free(&test->upgrade_rest);
    text_free(&test->publisher.topics);
    text_free(&test->publisher.data);
}

static inline void test_input(struct http_test *test, const char *bytes)
{
    /* on the heap and of the exact size: an over-read is seen by the sanitizer */
    size_t length = strlen(bytes);
    char *copy = memory_copy(bytes, length);
    test->over = !http_session_input(test->session, copy, length);
    free(copy);
}

/* What was sent, with the date taken out; emptied. */
static inline char *test_taken(struct http_test *test)
{
    char *out = memory_copy_string(test->sent.data ? test->sent.data : "");
    char *date;
    while ((date = strstr(out, "\r\ndate: ")) != NULL) {
        char *end = strstr(date + 2, "\r\n");
        memmove(date, end, strlen(end) + 1);
    }
    text_clear(&test->sent);
    return out;
}

static inline void test_expect(struct http_test *test, const char *bytes)
{
    char *taken = test_taken(test);
    assert_string_equal(taken, bytes);
    free(taken);
}

/* A request in, the exact reply out. */
static inline void test_exchange(struct http_test *test, const char *request, const char *reply)
{
    test_input(test, request);
    test_expect(test, reply);
}

#define JSON_REPLY(status, length, body) \
    "HTTP/1.1 " status "\r\nserver: uvicorn\r\ncontent-length: " length \
    "\r\ncontent-type: application/json\r\n\r\n" body
#define BAD_REQUEST \
    "HTTP/1.1 400 Bad Request\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8\r\n" \
    "content-length: 30\r\nconnection: close\r\n\r\nInvalid HTTP request received."
#define OK_REPLY JSON_REPLY("200 OK", "15", "{\"status\":\"ok\"}")

/* POST with the right length; `headers` are whole lines or "". */
static inline void test_post(struct http_test *test, const char *path, const char *headers, const char *body)
{
    struct text request = {0};
    text_append_format(&request, "POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n%s\r\n%s", path,
        strlen(body), headers, body);
    test_input(test, request.data);
    text_free(&request);
}

#endif
