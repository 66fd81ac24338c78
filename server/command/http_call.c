/* By libevent's HTTP client; one request and the program ends, so its event loop is its own. */
#include "server/command/http_call.h"

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/log_redact.h"
#include "shm/common/memory.h"

#define REQUEST_TIMEOUT_SECONDS 60

struct exchange {
    struct event_base *base;
    struct bufferevent *secure; /* NULL: plain */
    SSL_CTX *tls;
    struct http_result *result;
};

static void fail(struct http_result *result, const char *reason)
{
    if (!result->failure[0])
        snprintf(result->failure, sizeof result->failure, "%s", reason);
}

static void exchange_failed(enum evhttp_request_error error, void *context)
{
    struct exchange *exchange = context;
    switch (error) {
    case EVREQ_HTTP_TIMEOUT:
        fail(exchange->result, "no answer in time");
        break;
    case EVREQ_HTTP_EOF:
        fail(exchange->result, "the connection was closed before an answer came");
        break;
    case EVREQ_HTTP_INVALID_HEADER:
    case EVREQ_HTTP_DATA_TOO_LONG:
        fail(exchange->result, "the answer is not HTTP");
        break;
    case EVREQ_HTTP_BUFFER_ERROR:
    case EVREQ_HTTP_REQUEST_CANCEL:
        fail(exchange->result, "the connection broke");
        break;
    }
}

/* Why the TLS handshake failed, when it did. */
static void tell_tls_error(struct exchange *exchange)
{
    unsigned long code = exchange->secure ? bufferevent_get_openssl_error(exchange->secure) : 0;
    SSL *tls = exchange->secure ? bufferevent_openssl_get_ssl(exchange->secure) : NULL;
    long verified = tls ? SSL_get_verify_result(tls) : X509_V_OK;
    char line[160];
    if (verified != X509_V_OK)
        snprintf(
            line, sizeof line, "its certificate is not good: %s", X509_verify_cert_error_string(verified));
    else if (code)
        snprintf(line, sizeof line, "no TLS with it: %s", ERR_reason_error_string(code));
    else
        return;
    exchange->result->failure[0] = '\0';
    fail(exchange->result, line);
}

static void exchange_done(struct evhttp_request *request, void *context)
{
    struct exchange *exchange = context;
    struct http_result *result = exchange->result;
    if (request && evhttp_request_get_response_code(request)) {
        struct evbuffer *input = evhttp_request_get_input_buffer(request);
        size_t length = evbuffer_get_length(input);
        result->status = evhttp_request_get_response_code(request);
        result->body = memory_allocate(length + 1);
        evbuffer_copyout(input, result->body, length);
    } else {
        fail(result, "cannot connect (nothing listens there, or there is no such host)");
        tell_tls_error(exchange);
    }
    event_base_loopbreak(exchange->base);
}

static struct evhttp_uri *parse_address(const char *address)
{
    struct evhttp_uri *uri = evhttp_uri_parse(address);
    const char *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL;
    const char *wrong = NULL;
    if (!scheme || (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0) ||
        !evhttp_uri_get_host(uri) || !*evhttp_uri_get_host(uri))
        wrong = "must be a URL like http://host:7002";
    else if (evhttp_uri_get_userinfo(uri))
        wrong = "a user name in the URL is not supported, use TOKEN";
    if (wrong) {
        struct text shown = {0};
        log_redact(&shown, slice_from_string(address));
        fprintf(stderr, "opald: --server-url: %s: %s\n", shown.data ? shown.data : "", wrong);
        text_free(&shown);
        if (uri)
            evhttp_uri_free(uri);
        return NULL;
    }
    return uri;
}

/* Path and query. */
static void append_target(struct text *out, const struct evhttp_uri *uri)
{
    const char *path = evhttp_uri_get_path(uri);
    const char *query = evhttp_uri_get_query(uri);
    text_append_string(out, path && *path ? path : "/");
    if (query)
        text_append_format(out, "?%s", query);
}

