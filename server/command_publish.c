/* publish-data-update: flags, request, reply. One request and the program ends, so its event loop is its own. */
#include "server/command.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/common/log_redact.h"
#include "server/common/memory.h"
#include "server/publish_update.h"

#define REQUEST_TIMEOUT_SECONDS 60
#define EXIT_USAGE              2
#define GREEN                   "\033[32m"
#define RED                     "\033[31m"
#define CYAN                    "\033[36m"

struct publish_command {
    struct publish_update update;
    const char *server_url;
    const char *server_route;
    const char *token;
    bool help;
};

struct publish_flag {
    const char *name;
    char letter;   /* 0: none */
    size_t offset; /* in struct publish_command */
    const char *help;
};

static const struct publish_flag publish_flags[] = {
    {"--server-url", 0, offsetof(struct publish_command, server_url),
        "URL of the server [default: http://localhost:7002]"},
    {"--server-route", 0, offsetof(struct publish_command, server_route),
        "its route [default: /data/config]"},
    {"--reason", 0, offsetof(struct publish_command, update.reason), "why the data changed"},
    {"--entries", 'e', offsetof(struct publish_command, update.entries), "JSON array of entries"},
    {"--src-url", 0, offsetof(struct publish_command, update.src_url),
        "one entry: where the clients fetch the data from"},
    {"--topic", 't', offsetof(struct publish_command, update.topics),
        "one entry: its topic, may be given several times"},
    {"--data", 0, offsetof(struct publish_command, update.data), "one entry: the data itself, as JSON"},
    {"--src-config", 0, offsetof(struct publish_command, update.src_config),
        "one entry: how to fetch, as JSON [default: {}]"},
    {"--dst-path", 0, offsetof(struct publish_command, update.dst_path),
        "one entry: where the client's policy store keeps the data"},
    {"--save-method", 0, offsetof(struct publish_command, update.save_method),
        "one entry: PUT or PATCH [default: PUT]"},
};

#define PUBLISH_FLAG_COUNT (sizeof publish_flags / sizeof *publish_flags)

static void print_help(void)
{
    printf("Usage: opald publish-data-update [OPTIONS] [TOKEN]\n\n"
           "Publishes a data update through a server: one entry (--src-url, --topic, ...) or several "
           "(--entries).\n"
           "TOKEN, or OPAL_CLIENT_TOKEN in the environment, is sent as the bearer token.\n"
           "Exit status: 0 published, 1 not published, 2 wrong arguments.\n\n");
    for (size_t i = 0; i < PUBLISH_FLAG_COUNT; i++) {
        char name[32];
        if (publish_flags[i].letter)
            snprintf(name, sizeof name, "-%c, %s", publish_flags[i].letter, publish_flags[i].name);
        else
            snprintf(name, sizeof name, "    %s", publish_flags[i].name);
        printf("  %-20s %s\n", name, publish_flags[i].help);
    }
}

/* ---- flags ---- */

static const struct publish_flag *find_flag(const char *argument, const char **value)
{
    for (size_t i = 0; i < PUBLISH_FLAG_COUNT; i++) {
        const struct publish_flag *flag = &publish_flags[i];
        size_t length = strlen(flag->name);
        *value = NULL;
        if (strcmp(argument, flag->name) == 0)
            return flag;
        if (strncmp(argument, flag->name, length) == 0 && argument[length] == '=') {
            *value = argument + length + 1;
            return flag;
        }
        if (flag->letter && argument[0] == '-' && argument[1] == flag->letter) {
            if (argument[2]) /* -tTOPIC */
                *value = argument + 2;
            return flag;
        }
    }
    return NULL;
}

static int parse_arguments(const struct options_command *command, struct publish_command *publish)
{
    bool flags_end = false;
    for (int i = 0; i < command->argument_count; i++) {
        const char *argument = command->arguments[i];
        const char *value;
        if (flags_end || argument[0] != '-') {
            if (publish->token) {
                fprintf(stderr, "opald: %s: only one TOKEN can be given\n", argument);
                return -1;
            }
            publish->token = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            flags_end = true;
            continue;
        }
        if (strcmp(argument, "--help") == 0) {
            publish->help = true;
            return 0;
        }
        const struct publish_flag *flag = find_flag(argument, &value);
        if (!flag) {
            fprintf(stderr, "opald: %s: no such option; 'opald publish-data-update --help' lists them\n",
                argument);
            return -1;
        }
        if (!value && ++i == command->argument_count) {
            fprintf(stderr, "opald: %s: a value is missing\n", argument);
            return -1;
        }
        if (!value)
            value = command->arguments[i];
        if (flag->letter == 't')
            publish->update.topics[publish->update.topic_count++] = value;
        else
            *(const char **)((char *)publish + flag->offset) = value;
    }
    return 0;
}

/* ---- request ---- */

struct exchange {
    struct event_base *base;
    int status; /* 0: no reply */
    char *body;
    const char *failure;
};

static void exchange_failed(enum evhttp_request_error error, void *context)
{
    struct exchange *exchange = context;
    switch (error) {
    case EVREQ_HTTP_TIMEOUT:
        exchange->failure = "no answer in time";
        break;
    case EVREQ_HTTP_EOF:
        exchange->failure = "the connection was closed before an answer came";
        break;
    case EVREQ_HTTP_INVALID_HEADER:
    case EVREQ_HTTP_DATA_TOO_LONG:
        exchange->failure = "the answer is not HTTP";
        break;
    case EVREQ_HTTP_BUFFER_ERROR:
    case EVREQ_HTTP_REQUEST_CANCEL:
        exchange->failure = "the connection broke";
        break;
    }
}

