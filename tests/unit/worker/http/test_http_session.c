/* One connection: replies to the byte, order, keep-alive, pipelining, deadlines, limits, refusals. */
#include "tests/unit/worker/http/http_harness.h"

#include "worker/http/http_routes.h"

/* ---- some routes ---- */

/* What the last handler that answered HTTP_PENDING waits for. */
static struct waiting {
    struct http_exchange *exchange;
    unsigned cancelled;
} waiting;

static void cancel(struct http_exchange *exchange)
{
    assert_ptr_equal(exchange, waiting.exchange);
    waiting.exchange = NULL;
    waiting.cancelled++;
}

static void late(struct http_exchange *exchange, bool stopping)
{
    http_reply_detail(&exchange->reply, 504, stopping ? "stopping" : "late");
}

static enum http_answer wait_post(struct http_exchange *exchange)
{
    assert_null(waiting.exchange);
    waiting.exchange = exchange;
    exchange->cancel = cancel;
    if (http_request_header(exchange->request, "x-wait").data)
        exchange->late = late;
    return HTTP_PENDING;
}

static void finish(void)
{
    struct http_exchange *exchange = waiting.exchange;
    assert_non_null(exchange);
    waiting.exchange = NULL;
    http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("null"));
    exchange->finished(exchange);
}

/* Answers with the length of the body. */
static enum http_answer body_post(struct http_exchange *exchange)
{
    char length[32];
    snprintf(length, sizeof length, "%zu", exchange->request->body.length);
    http_reply_set(&exchange->reply, 200, HTTP_JSON, slice_from_string(length));
    return HTTP_ANSWERED;
}

#define OK_BODY "{\"status\":\"ok\"}"
static const struct http_route routes[] = {
    {.method = "GET", .path = "/", .body = OK_BODY},
    {.method = "GET", .path = "/page", .body = OK_BODY, .flags = HTTP_ROUTE_PAGE},
    {.method = "GET", .path = "/healthcheck", .body = OK_BODY},
    {.method = "GET", .path_option = offsetof(struct config, data_config_route), .body = OK_BODY},
    {.method = "POST",
        .path_option = offsetof(struct config, data_config_route),
        .handle = body_post,
        .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "POST", .path = "/token", .handle = body_post, .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "POST", .path = "/wait", .handle = wait_post, .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "GET", .path = "/file", .body = "{}", .flags = HTTP_ROUTE_FILE},
};
static const struct http_route_table table = {.routes = routes, .count = sizeof routes / sizeof *routes};

static void open_session(struct http_test *test)
{
    waiting = (struct waiting){0};
    http_test_open(test);
    test->services.routes = &table;
}

static void test_routes(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "GET /healthcheck?a=b HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "GET /health%63heck HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "GET http://foo/healthcheck HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "\r\n\r\nGET /healthcheck#f HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "GET /nope HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "GET //healthcheck HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "POST /data/config HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        JSON_REPLY("200 OK", "1", "2"));
    assert_false(test.over || test.finished);
    assert_int_equal(test.deadline, HTTP_DEADLINE_IDLE);
    http_test_close(&test);
}

