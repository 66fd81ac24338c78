#include "server/options/options_check.h"

#include <string.h>

#include "server/options/options_table.h"
#include "shm/common/error.h"
#include "shm/common/git_url.h"
#include "shm/common/json.h"
#include "shm/common/network.h"
#include "shm/common/pem_text.h"
#include "shm/common/rate_limit.h"

#define SOURCES_DEPTH  64
#define SOURCES_TOKENS 100000
/* Header of a ring's or uplink's record and of the event in it: what an event needs beside its own bytes. */
#define RECORD_OVERHEAD ((size_t)256)

static void check_sizes(struct problems *problems, const struct config *config)
{
    size_t event = config->limits.event_max_bytes;
    size_t ring_least = (event + RECORD_OVERHEAD) * 8;
    size_t uplink_least = (event + RECORD_OVERHEAD) * 2;
    if (ring_least > config->memory.ring_bytes)
        problems_add(problems,
            "OPAL_EVENT_MAX_BYTES=%zu does not fit OPAL_RING_BYTES=%zu: the ring must be at least eight "
            "times "
            "the event and %zu bytes more (%zu)",
            event, config->memory.ring_bytes, RECORD_OVERHEAD * 8, ring_least);
    if (uplink_least > config->memory.uplink_bytes)
        problems_add(problems,
            "OPAL_EVENT_MAX_BYTES=%zu does not fit OPAL_UPLINK_BYTES=%zu: the uplink must be at least twice "
            "the event and %zu bytes more (%zu)",
            event, config->memory.uplink_bytes, RECORD_OVERHEAD * 2, uplink_least);
    if (event > config->client_queue_max_bytes)
        problems_add(problems,
            "OPAL_EVENT_MAX_BYTES=%zu is more than OPAL_CLIENT_QUEUE_MAX_BYTES=%zu: a client could never be "
            "sent such an event",
            event, config->client_queue_max_bytes);
    if (event > config->broadcast.queue_max_bytes)
        problems_add(problems, "OPAL_EVENT_MAX_BYTES=%zu is more than OPAL_KAFKA_QUEUE_MAX_BYTES=%zu", event,
            config->broadcast.queue_max_bytes);
    if (config->limits.topic_max_bytes > event / 2)
        problems_add(problems, "OPAL_TOPIC_MAX_BYTES=%zu is more than half of OPAL_EVENT_MAX_BYTES=%zu",
            config->limits.topic_max_bytes, event);
}

static void check_route(struct problems *problems, const char *name, const char *route)
{
    if (route && route[0] != '/')
        problems_add(problems, "OPAL_%s='%s': must begin with /", name, route);
}

static void check_root_path(struct problems *problems, const struct options *options)
{
    const char *path = options->config.root_path;
    const char *source = options->values[option_index(option_find("ROOT_PATH"))].source;
    if (!path || !*path)
        return;
    if (path[0] != '/' || path[strlen(path) - 1] == '/' || strpbrk(path, "?#% \t"))
        problems_add(problems, "%s='%s': must begin with / and not end with it, like /opal", source, path);
}

static void check_load_limit(struct problems *problems, const char *notation)
{
    struct rate_limits limits;
    struct error err = {0};
    if (rate_limits_parse(notation, &limits, &err) < 0)
        problems_add(problems,
            "OPAL_CLIENT_LOAD_LIMIT_NOTATION='%s': %s; like \"10/second\" or \"5 per 2 minutes; 100/hour\"",
            notation, err.text);
}

/* Neither too little nor too much, as the reference asks for it. */
static void check_sources(struct problems *problems, const char *text)
{
    struct json_document document = {0};
    unsigned given = 0;
    bool good = json_parse(&document, text, strlen(text), SOURCES_DEPTH, SOURCES_TOKENS) == JSON_OK &&
                document.tokens[0].type == JSON_OBJECT;
    if (good) {
        uint32_t config = json_member(&document, 0, "config");
        uint32_t external = json_member(&document, 0, "external_source_url");
        bool has_config = config != JSON_ABSENT && document.tokens[config].type != JSON_NULL;
        bool has_external = external != JSON_ABSENT && document.tokens[external].type != JSON_NULL;
        given = (unsigned)has_config + (unsigned)has_external;
        good = (!has_config || document.tokens[config].type == JSON_OBJECT) &&
               (!has_external || document.tokens[external].type == JSON_STRING);
    }
    if (!good || given != 1)
        problems_add(problems,
            "OPAL_DATA_CONFIG_SOURCES (value not shown): must be a JSON object with exactly one of "
            "\"config\" (an object) and \"external_source_url\" (a string)");
    json_free(&document);
}

