/* One connection: replies to the byte, order, keep-alive, pipelining, deadlines, limits, refusals. */
#include "tests/unit/worker/http_test.h"

static void test_routes(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    test_exchange(&test, "GET /healthcheck?a=b HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(&test, "GET /livez HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(&test, "GET /health%63heck HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(&test, "GET http://foo/healthcheck HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(&test, "\r\n\r\nGET /healthcheck#f HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(
        &test, "GET /nope HTTP/1.1\r\n\r\n", JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test, "GET //healthcheck HTTP/1.1\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(
        &test, "OPTIONS * HTTP/1.1\r\n\r\n", JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test, "GET /loadlimit HTTP/1.1\r\n\r\n", JSON_REPLY("200 OK", "4", "null"));
    test_exchange(&test, "GET /policy HTTP/1.1\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "38", "{\"detail\":\"policy repo was not found\"}"));
    test_exchange(&test, "GET /policy-data HTTP/1.1\r\n\r\n", JSON_REPLY("200 OK", "2", "{}"));
    test_exchange(&test, "GET /.well-known/jwks.json HTTP/1.1\r\n\r\n", JSON_REPLY("200 OK", "2", "{}"));
    test_exchange(&test, "GET /stats HTTP/1.1\r\n\r\n",
        JSON_REPLY("501 Not Implemented", "137",
            "{\"detail\":{\"error\":\"This OPAL server does not have statistics turned on. To turn on, set "
            "this config var: OPAL_STATISTICS_ENABLED=true\"}}"));
    assert_false(test.over || test.finished);
    assert_int_equal(test.deadline, HTTP_DEADLINE_IDLE);
    test_close(&test);
}

static void test_wrong_methods(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test, "HEAD / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n");
    test_exchange(&test, "DELETE /data/config HTTP/1.1\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    test_exchange(&test, "GET /token HTTP/1.1\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: POST\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    test_exchange(&test, "HEAD /.well-known/jwks.json HTTP/1.1\r\n\r\n", JSON_REPLY("200 OK", "2", ""));
    test_exchange(&test, "PUT /.well-known/jwks.json HTTP/1.1\r\n\r\n",
        JSON_REPLY("405 Method Not Allowed", "31", "{\"detail\":\"Method Not Allowed\"}"));
    test_close(&test);
}

#define REDIRECT(location) \
    "HTTP/1.1 307 Temporary Redirect\r\nserver: uvicorn\r\ncontent-length: 0\r\nlocation: " location \
    "\r\n\r\n"

static void test_slashes(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(
        &test, "GET /data/config/ HTTP/1.1\r\nHost: abc:1\r\n\r\n", REDIRECT("http://abc:1/data/config"));
    test_exchange(
        &test, "DELETE /healthcheck// HTTP/1.1\r\nHost: a\r\n\r\n", REDIRECT("http://a/healthcheck"));
    test_exchange(&test, "GET /data%2Fconfig/?a=b&c=%20d HTTP/1.1\r\nHost: a\r\n\r\n",
        REDIRECT("http://a/data/config?a=b&c=%20d"));
    test_exchange(&test, "GET /stats/ HTTP/1.1\r\n\r\n", REDIRECT("http://127.0.0.1:7002/stats"));
    test_exchange(&test, "GET /stats/ HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\n\r\n",
        REDIRECT("https://a/stats"));
    test_exchange(
        &test, "GET // HTTP/1.1\r\n\r\n", JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_close(&test);
}

static void test_readiness(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test, "GET /readyz HTTP/1.1\r\n\r\n", OK_REPLY);
    backbone_state_write(test.services.segment, BACKBONE_CONNECTING);
    test_exchange(&test, "GET /readyz HTTP/1.1\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "45", "{\"status\":\"error\",\"broadcaster\":\"connecting\"}"));
    backbone_state_write(test.services.segment, BACKBONE_GAP);
    test_exchange(&test, "GET /readyz HTTP/1.1\r\n\r\n",
        JSON_REPLY(
            "503 Service Unavailable", "47", "{\"status\":\"error\",\"broadcaster\":\"disconnected\"}"));
    test_exchange(&test, "GET /healthcheck HTTP/1.1\r\n\r\n", OK_REPLY);
    backbone_state_write(test.services.segment, BACKBONE_UP);
    test_exchange(&test, "GET /readyz HTTP/1.1\r\n\r\n", OK_REPLY);
    test_close(&test);
}

static void test_keep_alive(void **state)
{
    static const char closing[] =
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "connection: close\r\n\r\n{\"status\":\"ok\"}";
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: x, close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct http_test test;
        test_open(&test);
        test_exchange(&test, requests[i], closing);
        assert_true(test.over && test.finished);
        assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
        test_input(&test, "GET / HTTP/1.1\r\n\r\n");
        assert_true(test.over);
        assert_int_equal(test.sent.length, 0);
        test_close(&test);
    }
}

