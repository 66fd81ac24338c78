#include "broadcast/postgres/postgres_uri.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/backend/backbone_uri.h"
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/percent.h"
#include "shm/common/text.h"

#define POSTGRES_PORT_DEFAULT            5432
#define POSTGRES_CONNECT_TIMEOUT_DEFAULT 10
#define POSTGRES_CONNECT_TIMEOUT_MAX     600

static bool contains(const char *const *names, size_t count, struct slice key)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equals_string(key, names[i]))
            return true;
    return false;
}
#define CONTAINS(names, key) contains((names), sizeof(names) / sizeof *(names), (key))

static bool is_libpq_keyword(const PQconninfoOption *known, struct slice key)
{
    for (const PQconninfoOption *option = known; option->keyword; option++)
        if (slice_equals_string(key, option->keyword))
            return true;
    /* libpq's own URI parser translates this one from JDBC. */
    return slice_equals_string(key, "ssl");
}

static bool is_setting_name(struct slice key)
{
    if (!key.length || !(isalpha((unsigned char)key.data[0]) || key.data[0] == '_'))
        return false;
    for (size_t i = 0; i < key.length; i++)
        if (!isalnum((unsigned char)key.data[i]) && key.data[i] != '_' && key.data[i] != '.')
            return false;
    return true;
}

/* `ssl=true|require|...` of other drivers as libpq's sslmode. */
static void append_ssl(struct text *query, struct slice value)
{
    static const char *const on[] = {"true", "on", "yes", "1", "True"};
    static const char *const off[] = {"false", "off", "no", "0", "False"};
    text_append_string(query, "sslmode=");
    if (CONTAINS(on, value))
        text_append_string(query, "require");
    else if (CONTAINS(off, value))
        text_append_string(query, "disable");
    else
        text_append_slice(query, value);
}

/* The value goes into `options`, percent-encoded as it is: backslash and space would have to be escaped for
 * the server's splitting, so they get a backslash in front ("%5C"). */
static void append_setting(struct text *options, struct slice key, struct slice value)
{
    text_append_format(options, "%s-c%%20%.*s%%3D", options->length ? "%20" : "", (int)key.length, key.data);
    for (size_t i = 0; i < value.length; i++) {
        const char *rest = value.data + i;
        size_t left = value.length - i;
        if (*rest == '+' || *rest == ' ' ||
            (left >= 3 && (!strncmp(rest, "%20", 3) || !strncasecmp(rest, "%5c", 3))))
            text_append_string(options, "%5C");
        text_append_char(options, *rest);
    }
}

static int take_pair(const PQconninfoOption *known, struct slice key, struct slice value, struct text *query,
    struct text *options, struct error *err)
{
    /* Arguments of asyncpg's pool, which some put into the URI; they have no meaning for two plain
     * connections. */
    static const char *const ignored[] = {"min_size", "max_size", "max_queries",
        "max_inactive_connection_lifetime", "command_timeout", "timeout", "statement_cache_size",
        "max_cached_statement_lifetime", "max_cacheable_statement_size", "direct_tls"};
    static const char *const refused[] = {"service", "replication", "load_balance_hosts"};
    if (CONTAINS(ignored, key))
        return 0;
    if (CONTAINS(refused, key))
        return error_set(
            err, EINVAL, "the Postgres URI's option '%.*s' is not supported", (int)key.length, key.data);
    if (slice_equals_string(key, "options")) {
        if (options->length)
            text_append_string(options, "%20");
        text_append_slice(options, value);
        return 0;
    }
    if (is_libpq_keyword(known, key) || slice_equals_string(key, "database")) {
        if (query->length)
            text_append_char(query, '&');
        if (slice_equals_string(key, "ssl"))
            append_ssl(query, value);
        else
            text_append_format(query, "%.*s=%.*s", slice_equals_string(key, "database") ? 6 : (int)key.length,
                slice_equals_string(key, "database") ? "dbname" : key.data, (int)value.length, value.data);
        return 0;
    }
    if (!is_setting_name(key))
        return error_set(err, EINVAL,
            "the Postgres URI has an option whose name is neither libpq's nor a server setting's");
    append_setting(options, key, value);
    return 0;
}

static struct slice slice_between(const char *start, const char *end)
{
    return (struct slice){start, (size_t)(end - start)};
}

