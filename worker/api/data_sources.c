#include "worker/api/data_sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/json.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/percent.h"
#include "worker/api/api_services.h"
#include "worker/api/data_entry.h"
#include "worker/auth/auth.h"

#define OPTION_NAME "OPAL_DATA_CONFIG_SOURCES"
/* Of the operator's own text: generous, and there to keep a slip from becoming a crash. */
#define SOURCES_DEPTH  200
#define SOURCES_TOKENS 1000000

struct data_sources {
    struct text body;
    struct text url;
};

void data_sources_free(struct data_sources *sources)
{
    if (!sources)
        return;
    text_free(&sources->body);
    text_free(&sources->url);
    free(sources);
}

struct slice data_sources_body(const struct data_sources *sources)
{
    return sources->body.length ? text_slice(&sources->body) : (struct slice){0};
}

struct slice data_sources_url(const struct data_sources *sources)
{
    return sources->url.length ? text_slice(&sources->url) : (struct slice){0};
}

/* ---- loading ---- */

static void write_default(const struct config *config, struct text *out)
{
    text_append_string(out, "{\"entries\":[{\"url\":");
    text_append_json_utf8(out, slice_from_string(config->all_data_url));
    text_append_string(out, ",\"config\":null,\"topics\":[");
    text_append_json_utf8(out, slice_from_string(config->all_data_topic));
    text_append_string(out, "],\"dst_path\":\"\",\"save_method\":\"PUT\",\"data\":null,"
                            "\"periodic_update_interval\":null}]}");
}

static const struct model_list entry_list = {.convert = data_entry_convert_polled};
static const struct model_field config_fields[] = {
    {.name = "entries", .convert = model_convert_list, .argument = &entry_list, .fallback = "[]"},
};
static const struct model config_model = {.fields = config_fields, .count = 1};

static int load_config(
    const struct json_document *document, uint32_t token, struct text *out, struct error *err)
{
    struct data_entry_reader reader = {.magic = DATA_ENTRY_READER_MAGIC};
    struct model_run run = {
        .style = MODEL_HTTP, .max_depth = SOURCES_DEPTH, .max_tokens = SOURCES_TOKENS, .state = &reader};
    int result = 0;
    validation_enter(&run.validation, "config");
    if (!model_convert(&run, (struct model_value){document, token}, &config_model, out))
        result = error_set(err, EINVAL, OPTION_NAME " is wrong: %s", run.validation.errors.data);
    model_run_free(&run);
    data_entry_reader_free(&reader);
    return result;
}

/* http or https, a host, and nothing that would break a header line. */
static bool is_http_url(struct slice url)
{
    size_t scheme = url.length > 7 && strncasecmp(url.data, "http://", 7) == 0    ? 7
                    : url.length > 8 && strncasecmp(url.data, "https://", 8) == 0 ? 8
                                                                                  : 0;
    if (!scheme || strchr("/?#", url.data[scheme]))
        return false;
    for (size_t i = 0; i < url.length; i++)
        if ((unsigned char)url.data[i] <= ' ' || url.data[i] == 0x7f)
            return false;
    return true;
}

static int load_url(const struct json_document *document, uint32_t token, struct text *out, struct error *err)
{
    if (document->tokens[token].type == JSON_STRING)
        json_string_decode(document, token, out);
    if (is_http_url(text_slice(out)))
        return 0;
    return error_set(err, EINVAL, OPTION_NAME ": external_source_url must be an http or https URL");
}

static uint32_t given_member(const struct json_document *document, const char *key)
{
    uint32_t token = document->tokens[0].type == JSON_OBJECT ? json_member(document, 0, key) : JSON_ABSENT;
    return token != JSON_ABSENT && document->tokens[token].type == JSON_NULL ? JSON_ABSENT : token;
}

static int load_text(const char *text, struct data_sources *sources, struct error *err)
{
    struct json_document document = {0};
    int result;
    enum json_failure failure = json_parse(&document, text, strlen(text), SOURCES_DEPTH, SOURCES_TOKENS);
    if (failure != JSON_OK) {
        result = error_set(err, EINVAL, OPTION_NAME " is no JSON: %s (character %zu)",
            failure == JSON_SYNTAX && document.message ? document.message : "bad text or too deep",
            document.error_character);
    } else {
        uint32_t config = given_member(&document, "config");
        uint32_t url = given_member(&document, "external_source_url");
        if ((config == JSON_ABSENT) == (url == JSON_ABSENT))
            result = error_set(err, EINVAL,
                OPTION_NAME " must have exactly one of these fields: config, external_source_url");
        else if (url != JSON_ABSENT)
            result = load_url(&document, url, &sources->url, err);
        else
            result = load_config(&document, config, &sources->body, err);
    }
    json_free(&document);
    return result;
}

int data_sources_load(const struct config *config, struct data_sources **out, struct error *err)
{
    struct data_sources *sources = memory_allocate(sizeof *sources);
    int result = 0;
    if (config->data_config_sources)
        result = load_text(config->data_config_sources, sources, err);
    else
        write_default(config, &sources->body);
    if (result < 0) {
        data_sources_free(sources);
        sources = NULL;
    }
    *out = sources;
    return result;
}

