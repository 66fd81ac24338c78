#include "broadcast/redis/redis_uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/memory.h"
#include "shm/common/percent.h"
#include "shm/common/text.h"

#define REDIS_PORT_DEFAULT 6379
#define REDIS_DATABASE_MAX 1000000

static bool has_nul(const struct text *text)
{
    return text->length && memchr(text->data, '\0', text->length);
}

/* A new string; NULL when it would contain a NUL. */
static char *string_of(const struct text *text)
{
    return has_nul(text) ? NULL : memory_copy(text->data, text->length);
}

/* "%zz" stays as it is, as urllib has it. */
static char *decode(struct slice in)
{
    struct text out = {0};
    percent_decode(in, false, &out);
    char *string = string_of(&out);
    text_free(&out);
    return string;
}

static struct slice slice_between(const char *start, const char *end)
{
    return (struct slice){start, (size_t)(end - start)};
}

static const char *find_last(struct slice in, char wanted)
{
    for (size_t i = in.length; i > 0; i--)
        if (in.data[i - 1] == wanted)
            return in.data + i - 1;
    return NULL;
}

static int parse_number(struct slice digits, uint64_t least, uint64_t most, int *out)
{
    uint64_t value;
    if (!slice_read_number(digits, most, &value) || value < least)
        return -1;
    *out = (int)value;
    return 0;
}

static int set_string(char **where, struct slice value, const char *what, struct error *err)
{
    free(*where);
    *where = decode(value);
    return *where ? 0 : error_set(err, EINVAL, "the %s in the Redis URI contains a NUL", what);
}

static int parse_user(struct redis_uri *out, struct slice part, struct error *err)
{
    const char *colon = memchr(part.data, ':', part.length);
    const char *end = part.data + part.length;
    if (colon && colon + 1 < end &&
        set_string(&out->password, slice_between(colon + 1, end), "password", err) < 0)
        return -1;
    struct slice user = slice_between(part.data, colon ? colon : end);
    return user.length ? set_string(&out->user, user, "user", err) : 0;
}

static int parse_host(struct redis_uri *out, struct slice part, struct error *err)
{
    struct slice host = part;
    struct slice port = {0};
    if (part.length && part.data[0] == '[') {
        const char *bracket = memchr(part.data, ']', part.length);
        if (!bracket)
            return error_set(err, EINVAL, "the Redis URI has '[' without ']' in the host");
        host = slice_between(part.data + 1, bracket);
        struct slice rest = slice_between(bracket + 1, part.data + part.length);
        if (rest.length && rest.data[0] != ':')
            return error_set(err, EINVAL, "the Redis URI has something other than a port after ']'");
        if (rest.length)
            port = slice_between(rest.data + 1, rest.data + rest.length);
    } else {
        const char *colon = find_last(part, ':');
        if (colon) {
            host = slice_between(part.data, colon);
            port = slice_between(colon + 1, part.data + part.length);
        }
    }
    if (port.length && parse_number(port, 1, 65535, &out->port) < 0)
        return error_set(
            err, EINVAL, "the Redis URI's port is '%.*s': must be 1 to 65535", (int)port.length, port.data);
    if (memchr(host.data ? host.data : "", ',', host.length))
        return error_set(
            err, EINVAL, "the Redis URI names several hosts: one only (no Sentinel, no Cluster)");
    if (host.length && set_string(&out->host, host, "host", err) < 0)
        return -1;
    if (out->host && strchr(out->host, '/'))
        return error_set(
            err, EINVAL, "the Redis URI's host is a path: Redis is reached by TCP, not by a unix socket");
    return 0;
}

/* ---- the query ---- */

static int parse_boolean(const char *value, bool *out)
{
    if (!strcasecmp(value, "true") || !strcasecmp(value, "yes") || !strcasecmp(value, "on") ||
        !strcmp(value, "1"))
        *out = true;
    else if (!strcasecmp(value, "false") || !strcasecmp(value, "no") || !strcasecmp(value, "off") ||
             !strcmp(value, "0"))
        *out = false;
    else
        return -1;
    return 0;
}