/* Everything again, one byte at a time. */
static void test_bytewise(void **state)
{
    static const char requests[] = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"
                                   "POST /data/callback_report HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
                                   "4;x=y\r\n{\"re\r\nb\r\nports\":[]} \r\n0\r\nX: trailer\r\n\r\n"
                                   "POST /nope HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"
                                   "GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    struct http_test whole, bytes;
    (void)state;
    test_open(&whole);
    test_open(&bytes);
    test_input(&whole, requests);
    for (const char *c = requests; *c; c++) {
        assert_false(bytes.over);
        test_input(&bytes, (char[]){*c, 0});
    }
    assert_true(whole.finished && bytes.finished);
    char *expected = test_taken(&whole);
    test_expect(&bytes, expected);
    assert_non_null(strstr(expected, "connection: close"));
    free(expected);
    test_close(&whole);
    test_close(&bytes);
}

static void test_continue(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test,
        "POST /data/callback_report HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(test.deadline, HTTP_DEADLINE_BODY);
    test_exchange(&test, "{\"reports\":[]}", JSON_REPLY("200 OK", "2", "{}"));
    /* nobody reads the body: the answer comes at once, the body is passed over */
    test_exchange(&test, "POST /nope HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test, "xxGET / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n", OK_REPLY);
    test_close(&test);
}

static void test_upgrades(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_input(&test,
        "GET / HTTP/1.1\r\n\r\n"
        "GET /ws?t=1 HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\nrest");
    test_expect(&test, OK_REPLY);
    assert_true(test.over);
    assert_false(test.finished);
    assert_string_equal(test.upgrade_path.data, "/ws");
    assert_string_equal(test.upgrade_rest.data, "rest");
    test_close(&test);

    /* none: another protocol, no connection header, a body */
    test_open(&test);
    test_exchange(&test, "GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test, "GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test,
        "GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n\r\nx",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test,
        "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    test_exchange(&test, "GET / HTTP/1.1\r\n\r\n", OK_REPLY);
    test_close(&test);
}

/* What two implementations could read differently, and what is no HTTP at all. */
static void test_malformed(void **state)
{
    static const char *const requests[] = {
        "\x16\x03\x01",
        "GARBAGE\r\n\r\n",
        "get / HTTP/1.1\r\n\r\n",
        "FOO / HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET healthcheck HTTP/1.1\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\n\r\n",
        "GET http://a HTTP/1.1\r\n\r\n",
        "GET /\xe9 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "SOURCE / ICE/1.0\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \x01\r\n\r\n", /* http-parser lets these two through */
        "GET / HTTP/1.1\r\nX: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nX(y): a\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nxx",
        "POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nxx",
        "POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\nxx",
        "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\nx",
        "POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: \x0b chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /data/config HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /data/config HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}x",
        "POST /data/config HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /data/config HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct http_test test;
        test_open(&test);
        uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED);
        test_input(&test, requests[i]);
        char *taken = test_taken(&test);
        if (strcmp(taken, BAD_REQUEST) != 0 || !test.over || !test.finished)
            fail_msg("%s -> %s", requests[i], taken);
        assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED), before + 1);
        free(taken);
        test_close(&test);
    }
}