static int add_headers(struct evhttp_request *request, const char *host, int port, const char *token)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct text text = {0};
    text_append_format(&text, "%s:%d", host, port);
    int status = evhttp_add_header(headers, "Host", text.data);
    status |= evhttp_add_header(headers, "content-type", "application/json");
    status |= evhttp_add_header(headers, "Accept", "*/*");
    status |= evhttp_add_header(headers, "Connection", "close");
    if (token) {
        text_clear(&text);
        text_append_format(&text, "bearer %s", token);
        status |= evhttp_add_header(headers, "Authorization", text.data);
    }
    text_free(&text);
    return status;
}

/* The certificate must be good by the system's authorities (SSL_CERT_FILE and SSL_CERT_DIR say otherwise) and bear the host's name. */
static void open_tls(struct exchange *exchange, const char *host)
{
    exchange->tls = SSL_CTX_new(TLS_client_method());
    /* A session takes its settings from the context when it is made, not later. */
    SSL *tls = exchange->tls && SSL_CTX_set_default_verify_paths(exchange->tls) == 1 &&
                       SSL_CTX_set_min_proto_version(exchange->tls, TLS1_2_VERSION) == 1
                   ? SSL_new(exchange->tls)
                   : NULL;
    if (!tls)
        return;
    SSL_set_verify(tls, SSL_VERIFY_PEER, NULL);
    SSL_set_tlsext_host_name(tls, host);
    X509_VERIFY_PARAM *parameters = SSL_get0_param(tls);
    if (X509_VERIFY_PARAM_set1_ip_asc(parameters, host) != 1 && SSL_set1_host(tls, host) != 1) {
        SSL_free(tls);
        return;
    }
    ERR_clear_error();
    exchange->secure = bufferevent_openssl_socket_new(
        exchange->base, -1, tls, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
}

static void exchange_run(
    struct exchange *exchange, const struct evhttp_uri *uri, struct slice body, const char *token)
{
    const char *host = evhttp_uri_get_host(uri);
    bool secure = strcasecmp(evhttp_uri_get_scheme(uri), "https") == 0;
    int port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : secure ? 443 : 80;
    char *plain_host = memory_copy_string(host);
    struct text target = {0};
    if (plain_host[0] == '[') { /* [::1] */
        memmove(plain_host, plain_host + 1, strlen(plain_host));
        plain_host[strcspn(plain_host, "]")] = '\0';
    }
    exchange->base = event_base_new();
    if (exchange->base && secure)
        open_tls(exchange, plain_host);
    struct evhttp_connection *connection = NULL;
    if (exchange->base && (exchange->secure || !secure)) /* the connection takes the bufferevent over */
        connection = evhttp_connection_base_bufferevent_new(
            exchange->base, NULL, exchange->secure, plain_host, (ev_uint16_t)port);
    struct evhttp_request *request = connection ? evhttp_request_new(exchange_done, exchange) : NULL;
    append_target(&target, uri);
    if (!request) {
        fail(exchange->result, "out of resources");
    } else if (add_headers(request, host, port, token) < 0) {
        fail(exchange->result, "TOKEN must not contain line breaks");
        evhttp_request_free(request);
    } else {
        evhttp_connection_set_timeout(connection, REQUEST_TIMEOUT_SECONDS);
        evhttp_request_set_error_cb(request, exchange_failed);
        evbuffer_add(evhttp_request_get_output_buffer(request), body.data, body.length);
        if (evhttp_make_request(connection, request, EVHTTP_REQ_POST, target.data) == 0)
            event_base_dispatch(exchange->base);
    }
    if (!exchange->result->status)
        fail(exchange->result, "the request could not be sent");
    if (connection)
        evhttp_connection_free(connection);
    SSL_CTX_free(exchange->tls);
    if (exchange->base)
        event_base_free(exchange->base);
    text_free(&target);
    free(plain_host);
}

bool http_call_check(const char *url)
{
    struct evhttp_uri *uri = parse_address(url);
    if (uri)
        evhttp_uri_free(uri);
    return uri != NULL;
}

int http_call_post(const char *url, const char *token, struct slice body, struct http_result *result)
{
    struct evhttp_uri *uri = parse_address(url);
    struct exchange exchange = {.result = result};
    if (!uri)
        return -1;
    exchange_run(&exchange, uri, body, token);
    evhttp_uri_free(uri);
    return 0;
}

void http_result_free(struct http_result *result)
{
    free(result->body);
    *result = (struct http_result){0};
}