static void exchange_done(struct evhttp_request *request, void *context)
{
    struct exchange *exchange = context;
    if (request && evhttp_request_get_response_code(request)) {
        struct evbuffer *input = evhttp_request_get_input_buffer(request);
        size_t length = evbuffer_get_length(input);
        exchange->status = evhttp_request_get_response_code(request);
        exchange->body = memory_allocate(length + 1);
        evbuffer_copyout(input, exchange->body, length);
    } else if (!exchange->failure) {
        exchange->failure = "cannot connect (nothing listens there, or there is no such host)";
    }
    event_base_loopbreak(exchange->base);
}

/* The address must be one this command can talk to. */
static struct evhttp_uri *parse_address(const char *address)
{
    struct evhttp_uri *uri = evhttp_uri_parse(address);
    const char *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL;
    const char *wrong = NULL;
    if (scheme && strcasecmp(scheme, "https") == 0)
        wrong = "this command speaks http only, not https";
    else if (!scheme || strcasecmp(scheme, "http") != 0 || !evhttp_uri_get_host(uri) ||
             !*evhttp_uri_get_host(uri))
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

static void exchange_run(
    struct exchange *exchange, const struct evhttp_uri *uri, struct slice body, const char *token)
{
    const char *host = evhttp_uri_get_host(uri);
    int port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : 80;
    char *plain_host = memory_copy_string(host);
    struct text target = {0};
    if (plain_host[0] == '[') { /* [::1] */
        memmove(plain_host, plain_host + 1, strlen(plain_host));
        plain_host[strcspn(plain_host, "]")] = '\0';
    }
    exchange->base = event_base_new();
    struct evhttp_connection *connection =
        exchange->base ? evhttp_connection_base_new(exchange->base, NULL, plain_host, (ev_uint16_t)port)
                       : NULL;
    struct evhttp_request *request = connection ? evhttp_request_new(exchange_done, exchange) : NULL;
    append_target(&target, uri);
    if (!request) {
        exchange->failure = "out of resources";
    } else if (add_headers(request, host, port, token) < 0) {
        exchange->failure = "TOKEN must not contain line breaks";
        evhttp_request_free(request);
    } else {
        evhttp_connection_set_timeout(connection, REQUEST_TIMEOUT_SECONDS);
        evhttp_request_set_error_cb(request, exchange_failed);
        evbuffer_add(evhttp_request_get_output_buffer(request), body.data, body.length);
        if (evhttp_make_request(connection, request, EVHTTP_REQ_POST, target.data) == 0)
            event_base_dispatch(exchange->base);
    }
    if (!exchange->status && !exchange->failure)
        exchange->failure = "the request could not be sent";
    if (connection)
        evhttp_connection_free(connection);
    if (exchange->base)
        event_base_free(exchange->base);
    text_free(&target);
    free(plain_host);
}

/* ---- the command ---- */

static void print_coloured(const char *colour, const char *line)
{
    if (isatty(STDOUT_FILENO))
        printf("%s%s\033[0m\n", colour, line);
    else
        printf("%s\n", line);
}

static int publish(const struct publish_command *command, struct slice body, const char *shown)
{
    struct exchange exchange = {0};
    struct text address = {0};
    int status = 1;
    text_append_format(&address, "%s%s", command->server_url, command->server_route);
    struct evhttp_uri *uri = parse_address(address.data);
    if (!uri) {
        text_free(&address);
        return EXIT_USAGE;
    }
    printf("Publishing event:\n");
    print_coloured(CYAN, shown);
    fflush(stdout);
    exchange_run(&exchange, uri, body, command->token);
    if (exchange.status == 200) {
        print_coloured(GREEN, "Event Published Successfully");
        status = 0;
    } else if (exchange.status) {
        char line[80];
        snprintf(line, sizeof line, "Event publishing failed with status-code - %d", exchange.status);
        print_coloured(RED, line);
        printf("%s\n", exchange.body);
    } else {
        struct text redacted = {0};
        log_redact(&redacted, text_slice(&address));
        fprintf(stderr, "opald: %s: %s\n", redacted.data, exchange.failure);
        text_free(&redacted);
    }
    free(exchange.body);
    evhttp_uri_free(uri);
    text_free(&address);
    return status;
}

int command_publish_data_update(const struct options_command *command)
{
    struct publish_command given = {.server_url = "http://localhost:7002", .server_route = "/data/config"};
    struct text body = {0};
    struct text shown = {0};
    struct error err = {0};
    int status = EXIT_USAGE;
    given.update.topics =
        memory_allocate(sizeof *given.update.topics * ((size_t)command->argument_count + 1));
    if (parse_arguments(command, &given) < 0)
        goto end;
    if (given.help) {
        print_help();
        status = 0;
        goto end;
    }
    if (!given.token && getenv("OPAL_CLIENT_TOKEN") && *getenv("OPAL_CLIENT_TOKEN"))
        given.token = getenv("OPAL_CLIENT_TOKEN");
    if (publish_update_build(&given.update, &body, &shown, &err) < 0)
        fprintf(stderr, "opald: %s\n", err.text);
    else
        status = publish(&given, text_slice(&body), shown.data);
end:
    free(given.update.topics);
    text_free(&body);
    text_free(&shown);
    return status;
}
