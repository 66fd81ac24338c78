#include "tests/unit/worker/http/http_harness.h"

#include "worker/http/forwarded.h"

static void on_send(void *connection, const void *bytes, size_t length)
{
    struct http_test *test = connection;
    assert_false(test->finished);
    text_append(&test->sent, bytes, length);
}

static void on_upgrade(void *connection, const struct http_request *request, struct slice rest)
{
    struct http_test *test = connection;
    text_append_slice(&test->upgrade_path, request->path);
    text_append_slice(&test->upgrade_rest, rest);
}

static void on_finish(void *connection)
{
    struct http_test *test = connection;
    assert_false(test->finished);
    test->finished = true;
}

static void on_deadline(void *connection, enum http_deadline deadline)
{
    struct http_test *test = connection;
    test->deadline = (int)deadline;
    test->deadlines_set++;
}

static const char *on_peer(void *connection)
{
    (void)connection;
    return "127.0.0.1:33210";
}

/* Behind a trusted proxy. */
static void on_head(void *connection, const struct http_request *request)
{
    struct http_test *test = connection;
    test->scheme = request ? forwarded_find_scheme(request) : NULL;
}

static const char *on_scheme(void *connection)
{
    const struct http_test *test = connection;
    return test->scheme ? test->scheme : "http";
}

static const struct http_connection_operations operations = {
    .send = on_send,
    .upgrade = on_upgrade,
    .finish = on_finish,
    .deadline = on_deadline,
    .head = on_head,
    .peer = on_peer,
    .scheme = on_scheme,
};

static struct segment *shared_segment(void)
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

void http_test_open(struct http_test *test)
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
                .limits.json_max_depth = 64,
                .limits.json_max_tokens = 20000,
                .limits.topics_max = 50,
                .limits.topic_max_bytes = 100,
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
    test->services = (struct http_services){.config = &test->config, .segment = shared_segment(), .slot = 0};
    test->session = http_session_open(&test->services, &operations, test);
}

void http_test_close(struct http_test *test)
{
    http_session_free(test->session);
    text_free(&test->sent);
    text_free(&test->upgrade_path);
    text_free(&test->upgrade_rest);
}

void http_test_input(struct http_test *test, const char *bytes)
{
    /* on the heap and of the exact size: an over-read is seen by the sanitizer */
    size_t length = strlen(bytes);
    char *copy = memory_copy(bytes, length);
    test->over = !http_session_input(test->session, copy, length);
    free(copy);
}

char *http_test_taken(struct http_test *test)
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

void http_test_expect(struct http_test *test, const char *bytes)
{
    char *taken = http_test_taken(test);
    assert_string_equal(taken, bytes);
    free(taken);
}

void http_test_expect_part(struct http_test *test, const char *head, const char *part)
{
    char *taken = http_test_taken(test);
    assert_ptr_equal(strstr(taken, head), taken);
    assert_non_null(strstr(taken, part));
    free(taken);
}

void http_test_exchange(struct http_test *test, const char *request, const char *reply)
{
    http_test_input(test, request);
    http_test_expect(test, reply);
}

void http_test_post(struct http_test *test, const char *path, const char *headers, const char *body)
{
    struct text request = {0};
    text_append_format(&request, "POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n%s\r\n%s", path,
        strlen(body), headers, body);
    http_test_input(test, request.data);
    text_free(&request);
}
