/* The answers to upgrade requests, to the byte what the reference answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "worker/websocket/websocket_handshake.h"

#define KEY "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="
#define BAD "Failed to open a WebSocket connection: "

static struct http_header header(const char *name, const char *value)
{
    return (struct http_header){slice_from_string(name), slice_from_string(value)};
}

/* `headers`: name, value, name, value, ..., NULL */
static void check(const char *path, const char *const *headers, unsigned status, const char *body)
{
    struct http_header list[16];
    struct http_request request = {
        .method = SLICE_LITERAL("GET"), .path = slice_from_string(path), .headers = list};
    for (size_t i = 0; headers[i]; i += 2)
        list[request.header_count++] = header(headers[i], headers[i + 1]);
    struct text reply = {0}, expected = {0};
    assert_int_equal(websocket_handshake(&request, &reply), status);
    const char *date = strcasestr(reply.data, "date: ");
    assert_non_null(date);
    if (status == 101) {
        text_append_format(&expected,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: %s\r\n%.*sserver: uvicorn\r\n\r\n",
            body, 37, date);
    } else {
        text_append_format(&expected,
            "HTTP/1.1 %u %s\r\n%.*sConnection: close\r\nContent-Length: %zu\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n\r\n%s",
            status, status == 400 ? "Bad Request" : "Forbidden", 37, date, strlen(body), body);
        assert_memory_equal(date, "Date", 4);
    }
    assert_string_equal(reply.data, expected.data);
    text_free(&reply);
    text_free(&expected);
}

static void test_accepted(void **state)
{
    (void)state;
    static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 1.3 */
    check("/ws", (const char *const[]){KEY, "Sec-WebSocket-Version", "13", NULL}, 101, accept);
    check("/ws",
        (const char *const[]){"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==", "SEC-WEBSOCKET-VERSION", "13",
            "Sec-WebSocket-Protocol", "foo", "Sec-WebSocket-Extensions", "permessage-deflate", "Origin", "x",
            NULL},
        101, accept);
}

static void test_paths(void **state)
{
    (void)state;
    const char *const good[] = {KEY, "Sec-WebSocket-Version", "13", NULL};
    check("/nope", good, 403, "");
    check("/ws/", good, 403, "");
    check("/", good, 403, "");
    check("/healthcheck", good, 403, "");
    check("/WS", good, 403, "");
}

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *const headers[10];
        const char *body;
    } rows[] = {
        {{KEY, "Sec-WebSocket-Version", "8", NULL}, BAD "invalid Sec-WebSocket-Version header: 8.\n"},
        {{KEY, NULL}, BAD "missing Sec-WebSocket-Version header.\n"},
        {{KEY, "Sec-WebSocket-Version", "13", "Sec-WebSocket-Version", "13", NULL},
            BAD "invalid Sec-WebSocket-Version header: multiple values.\n"},
        {{KEY, "Sec-WebSocket-Version", "", NULL}, BAD "empty Sec-WebSocket-Version header.\n"},
        {{"Sec-WebSocket-Version", "13", NULL}, BAD "missing Sec-WebSocket-Key header.\n"},
        {{NULL}, BAD "missing Sec-WebSocket-Key header.\n"},
        {{KEY, KEY, "Sec-WebSocket-Version", "13", NULL},
            BAD "invalid Sec-WebSocket-Key header: multiple values.\n"},
        {{"Sec-WebSocket-Key", "", NULL}, BAD "empty Sec-WebSocket-Key header.\n"},
        {{"Sec-WebSocket-Key", "!!", "Sec-WebSocket-Version", "8", NULL},
            BAD "invalid Sec-WebSocket-Key header: !!; Only base64 data is allowed.\n"},
        {{"Sec-WebSocket-Key", "YWJj", NULL}, BAD "invalid Sec-WebSocket-Key header: YWJj.\n"},
        {{"Sec-WebSocket-Key", "YWJ", NULL},
            BAD "invalid Sec-WebSocket-Key header: YWJ; Incorrect padding.\n"},
        {{"Sec-WebSocket-Key", "=YWJ", NULL},
            BAD "invalid Sec-WebSocket-Key header: =YWJ; Leading padding not allowed.\n"},
        {{"Sec-WebSocket-Key", "YW=J", NULL},
            BAD "invalid Sec-WebSocket-Key header: YW=J; Discontinuous padding not allowed.\n"},
        {{"Sec-WebSocket-Key", "YWJj=", NULL}, BAD "invalid Sec-WebSocket-Key header: YWJj=.\n"},
        {{"Sec-WebSocket-Key", "YW==YW==", NULL},
            BAD "invalid Sec-WebSocket-Key header: YW==YW==; Excess data after padding.\n"},
        {{"Sec-WebSocket-Key", "YWJjY", NULL}, BAD "invalid Sec-WebSocket-Key header: YWJjY; Invalid "
                                                   "base64-encoded string: number of data characters (5) "
                                                   "cannot be 1 more than a multiple of 4.\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check("/ws", rows[i].headers, 400, rows[i].body);
        check("/nope", rows[i].headers, 400, rows[i].body); /* judged before the path */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_bad_headers),
    };
    return cmocka_run_group_tests_name("websocket_handshake", tests, NULL, NULL);
}