/* A NUL needs a length of its own. */
static void test_nul_bytes(void **state)
{
    static const char in_value[] = "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n";
    static const char in_target[] = "GET /\0 HTTP/1.1\r\n\r\n";
    static const char in_name[] = "GET / HTTP/1.1\r\nX\0: a\r\n\r\n";
    static const struct slice requests[] = {
        {in_value, sizeof in_value - 1}, {in_target, sizeof in_target - 1}, {in_name, sizeof in_name - 1}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct http_test test;
        test_open(&test);
        assert_false(http_session_input(test.session, requests[i].data, requests[i].length));
        test_expect(&test, BAD_REQUEST);
        test_close(&test);
    }
    struct http_test test;
    test_open(&test);
    test_exchange(&test, "GET /health%00check HTTP/1.1\r\n\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_close(&test);
}

static void expect_refusal(const char *request, const char *status, const char *detail)
{
    struct http_test test;
    test_open(&test);
    uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED);
    test_input(&test, request);
    char *taken = test_taken(&test);
    assert_non_null(strstr(taken, status));
    assert_non_null(strstr(taken, detail));
    assert_non_null(strstr(taken, "connection: close\r\n"));
    assert_true(test.over && test.finished);
    assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_REFUSED), before + 1);
    free(taken);
    test_close(&test);
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
    request = repeat("GET / HTTP/1.1\r\nX: ", "a", 5000, "\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "{\"detail\":\"request head too long (limit 4096 bytes)\"}");
    free(request);
    request = repeat("GET /", "a", 5000, " HTTP/1.1\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "(limit 4096 bytes)");
    free(request);
    request = repeat("GET / HTTP/1.1\r\n", "a: b\r\n", 21, "\r\n");
    expect_refusal(request, "HTTP/1.1 431 ", "{\"detail\":\"too many headers (limit 20)\"}");
    free(request);
    expect_refusal("POST /data/config HTTP/1.1\r\ncontent-length: 100001\r\n\r\n", "HTTP/1.1 413 ",
        "{\"detail\":\"request body too large (limit 100000 bytes)\"}");
    request = repeat("POST /data/config HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "a\r\n0123456789\r\n", 10001, "0\r\n\r\n");
    expect_refusal(request, "HTTP/1.1 413 ", "(limit 100000 bytes)");
    free(request);

    /* exactly at the limits all is well */
    struct http_test test;
    test_open(&test);
    request = repeat("GET / HTTP/1.1\r\n", "a: b\r\n", 20, "\r\n");
    test_exchange(&test, request, OK_REPLY);
    free(request);
    static const char before[] = "GET / HTTP/1.1\r\nX: ";
    request = repeat(before, "a", 4096 - strlen(before) - 4, "\r\n\r\n");
    test_exchange(&test, request, OK_REPLY);
    free(request);
    request = repeat("POST /nope HTTP/1.1\r\ncontent-length: 100000\r\n\r\n", "0123456789", 10000, "");
    test_exchange(&test, request, JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    free(request);
    test_close(&test);
}

/* A body that is thrown away has its limit too; its request was answered, so there is no second reply. */
static void test_thrown_away_body(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test, "POST /nope HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxx\r\n",
        JSON_REPLY("404 Not Found", "22", "{\"detail\":\"Not Found\"}"));
    test_exchange(&test, "zz\r\n", "");
    assert_true(test.over && test.finished);
    test_close(&test);
}

static void test_timeouts(void **state)
{
    static const char timeout[] =
        "HTTP/1.1 408 Request Timeout\r\nserver: uvicorn\r\ncontent-length: 28\r\n"
        "content-type: application/json\r\nconnection: close\r\n\r\n{\"detail\":\"Request Timeout\"}";
    struct http_test test;
    (void)state;
    test_open(&test); /* nothing ever came */
    assert_int_equal(test.deadline, HTTP_DEADLINE_HEAD);
    http_session_timeout(test.session);
    test_expect(&test, "");
    assert_true(test.finished);
    test_close(&test);

    test_open(&test); /* within a head */
    test_input(&test, "GET / HT");
    assert_int_equal(test.deadlines_set, 1); /* more bytes of the same head don't wind the clock up again */
    http_session_timeout(test.session);
    test_expect(&test, timeout);
    assert_true(test.finished);
    test_close(&test);

    test_open(&test); /* within a body */
    test_input(&test, "POST /data/config HTTP/1.1\r\ncontent-length: 9\r\n\r\n{");
    assert_int_equal(test.deadline, HTTP_DEADLINE_BODY);
    http_session_timeout(test.session);
    test_expect(&test, timeout);
    test_close(&test);

    test_open(&test); /* idle between requests is no offence */
    uint64_t before = counter_read(test.services.segment, 0, COUNTER_HTTP_TIMEOUTS);
    test_exchange(&test, "GET / HTTP/1.1\r\n\r\n", OK_REPLY);
    test_exchange(&test, "GET / HTTP/1.1\r\n\r\n", OK_REPLY);
    assert_int_equal(test.deadline, HTTP_DEADLINE_IDLE);
    assert_int_equal(test.deadlines_set, 3); /* set anew after each reply */
    http_session_timeout(test.session);
    test_expect(&test, "");
    assert_true(test.finished);
    assert_int_equal(counter_read(test.services.segment, 0, COUNTER_HTTP_TIMEOUTS), before);
    test_close(&test);
}

static void test_cross_origin(void **state)
{
    static char *two[] = {(char *)"http://ok", (char *)"http://ok2"};
    struct http_test test;
    (void)state;
    test_open(&test);
    test_exchange(&test, "GET / HTTP/1.1\r\nOrigin: http://a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-origin: *\r\naccess-control-allow-credentials: "
        "true\r\n\r\n{\"status\":\"ok\"}");
    test_exchange(&test, "GET /stats/ HTTP/1.1\r\nhost: q\r\nOrigin: http://a\r\nCookie: x=1\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nserver: uvicorn\r\ncontent-length: 0\r\nlocation: "
        "http://q/stats\r\n"
        "access-control-allow-origin: http://a\r\naccess-control-allow-credentials: true\r\nvary: "
        "Origin\r\n\r\n");
    test_exchange(&test,
        "OPTIONS /zz HTTP/1.1\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n"
        "Access-Control-Request-Headers: X-A, b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\nvary: Origin\r\n"
        "access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
        "access-control-max-age: 600\r\naccess-control-allow-credentials: true\r\n"
        "access-control-allow-origin: http://a\r\naccess-control-allow-headers: X-A, b\r\n"
        "content-length: 2\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nOK");
    test.config.allowed_origins = (struct config_list){two, 2};
    test_exchange(&test, "GET / HTTP/1.1\r\nOrigin: http://ok2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-credentials: true\r\naccess-control-allow-origin: http://ok2\r\nvary: "
        "Origin\r\n\r\n"
        "{\"status\":\"ok\"}");
    test_exchange(&test, "GET / HTTP/1.1\r\nOrigin: http://bad\r\n\r\n",
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 15\r\ncontent-type: application/json\r\n"
        "access-control-allow-credentials: true\r\n\r\n{\"status\":\"ok\"}");
    test_exchange(&test,
        "OPTIONS / HTTP/1.1\r\nOrigin: http://bad\r\nAccess-Control-Request-Method: FOO\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nserver: uvicorn\r\nvary: Origin\r\n"
        "access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
        "access-control-max-age: 600\r\naccess-control-allow-credentials: true\r\n"
        "content-length: 30\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nDisallowed CORS origin, "
        "method");
    test_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_wrong_methods),
        cmocka_unit_test(test_slashes),
        cmocka_unit_test(test_readiness),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