static void test_wrong_methods(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(&test, "HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n");
    http_test_exchange(&test, "DELETE /data/config HTTP/1.1\r\nhost: x\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    http_test_exchange(&test, "GET /token HTTP/1.1\r\nhost: x\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: POST\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    http_test_exchange(&test, "HEAD /file HTTP/1.1\r\nhost: x\r\n\r\n", JSON_REPLY("200 OK", "2", ""));
    http_test_exchange(&test, "PUT /file HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("405 Method Not Allowed", "31", "{\"detail\":\"Method Not Allowed\"}"));
    http_test_exchange(&test, "HEAD /page HTTP/1.1\r\nhost: x\r\n\r\n", JSON_REPLY("200 OK", "15", ""));
    http_test_exchange(&test, "PUT /page HTTP/1.1\r\nhost: x\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET, HEAD\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    http_test_close(&test);
}

static void test_slashes(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(
        &test, "GET /data/config/ HTTP/1.1\r\nHost: abc:1\r\n\r\n", REDIRECT("http://abc:1/data/config"));
    http_test_exchange(
        &test, "DELETE /healthcheck// HTTP/1.1\r\nHost: a\r\n\r\n", REDIRECT("http://a/healthcheck"));
    http_test_exchange(&test, "GET /data%2Fconfig/?a=b&c=%20d HTTP/1.1\r\nHost: a\r\n\r\n",
        REDIRECT("http://a/data/config?a=b&c=%20d"));
    http_test_exchange(&test, "GET /healthcheck/ HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\n\r\n",
        REDIRECT("https://a/healthcheck"));
    http_test_exchange(&test, "GET // HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_close(&test);

    /* HTTP/1.0 needs no host */
    open_session(&test);
    http_test_input(&test, "GET /healthcheck/ HTTP/1.0\r\n\r\n");
    http_test_expect_part(&test, "HTTP/1.1 307 ", "\r\nlocation: http://127.0.0.1:7002/healthcheck\r\n");
    http_test_close(&test);
}

static void test_keep_alive(void **state)
{
    static const char closing[] =
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "connection: close\r\n\r\n{\"status\":\"ok\"}";
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nhost: x\r\nConnection: Close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nConnection: x, close\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct http_test test;
        open_session(&test);
        http_test_exchange(&test, requests[i], closing);
        assert_true(test.over && test.finished);
        assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
        http_test_input(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_true(test.over);
        assert_int_equal(test.sent.length, 0);
        http_test_close(&test);
    }
}

/* Everything again, one byte at a time. */
static void test_bytewise(void **state)
{
    static const char requests[] = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"
                                   "POST /token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                                   "4;x=y\r\n{\"re\r\nb\r\nports\":[]} \r\n0\r\nX: trailer\r\n\r\n"
                                   "POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
                                   "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    struct http_test whole, bytes;
    (void)state;
    open_session(&whole);
    open_session(&bytes);
    http_test_input(&whole, requests);
    for (const char *c = requests; *c; c++) {
        assert_false(bytes.over);
        http_test_input(&bytes, (char[]){*c, 0});
    }
    assert_true(whole.finished && bytes.finished);
    char *expected = http_test_taken(&whole);
    http_test_expect(&bytes, expected);
    assert_non_null(strstr(expected, "connection: close"));
    free(expected);
    http_test_close(&whole);
    http_test_close(&bytes);
}

static void test_continue(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(&test,
        "POST /token HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(test.deadline, HTTP_DEADLINE_BODY);
    http_test_exchange(&test, "{\"reports\":[]}", JSON_REPLY("200 OK", "2", "14"));
    /* nobody reads the body: the answer comes at once, the body is passed over */
    http_test_exchange(&test,
        "POST /nope HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "xxGET / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n", OK_REPLY);
    http_test_close(&test);
}

static void test_upgrades(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"
                           "GET /ws?t=1 HTTP/1.1\r\nhost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: "
                           "WebSocket\r\n\r\nrest");
    http_test_expect(&test, OK_REPLY);
    assert_true(test.over);
    assert_false(test.finished);
    assert_string_equal(test.upgrade_path.data, "/ws");
    assert_string_equal(test.upgrade_rest.data, "rest");
    http_test_close(&test);

    /* none: another protocol, no connection header, a body */
    open_session(&test);
    http_test_exchange(&test, "GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test,
        "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: "
        "1\r\n\r\nx",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test,
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_close(&test);
}

/* What two implementations could read differently, and what is no HTTP at all. */
static void test_malformed(void **state)
{
    static const char *const requests[] = {
        "\x16\x03\x01",
        "GARBAGE\r\n\r\n",
        "get / HTTP/1.1\r\nhost: x\r\n\r\n",
        "FOO / HTTP/1.1\r\nhost: x\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET healthcheck HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET http://a HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /\xe9 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "SOURCE / ICE/1.0\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nhost: x\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nX: a\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nX: \x01\r\n\r\n", /* http-parser lets these two through */
        "GET / HTTP/1.1\r\nhost: x\r\nX: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nX(y): a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        "GET / HTTP/1.0\r\nAuthorization: Bearer a\r\nauthorization: Bearer a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nxx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nxx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2, 2\r\n\r\nxx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0x1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: "
         "chunked\r\n\r\n0\r\n\r\n"),
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: \x0b chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /data/config HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /data/config HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}x",
        "POST /data/config HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /data/config HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct http_test test;
        open_session(&test);
        uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED);
        http_test_input(&test, requests[i]);
        char *taken = http_test_taken(&test);
        if (strcmp(taken, BAD_REQUEST) != 0 || !test.over || !test.finished)
            fail_msg("%s -> %s", requests[i], taken);
        assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED), before + 1);
        free(taken);
        http_test_close(&test);
    }
}

/* A NUL needs a length of its own. */
static void test_nul_bytes(void **state)
{
    static const char in_value[] = "GET / HTTP/1.1\r\nhost: x\r\nX: a\0b\r\n\r\n";
    static const char in_target[] = "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n";
    static const char in_name[] = "GET / HTTP/1.1\r\nhost: x\r\nX\0: a\r\n\r\n";
    static const struct slice requests[] = {
        {in_value, sizeof in_value - 1}, {in_target, sizeof in_target - 1}, {in_name, sizeof in_name - 1}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct http_test test;
        open_session(&test);
        assert_false(http_session_input(test.session, requests[i].data, requests[i].length));
        http_test_expect(&test, BAD_REQUEST);
        http_test_close(&test);
    }
    struct http_test test;
    open_session(&test);
    http_test_exchange(&test, "GET /health%00check HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_close(&test);
}

static void expect_refusal(const char *request, const char *status, const char *detail)
{
    struct http_test test;
    open_session(&test);
    uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED);
    http_test_input(&test, request);
    char *taken = http_test_taken(&test);
    assert_non_null(strstr(taken, status));
    assert_non_null(strstr(taken, detail));
    assert_non_null(strstr(taken, "connection: close\r\n"));
    assert_true(test.over && test.finished);
    assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED), before + 1);
    free(taken);
    http_test_close(&test);
}