static void check_networks(struct problems *problems, const char *name, const struct config_list *list)
{
    struct network_list networks;
    struct error err = {0};
    if (network_list_parse(&networks, list->items, list->count, &err) < 0)
        problems_add(problems, "OPAL_%s: %s", name, err.text);
    else
        network_list_free(&networks);
}

static void check_listener(struct problems *problems, const struct config *config)
{
    check_networks(problems, "PROXY_PROTOCOL_FROM", &config->proxy_protocol_from);
    if (!config->tls_certificate && (config->tls_key || config->tls_key_password))
        problems_add(problems,
            "OPAL_TLS_KEY is set but not OPAL_TLS_CERTIFICATE: the listener would not be encrypted");
}

/* Refused before git or libcurl sees it: with a password cut in two, both would take a part of it for a
 * host and show it. */
static bool check_url(struct problems *problems, const char *name, const char *text, struct git_url *url)
{
    struct error err = {0};
    if (git_url_parse(url, text, &err) == 0)
        return true;
    problems_add(problems, "OPAL_%s (value not shown): %s", name, err.text);
    return false;
}

static void check_bundle_server(struct problems *problems, const char *text)
{
    struct git_url url = {0};
    if (check_url(problems, "POLICY_BUNDLE_URL", text, &url) &&
        !slice_equals_string(text_slice(&url.scheme), "http") &&
        !slice_equals_string(text_slice(&url.scheme), "https"))
        problems_add(
            problems, "OPAL_POLICY_BUNDLE_URL (value not shown): must begin with http:// or https://");
    git_url_free(&url);
}

static void check_repository(struct problems *problems, const struct config *config)
{
    struct git_url url = {0};
    struct text key = {0};
    struct error err = {0};
    if (check_url(problems, "POLICY_REPO_URL", config->policy_repo_url, &url) && url.kind == GIT_URL_SSH &&
        config->policy_repo_ssh_key &&
        pem_text_repair_ssh_key(slice_from_string(config->policy_repo_ssh_key), &key, &err) < 0)
        problems_add(problems, "OPAL_POLICY_REPO_SSH_KEY (value not shown): %s", err.text);
    if (key.data)
        explicit_bzero(key.data, key.length);
    text_free(&key);
    git_url_free(&url);
}

static void check_peer_types(struct problems *problems, const struct config_list *types)
{
    for (size_t i = 0; i < types->count; i++)
        if (strcmp(types->items[i], "client") != 0 && strcmp(types->items[i], "datasource") != 0 &&
            strcmp(types->items[i], "listener") != 0)
            problems_add(problems,
                "OPAL_PUBLISH_PEER_TYPES: '%s' must be one of client, datasource, listener", types->items[i]);
}

static void check_policy_source(struct problems *problems, const struct config *config)
{
    bool api = strcmp(config->policy_source_type, "API") == 0;
    if (!config->repo_watcher_enabled)
        return;
    if (api && config->policy_bundle_url)
        check_bundle_server(problems, config->policy_bundle_url);
    else if (!api && config->policy_repo_url)
        check_repository(problems, config);
}

/* What can't be ignored without serving something else than was asked for. */
static void check_refused(struct problems *problems, const struct options *options)
{
    for (size_t i = 0; i < options_table_count; i++) {
        const struct option *option = &options_table[i];
        const struct option_value *value = &options->values[i];
        if (option->status != OPTION_REFUSED || !value->differs)
            continue;
        problems_add(
            problems, "%s='%s': must be false, this version has no scopes", value->source, value->given);
    }
}

void options_check(const struct options *options, struct problems *problems)
{
    const struct config *config = &options->config;
    check_sizes(problems, config);
    check_networks(problems, "FORWARDED_ALLOW_IPS", &config->forwarded_allow_ips);
    check_peer_types(problems, &config->publish_peer_types);
    if (config->workers > config->workers_max)
        problems_add(problems, "--workers='%u': must not be more than OPAL_WORKERS_MAX=%u", config->workers,
            config->workers_max);
    if (config->broadcast.reconnect_backoff_min > config->broadcast.reconnect_backoff_max)
        problems_add(problems,
            "OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS=%g: must not be more than "
            "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS=%g",
            config->broadcast.reconnect_backoff_min, config->broadcast.reconnect_backoff_max);
    check_route(problems, "DATA_CONFIG_ROUTE", config->data_config_route);
    check_route(problems, "ALL_DATA_ROUTE", config->all_data_route);
    check_route(problems, "DATA_CALLBACK_DEFAULT_ROUTE", config->data_callback_default_route);
    check_route(problems, "AUTH_JWKS_URL", config->auth_jwks_url);
    check_root_path(problems, options);
    if (config->client_load_limit_notation)
        check_load_limit(problems, config->client_load_limit_notation);
    if (config->data_config_sources)
        check_sources(problems, config->data_config_sources);
    check_listener(problems, config);
    check_policy_source(problems, config);
    check_refused(problems, options);
}