/* ---- the redirect ---- */

struct parameter {
    struct text name;
    struct text value;
};

static void append_encoded(struct text *out, const struct text *plain)
{
    struct text encoded = {0};
    percent_encode(text_slice(plain), " ", &encoded);
    for (size_t i = 0; i < encoded.length; i++)
        text_append_char(out, encoded.data[i] == ' ' ? '+' : encoded.data[i]);
    text_free(&encoded);
}

/* Sets a parameter as Python's dict would: a known name keeps its place and gets the new value. */
static void set_parameter(
    struct parameter *parameters, size_t *count, struct slice name, struct slice value, bool encoded)
{
    struct parameter made = {0};
    if (encoded) {
        percent_decode(name, true, &made.name);
        percent_decode(value, true, &made.value);
    } else {
        text_append_slice(&made.name, name);
        text_append_slice(&made.value, value);
    }
    size_t i = 0;
    while (i < *count && !slice_equals(text_slice(&parameters[i].name), text_slice(&made.name)))
        i++;
    if (i < *count) {
        text_free(&parameters[i].name);
        text_free(&parameters[i].value);
    } else {
        ++*count;
    }
    parameters[i] = made;
}

/*
 * The url with `token` set or replaced in its query; the other parameters are kept, those without a value are
 * not (as in the reference).
 */
static void url_with_token(struct slice url, struct slice token, struct text *out)
{
    const char *end = url.data + url.length;
    const char *fragment = memchr(url.data, '#', url.length);
    const char *stop = fragment ? fragment : end;
    const char *mark = memchr(url.data, '?', (size_t)(stop - url.data));
    const char *base_end = mark ? mark : stop;

    size_t possible = 2, count = 0;
    for (const char *c = base_end; c < stop; c++)
        possible += *c == '&';
    struct parameter *parameters = memory_allocate(possible * sizeof *parameters);
    for (const char *start = mark ? mark + 1 : stop; start < stop;) {
        const char *next = memchr(start, '&', (size_t)(stop - start));
        const char *pair_end = next ? next : stop;
        const char *equals = memchr(start, '=', (size_t)(pair_end - start));
        if (equals && equals + 1 < pair_end)
            set_parameter(parameters, &count, (struct slice){start, (size_t)(equals - start)},
                (struct slice){equals + 1, (size_t)(pair_end - equals - 1)}, true);
        start = pair_end + 1;
    }
    set_parameter(parameters, &count, SLICE_LITERAL("token"), token, false);

    text_append(out, url.data, (size_t)(base_end - url.data));
    for (size_t i = 0; i < count; i++) {
        text_append_char(out, i ? '&' : '?');
        append_encoded(out, &parameters[i].name);
        text_append_char(out, '=');
        append_encoded(out, &parameters[i].value);
        text_free(&parameters[i].name);
        text_free(&parameters[i].value);
    }
    free(parameters);
    text_append(out, stop, (size_t)(end - stop));
}

static void redirect(struct http_exchange *exchange, struct slice url)
{
    struct slice token = auth_bearer_token(http_request_header(exchange->request, "authorization"));
    struct text target = {0};
    struct text location = {0};
    if (token.length)
        url_with_token(url, token, &target);
    else
        text_append_slice(&target, url); /* the reference fails with 500 here */
    percent_encode(text_slice(&target), ":/%#?=@[]!$&'()*+,;", &location);
    log_write(LOG_INFO, LOGGER_HTTP, "Source configuration is available at '%.*s', redirecting %s a token",
        (int)url.length, url.data, token.length ? "with" : "without");
    http_reply_set(&exchange->reply, 307, NULL, SLICE_LITERAL(""));
    http_reply_header(&exchange->reply.after, "location", text_slice(&location));
    text_free(&target);
    text_free(&location);
}

/* ---- routes ---- */

enum http_answer data_sources_get(struct http_exchange *exchange)
{
    const struct data_sources *sources = exchange->services->api->data_sources;
    struct data_sources *own = NULL;
    struct error err = {0};
    if (!sources && data_sources_load(exchange->services->config, &own, &err) < 0) {
        log_write(LOG_ERROR, LOGGER_HTTP, "%s", err.text);
        http_reply_detail(&exchange->reply, 500, "Did not find a data source configuration!");
        return HTTP_ANSWERED;
    }
    if (!sources)
        sources = own;
    if (data_sources_url(sources).data) {
        redirect(exchange, data_sources_url(sources));
    } else {
        log_write(LOG_INFO, LOGGER_HTTP, "Serving source configuration");
        http_reply_set(&exchange->reply, 200, HTTP_JSON, data_sources_body(sources));
    }
    data_sources_free(own);
    return HTTP_ANSWERED;
}

enum http_answer data_all_get(struct http_exchange *exchange)
{
    log_write(LOG_WARNING, LOGGER_HTTP,
        "Serving default all-data route, meaning DATA_CONFIG_SOURCES was not configured!");
    http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("{}"));
    return HTTP_ANSWERED;
}