static int rewrite_query(
    struct slice rest, const PQconninfoOption *known, struct text *out, struct error *err)
{
    struct text query = {0};
    struct text options = {0};
    const char *end = rest.data + rest.length;
    int result = 0;
    for (const char *at = rest.data; rest.length && at < end && result == 0;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        if (stop > at && !equals)
            result = error_set(err, EINVAL,
                "the Postgres URI's query has a part without '='; in a password write ? as %%3F and & as "
                "%%26");
        else if (stop > at)
            result = take_pair(
                known, slice_between(at, equals), slice_between(equals + 1, stop), &query, &options, err);
        at = stop + 1;
    }
    if (query.length || options.length)
        text_append_char(out, '?');
    text_append_slice(out, text_slice(&query));
    if (options.length) {
        text_append_string(out, query.length ? "&options=" : "options=");
        text_append_slice(out, text_slice(&options));
    }
    if (query.data)
        explicit_bzero(query.data, query.length);
    text_free(&query);
    text_free(&options);
    return result;
}

/* Rewrites the URI so that libpq takes it: it knows the scheme in lower case only, ends the user name and
 * password at the first '@' and leaves blanks around a host. */
static int rewrite(
    const struct backbone_uri *parts, const PQconninfoOption *known, struct text *out, struct error *err)
{
    struct backbone_uri lower = *parts;
    lower.scheme = SLICE_LITERAL("postgresql");
    lower.hosts = (struct slice){0};
    backbone_uri_append_authority(out, &lower);
    for (size_t i = 0; i < parts->hosts.length; i++)
        if (!text_is_space(parts->hosts.data[i]))
            text_append_char(out, parts->hosts.data[i]);
    text_append_char(out, '/');
    text_append_slice(out, parts->path);
    return rewrite_query(parts->query, known, out, err);
}

/* ---- hosts ---- */

/* The number'th item of a comma list, as a new string; "" beyond the end. */
static char *list_item(const char *list, size_t number)
{
    while (list && number > 0) {
        list = strchr(list, ',');
        if (list)
            list++;
        number--;
    }
    size_t length = list ? strcspn(list, ",") : 0;
    return memory_copy(list ? list : "", length);
}

static size_t list_count(const char *list)
{
    size_t count = 1;
    for (; list && *list; list++)
        count += *list == ',';
    return count;
}

static int parse_port(const char *text, int *port, struct error *err)
{
    uint64_t number;
    if (!*text) {
        *port = POSTGRES_PORT_DEFAULT;
        return 0;
    }
    if (!slice_read_number(slice_from_string(text), 65535, &number) || number < 1)
        return error_set(err, EINVAL, "the Postgres URI's port must be 1 to 65535; %s", PERCENT_ADVICE);
    *port = (int)number;
    return 0;
}

