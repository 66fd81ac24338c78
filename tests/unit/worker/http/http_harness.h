/*
 * What the tests of HTTP share: a session on a connection that keeps what is sent. Its requests find their
 * routes in `services.routes`, which the test sets.
 */
#ifndef OPALD_TESTS_UNIT_WORKER_HTTP_HTTP_HARNESS_H
#define OPALD_TESTS_UNIT_WORKER_HTTP_HTTP_HARNESS_H

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
#include "worker/http/http_session.h"

struct http_test {
    struct config config;
    struct http_services services;
    struct http_session *session;
    struct text sent;
    struct text upgrade_path;
    struct text upgrade_rest;
    bool finished;
    /* http_session_input returned false */
    bool over;
    int deadline;
    unsigned deadlines_set;
    /* as the request in hand was forwarded */
    const char *scheme;
};

/* Opens a session with small limits, in open mode, without routes. */
void http_test_open(struct http_test *test);
void http_test_close(struct http_test *test);
/* One input of these bytes, which are of a string. */
void http_test_input(struct http_test *test, const char *bytes);
/* What was sent since the last call, without the date headers. The caller's to free. */
char *http_test_taken(struct http_test *test);
/* What was sent since the last call must be `bytes`. */
void http_test_expect(struct http_test *test, const char *bytes);
/* What was sent since the last call must begin with `head` and hold `part`. */
void http_test_expect_part(struct http_test *test, const char *head, const char *part);
/* A request in, the exact reply out. */
void http_test_exchange(struct http_test *test, const char *request, const char *reply);
/* POST with the right length; `headers` are whole lines or "". */
void http_test_post(struct http_test *test, const char *path, const char *headers, const char *body);

#define JSON_REPLY(status, length, body) \
    "HTTP/1.1 " status "\r\nserver: uvicorn\r\ncontent-length: " length \
    "\r\ncontent-type: application/json\r\n\r\n" body
#define BAD_REQUEST \
    "HTTP/1.1 400 Bad Request\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8\r\n" \
    "content-length: 30\r\nconnection: close\r\n\r\nInvalid HTTP request received."
#define OK_REPLY JSON_REPLY("200 OK", "15", "{\"status\":\"ok\"}")
#define REDIRECT(location) \
    "HTTP/1.1 307 Temporary Redirect\r\nserver: uvicorn\r\ncontent-length: 0\r\nlocation: " location \
    "\r\n\r\n"

#endif