static char *repeat(const char *start, const char *piece, size_t times, const char *end)
{
    struct text text = {0};
    text_append_string(&text, start);
    for (size_t i = 0; i < times; i++)
        text_append_string(&text, piece);
    text_append_string(&text, end);
    return text.data;
}

static void test_limits(void **state)
{
    char *request;
    (void)state;
    request = repeat("GET / HTTP/1.1\r\nhost: x\r\nX: ", "a", 5000, "\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "{\"detail\":\"request head too long (limit 4096 bytes)\"}");
    free(request);
    request = repeat("GET /", "a", 5000, " HTTP/1.1\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "(limit 4096 bytes)");
    free(request);
    request = repeat("GET / HTTP/1.1\r\nhost: x\r\n", "a: b\r\n", 20, "\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "{\"detail\":\"too many headers (limit 20)\"}");
    free(request);
    expect_refusal("POST /data/config HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n", "HTTP/1.1 413 ",
        "{\"detail\":\"request body too large (limit 100000 bytes)\"}");
    request = repeat("POST /data/config HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        "a\r\n0123456789\r\n", 10001, "0\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 413 ", "(limit 100000 bytes)");
    free(request);

    /* exactly at the limits all is well */
    struct http_test test;
    open_session(&test);
    request = repeat("GET / HTTP/1.1\r\nhost: x\r\n", "a: b\r\n", 19, "\r\n");
    http_test_exchange(&test, request, OK_REPLY);
    free(request);
    static const char before[] = "GET / HTTP/1.1\r\nhost: x\r\nX: ";
    request = repeat(before, "a", 4096 - strlen(before) - 4, "\r\n\r\n");
    http_test_exchange(&test, request, OK_REPLY);
    free(request);
    request =
        repeat("POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", "0123456789", 10000, "");
    http_test_exchange(&test, request, JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    free(request);
    http_test_close(&test);
}

/* A body that is thrown away has its limit too; its request was answered, so there is no second reply. */
static void test_thrown_away_body(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(&test,
        "POST /nope HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxx\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    http_test_exchange(&test, "zz\r\n", "");
    assert_true(test.over && test.finished);
    http_test_close(&test);
}

static void test_timeouts(void **state)
{
    static const char timeout[] =
        "HTTP/1.1 408 Request Timeout\r\nserver: uvicorn\r\ncontent-length: 28\r\n"
        "content-type: application/json\r\nconnection: close\r\n\r\n{\"detail\":\"Request Timeout\"}";
    struct http_test test;
    (void)state;
    open_session(&test); /* nothing ever came */
    assert_int_equal(test.deadline, HTTP_DEADLINE_HEAD);
    http_session_timeout(test.session);
    http_test_expect(&test, "");
    assert_true(test.finished);
    http_test_close(&test);

    open_session(&test); /* within a head */
    http_test_input(&test, "GET / HT");
    assert_int_equal(test.deadlines_set, 1); /* more bytes of the same head don't wind the clock up again */
    http_session_timeout(test.session);
    http_test_expect(&test, timeout);
    assert_true(test.finished);
    http_test_close(&test);

    open_session(&test); /* within a body */
    http_test_input(&test, "POST /data/config HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{");
    assert_int_equal(test.deadline, HTTP_DEADLINE_BODY);
    http_session_timeout(test.session);
    http_test_expect(&test, timeout);
    http_test_close(&test);

    open_session(&test); /* idle between requests is no offence */
    uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_TIMEOUTS);
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    assert_int_equal(test.deadline, HTTP_DEADLINE_IDLE);
    assert_int_equal(test.deadlines_set, 3); /* set anew after each reply */
    http_session_timeout(test.session);
    http_test_expect(&test, "");
    assert_true(test.finished);
    assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_TIMEOUTS), before);
    http_test_close(&test);
}

static void test_cross_origin(void **state)
{
    static char *two[] = {(char *)"http://ok", (char *)"http://ok2"};
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\nOrigin: http://a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-origin: *\r\naccess-control-allow-credentials: "
        "true\r\n\r\n{\"status\":\"ok\"}");
    http_test_exchange(&test,
        "GET /healthcheck/ HTTP/1.1\r\nhost: q\r\nOrigin: http://a\r\nCookie: x=1\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nserver: uvicorn\r\ncontent-length: 0\r\nlocation: "
        "http://q/healthcheck\r\n"
        "access-control-allow-origin: http://a\r\naccess-control-allow-credentials: true\r\nvary: "
        "Origin\r\n\r\n");
    http_test_exchange(&test,
        "OPTIONS /zz HTTP/1.1\r\nhost: x\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n"
        "Access-Control-Request-Headers: X-A, b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\nvary: Origin\r\n"
        "access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
        "access-control-max-age: 600\r\naccess-control-allow-credentials: true\r\n"
        "access-control-allow-origin: http://a\r\naccess-control-allow-headers: X-A, b\r\n"
        "content-length: 2\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nOK");
    test.config.allowed_origins = (struct config_list){two, 2};
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\nOrigin: http://ok2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-credentials: true\r\naccess-control-allow-origin: http://ok2\r\nvary: "
        "Origin\r\n\r\n"
        "{\"status\":\"ok\"}");
    http_test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\nOrigin: http://bad\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-credentials: true\r\n\r\n{\"status\":\"ok\"}");
    http_test_exchange(&test,
        "OPTIONS / HTTP/1.1\r\nhost: x\r\nOrigin: http://bad\r\nAccess-Control-Request-Method: FOO\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nserver: uvicorn\r\nvary: Origin\r\n"
        "access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
        "access-control-max-age: 600\r\naccess-control-allow-credentials: true\r\n"
        "content-length: 30\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nDisallowed CORS origin, "
        "method");
    http_test_close(&test);
}

/* ---- replies that come later ---- */

#define NULL_REPLY JSON_REPLY("200 OK", "4", "null")
#define WAIT       "POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"
#define WAIT_LATE  "POST /wait HTTP/1.1\r\nhost: x\r\nx-wait: 1\r\ncontent-length: 1\r\n\r\nx"

/* Requests behind a pending reply wait for it; replies come in order. */
static void test_pipelining(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n" WAIT WAIT
                           "GET /file HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\ncon");
    http_test_expect(&test, OK_REPLY);
    assert_false(http_session_wants_input(test.session));
    assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
    http_test_input(&test, "nection: close\r\n\r\n"); /* what was read already comes too */
    finish();
    http_test_expect(&test, NULL_REPLY);
    assert_false(test.finished);
    finish();
    char *taken = http_test_taken(&test);
    assert_non_null(strstr(taken, "\r\n\r\n{}HTTP/1.1 200 OK"));
    free(taken);
    assert_true(test.finished);
    http_test_close(&test);
}