static int split_hosts(
    struct postgres_uri *out, const char *names, const char *addresses, const char *ports, struct error *err)
{
    size_t count = list_count(names && *names ? names : addresses);
    size_t port_count = list_count(ports);
    if (count > POSTGRES_HOSTS_MAX)
        return error_set(err, EINVAL, "the Postgres URI names more than %d hosts", POSTGRES_HOSTS_MAX);
    if (names && *names && addresses && *addresses && list_count(addresses) != count)
        return error_set(
            err, EINVAL, "the Postgres URI has another number of addresses (hostaddr) than of hosts");
    if (port_count != 1 && port_count != count)
        return error_set(err, EINVAL, "the Postgres URI has another number of ports than of hosts");
    for (size_t i = 0; i < count; i++) {
        struct postgres_host *host = &out->hosts[out->host_count++];
        char *port = list_item(ports, port_count == 1 ? 0 : i);
        host->name = list_item(names, i);
        if (addresses && *addresses)
            host->address = list_item(addresses, i);
        if (host->address && !*host->address) {
            free(host->address);
            host->address = NULL;
        }
        int result = parse_port(port, &host->port, err);
        free(port);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* ---- parameters ---- */

static void add_parameter(struct postgres_uri *out, const char *keyword, const char *value)
{
    if (out->parameter_count == POSTGRES_PARAMETERS_MAX - 1 || postgres_uri_value(out, keyword))
        return;
    out->keywords[out->parameter_count] = memory_copy_string(keyword);
    out->values[out->parameter_count++] = memory_copy_string(value);
}

const char *postgres_uri_value(const struct postgres_uri *uri, const char *keyword)
{
    for (size_t i = 0; i < uri->parameter_count; i++)
        if (strcmp(uri->keywords[i], keyword) == 0)
            return uri->values[i];
    return NULL;
}

static int collect(
    struct postgres_uri *out, const PQconninfoOption *options, unsigned user_timeout_ms, struct error *err)
{
    const char *names = getenv("PGHOST"); /* libpq would take it itself, and resolve it */
    const char *ports = getenv("PGPORT");
    const char *addresses = NULL;
    char text[24];
    for (const PQconninfoOption *option = options; option->keyword; option++) {
        if (!option->val || !*option->val)
            continue;
        if (strcmp(option->keyword, "host") == 0)
            names = option->val;
        else if (strcmp(option->keyword, "hostaddr") == 0)
            addresses = option->val;
        else if (strcmp(option->keyword, "port") == 0)
            ports = option->val;
        else
            add_parameter(out, option->keyword, option->val);
    }
    if (split_hosts(out, names, addresses, ports, err) < 0)
        return -1;
    const char *timeout = postgres_uri_value(out, "connect_timeout");
    long seconds = timeout ? strtol(timeout, NULL, 10) : 0;
    if (seconds < 1 || seconds > POSTGRES_CONNECT_TIMEOUT_MAX)
        seconds = POSTGRES_CONNECT_TIMEOUT_DEFAULT;
    out->connect_timeout_ns = (uint64_t)seconds * CLOCK_SECOND;
    /* The reference's keepalives; a user timeout for what they don't cover: bytes sent into a half-open
     * connection. */
    add_parameter(out, "keepalives", "1");
    add_parameter(out, "keepalives_idle", "30");
    add_parameter(out, "keepalives_interval", "10");
    add_parameter(out, "keepalives_count", "3");
    snprintf(text, sizeof text, "%u", user_timeout_ms);
    add_parameter(out, "tcp_user_timeout", text);
    add_parameter(out, "application_name", "opald");
    /* Looking for a Kerberos server could block. */
    add_parameter(out, "gssencmode", "disable");
    return 0;
}

static int parse_rewritten(
    const char *text, unsigned user_timeout_ms, struct postgres_uri *out, struct error *err)
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(text, &message);
    /* libpq's message is not shown: it may quote the URI with its password. */
    int result =
        options ? collect(out, options, user_timeout_ms, err)
                : error_set(err, EINVAL,
                      "the Postgres URI can't be read; right is "
                      "postgresql://host:port/database?option=value, with user:password@ before the host; %s",
                      PERCENT_ADVICE);
    PQconninfoFree(options);
    PQfreemem(message);
    return result;
}

int postgres_uri_parse(const char *uri, unsigned user_timeout_ms, struct postgres_uri *out, struct error *err)
{
    struct backbone_uri parts;
    struct text rewritten = {0};
    struct text secrets = {0};
    *out = (struct postgres_uri){0};
    /* '#' ends nothing, as libpq has it. */
    if (backbone_uri_split("Postgres", uri, "/?", &parts, err) < 0)
        return -1;
    if (!slice_equals_ignoring_case(parts.scheme, "postgres") &&
        !slice_equals_ignoring_case(parts.scheme, "postgresql"))
        return error_set(err, EINVAL, "a Postgres URI begins with postgresql:// or postgres://");
    PQconninfoOption *known = PQconninfoParse("", NULL);
    if (!known)
        return error_set(err, ENOMEM, "out of memory while reading the Postgres URI");
    int result = rewrite(&parts, known, &rewritten, err);
    if (result == 0)
        result = parse_rewritten(rewritten.data, user_timeout_ms, out, err);
    PQconninfoFree(known);
    explicit_bzero(rewritten.data, rewritten.length);
    text_free(&rewritten);
    backbone_uri_append_secrets(&secrets, &parts);
    out->secrets = secrets.data;
    if (result < 0)
        postgres_uri_free(out);
    return result;
}

void postgres_uri_free(struct postgres_uri *uri)
{
    for (size_t i = 0; i < uri->host_count; i++) {
        free(uri->hosts[i].name);
        free(uri->hosts[i].address);
    }
    for (size_t i = 0; i < uri->parameter_count; i++) {
        explicit_bzero(uri->values[i], strlen(uri->values[i]));
        free(uri->keywords[i]);
        free(uri->values[i]);
    }
    if (uri->secrets)
        explicit_bzero(uri->secrets, strlen(uri->secrets));
    free(uri->secrets);
    *uri = (struct postgres_uri){0};
}