static bool is_ignored(const char *key)
{
    static const char *const keys[] = {"socket_timeout", "socket_connect_timeout", "socket_keepalive",
        "retry_on_timeout", "max_connections", "health_check_interval", "client_name", "decode_responses",
        "encoding", "encoding_errors", "protocol", "timeout"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

static int take_query(struct redis_uri *out, const char *key, char **value, struct error *err)
{
    const struct {
        const char *key;
        char **where;
    } strings[] = {{"ssl_ca_certs", &out->ca_file}, {"ssl_ca_path", &out->ca_path},
        {"ssl_certfile", &out->certificate_file}, {"ssl_keyfile", &out->key_file},
        {"ssl_password", &out->key_password}, {"username", &out->user}, {"password", &out->password}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        if (strcmp(key, strings[i].key) != 0)
            continue;
        free(*strings[i].where);
        *strings[i].where = *value;
        *value = NULL;
        return 0;
    }
    if (!strcmp(key, "db")) {
        if (parse_number(slice_from_string(*value), 0, REDIS_DATABASE_MAX, &out->database) < 0)
            return error_set(err, EINVAL, "the Redis URI's db must be a number");
    } else if (!strcmp(key, "ssl_cert_reqs")) {
        out->verify = strcmp(*value, "none") != 0;
        if (out->verify && strcmp(*value, "required") && strcmp(*value, "optional"))
            return error_set(err, EINVAL, "the Redis URI's ssl_cert_reqs must be required, optional or none");
    } else if (!strcmp(key, "ssl_check_hostname")) {
        if (parse_boolean(*value, &out->verify_host) < 0)
            return error_set(err, EINVAL, "the Redis URI's ssl_check_hostname must be true or false");
    } else if (!is_ignored(key)) {
        return error_set(err, EINVAL,
            "the Redis URI has the unknown option '%s'; known: db, username, password, ssl_ca_certs, "
            "ssl_ca_path, "
            "ssl_certfile, ssl_keyfile, ssl_password, ssl_cert_reqs, ssl_check_hostname",
            key);
    }
    return 0;
}

static int parse_query(struct redis_uri *out, struct slice query, struct error *err)
{
    struct text key = {0}, value = {0};
    int result = 0;
    while (result == 0 && percent_next_pair(&query, false, &key, &value)) {
        char *owned = string_of(&value);
        if (owned && !has_nul(&key))
            result = take_query(out, key.data ? key.data : "", &owned, err);
        else
            result = error_set(err, EINVAL, "the Redis URI's query contains a NUL");
        free(owned);
    }
    text_free(&key);
    text_free(&value);
    return result;
}

/* ---- the whole ---- */

static int parse_parts(struct redis_uri *out, const char *rest, struct error *err)
{
    struct slice authority = slice_between(rest, rest + strcspn(rest, "/?#"));
    const char *at_sign = find_last(authority, '@');
    const char *after = authority.data + authority.length;
    if (at_sign) {
        if (parse_user(out, slice_between(authority.data, at_sign), err) < 0)
            return -1;
        authority = slice_between(at_sign + 1, after);
    }
    if (parse_host(out, authority, err) < 0)
        return -1;
    if (*after == '/') {
        struct slice path = slice_between(after + 1, after + 1 + strcspn(after + 1, "?#"));
        after = path.data + path.length;
        if (path.length && path.data[path.length - 1] == '/')
            path.length--;
        if (path.length && parse_number(path, 0, REDIS_DATABASE_MAX, &out->database) < 0)
            return error_set(err, EINVAL, "the Redis URI's path must be the number of a database, as in /0");
    }
    if (*after == '?')
        return parse_query(out, slice_between(after + 1, after + 1 + strcspn(after + 1, "#")), err);
    return 0;
}

int redis_uri_parse(const char *uri, struct redis_uri *out, struct error *err)
{
    *out = (struct redis_uri){.port = REDIS_PORT_DEFAULT, .verify = true, .verify_host = true};
    if (strncasecmp(uri, "rediss://", 9) == 0)
        out->tls = true;
    else if (strncasecmp(uri, "redis://", 8) != 0)
        return error_set(err, EINVAL, "a Redis URI begins with redis:// or rediss://");
    if (parse_parts(out, strchr(uri, ':') + 3, err) < 0) {
        redis_uri_free(out);
        return -1;
    }
    if (!out->host)
        out->host = memory_copy_string("localhost");
    return 0;
}

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void redis_uri_free(struct redis_uri *uri)
{
    wipe(uri->password);
    wipe(uri->key_password);
    free(uri->user);
    free(uri->host);
    free(uri->ca_file);
    free(uri->ca_path);
    free(uri->certificate_file);
    free(uri->key_file);
    *uri = (struct redis_uri){0};
}