/* A websocket upgrade behind a pending reply: it comes out of the completion. */
static void test_upgrade_behind(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(
        &test, WAIT "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nab");
    assert_null(test.upgrade_path.data);
    finish();
    assert_string_equal(test.upgrade_path.data, "/ws");
    assert_string_equal(test.upgrade_rest.data, "ab");
    http_test_close(&test);
}

static void test_gone_while_pending(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(&test, WAIT);
    http_session_free(test.session);
    assert_int_equal(waiting.cancelled, 1);
    test.session = NULL;
    http_test_close(&test);

    /* the peer closed its sending side only: it still gets the reply, as the last one */
    open_session(&test);
    http_test_input(&test, WAIT);
    http_session_timeout(test.session);
    assert_false(test.finished);
    finish();
    http_test_expect_part(&test, "HTTP/1.1 200 OK\r\n", "connection: close\r\n");
    assert_true(test.finished);
    http_test_close(&test);
}

/* The backbone does not acknowledge in time: 504, and the requests behind it are served. */
static void test_late(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(&test, WAIT_LATE WAIT);
    assert_int_equal(test.deadline, HTTP_DEADLINE_BACKBONE);
    http_session_backbone_late(test.session);
    assert_int_equal(waiting.cancelled, 1);
    http_test_expect_part(&test, "HTTP/1.1 504 Gateway Timeout\r\n", "{\"detail\":\"late\"}");
    assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
    http_session_backbone_late(test.session); /* not for this one */
    assert_int_equal(waiting.cancelled, 1);
    finish();
    http_test_expect(&test, NULL_REPLY);
    http_session_backbone_late(test.session); /* nothing waits */
    http_test_expect(&test, "");
    http_test_close(&test);
}

/* The grace time is over: what waits for the backbone is answered, anything else is not. */
static void test_stop(void **state)
{
    struct http_test test;
    (void)state;
    open_session(&test);
    http_test_input(&test, WAIT_LATE WAIT);
    http_session_stop(test.session);
    http_test_expect_part(&test, "HTTP/1.1 504 Gateway Timeout\r\n", "{\"detail\":\"stopping\"}");
    assert_true(test.finished);
    assert_null(waiting.exchange);
    http_test_close(&test);

    open_session(&test);
    http_test_input(&test, WAIT);
    http_session_stop(test.session);
    http_test_expect(&test, "");
    assert_false(test.finished);
    http_test_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_wrong_methods),
        cmocka_unit_test(test_slashes),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_bytewise),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_upgrades),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_thrown_away_body),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_cross_origin),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_upgrade_behind),
        cmocka_unit_test(test_gone_while_pending),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
