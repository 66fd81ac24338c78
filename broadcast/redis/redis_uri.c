#include "broadcast/redis/redis_uri.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/backend/backbone_uri.h"
#include "shm/common/memory.h"
#include "shm/common/percent.h"
#include "shm/common/text.h"

#define REDIS_PORT_DEFAULT 6379
#define REDIS_DATABASE_MAX 1000000
#define REDIS_HOW_TO_WRITE "right is redis://host:port, with user:password@ before the host; " PERCENT_ADVICE
#define REDIS_NO_HOST \
    "the Redis URI's host is neither a name nor an address: one host (no Sentinel, no Cluster), reached by " \
    "TCP, " \
    "not by a unix socket"

/* ---- user, password, host, port: libcurl ---- */

static int take_part(CURLU *handle, CURLUPart part, unsigned flags, char **out, struct error *err)
{
    char *value = NULL;
    CURLUcode code = curl_url_get(handle, part, &value, flags);
    if (code == CURLUE_URLDECODE)
        return error_set(err, EINVAL, "the Redis URI has a control character in its user name or password");
    if (code == CURLUE_OK && *value)
        *out = memory_copy_string(value);
    if (value)
        explicit_bzero(value, strlen(value));
    curl_free(value);
    return 0;
}

static int take_host(CURLU *handle, struct redis_uri *out, struct error *err)
{
    char *host = NULL;
    if (take_part(handle, CURLUPART_HOST, CURLU_URLDECODE, &host, err) < 0)
        return error_set(err, EINVAL, REDIS_NO_HOST);
    struct slice name = slice_from_string(host ? host : "localhost");
    if (name.length > 2 && name.data[0] == '[')
        name = (struct slice){name.data + 1, name.length - 2};
    out->host = memory_copy(name.data, name.length);
    free(host);
    return strchr(out->host, '/') || strchr(out->host, ',') ? error_set(err, EINVAL, REDIS_NO_HOST) : 0;
}

static int take_port(CURLU *handle, struct redis_uri *out, struct error *err)
{
    char *port = NULL;
    uint64_t number = REDIS_PORT_DEFAULT;
    if (take_part(handle, CURLUPART_PORT, 0, &port, err) < 0)
        return -1;
    bool good = !port || (slice_read_number(slice_from_string(port), 65535, &number) && number > 0);
    free(port);
    out->port = (int)number;
    return good ? 0
                : error_set(err, EINVAL, "the Redis URI's port must be 1 to 65535; %s", REDIS_HOW_TO_WRITE);
}

static int explain_refusal(CURLUcode code, struct error *err)
{
    if (code == CURLUE_BAD_PORT_NUMBER)
        return error_set(err, EINVAL, "the Redis URI's port must be 1 to 65535; %s", REDIS_HOW_TO_WRITE);
    if (code == CURLUE_BAD_HOSTNAME || code == CURLUE_BAD_IPV6)
        return error_set(err, EINVAL, "%s; %s", REDIS_NO_HOST, PERCENT_ADVICE);
    return error_set(
        err, EINVAL, "the Redis URI can't be read (%s); %s", curl_url_strerror(code), REDIS_HOW_TO_WRITE);
}

static int parse_authority(const struct backbone_uri *parts, struct redis_uri *out, struct error *err)
{
    struct text authority = {0};
    CURLU *handle = curl_url();
    backbone_uri_append_authority(&authority, parts);
    CURLUcode code = handle ? curl_url_set(handle, CURLUPART_URL, authority.data,
                                  CURLU_NON_SUPPORT_SCHEME | CURLU_NO_AUTHORITY | CURLU_ALLOW_SPACE)
                            : CURLUE_OUT_OF_MEMORY;
    int result = code == CURLUE_OK ? 0 : explain_refusal(code, err);
    if (result == 0 && (take_part(handle, CURLUPART_USER, CURLU_URLDECODE, &out->user, err) < 0 ||
                           take_part(handle, CURLUPART_PASSWORD, CURLU_URLDECODE, &out->password, err) < 0 ||
                           take_host(handle, out, err) < 0 || take_port(handle, out, err) < 0))
        result = -1;
    explicit_bzero(authority.data, authority.length);
    text_free(&authority);
    curl_url_cleanup(handle);
    return result;
}

static int check_database(struct slice digits, struct error *err)
{
    uint64_t number;
    if (!digits.length || slice_read_number(digits, REDIS_DATABASE_MAX, &number))
        return 0;
    return error_set(err, EINVAL, "the Redis URI's database must be a number, as in /0; %s", PERCENT_ADVICE);
}

/* ---- the query ---- */

static int parse_boolean(struct slice value, bool *out)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"}, {"true", "yes", "on", "1"}};
    for (int meaning = 0; meaning < 2; meaning++) {
        for (size_t i = 0; i < 4; i++) {
            if (slice_equals_ignoring_case(value, words[meaning][i])) {
                *out = meaning;
                return 0;
            }
        }
    }
    return -1;
}

static bool is_ignored(struct slice key)
{
    static const char *const keys[] = {"socket_timeout", "socket_connect_timeout", "socket_keepalive",
        "retry_on_timeout", "max_connections", "health_check_interval", "client_name", "decode_responses",
        "encoding", "encoding_errors", "protocol", "timeout"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (slice_equals_string(key, keys[i]))
            return true;
    return false;
}

/* NULL: that key is no string. */
static char **string_of_key(struct redis_uri *out, struct slice key)
{
    const struct {
        const char *key;
        char **where;
    } strings[] = {
        {"ssl_ca_certs", &out->ca_file},
        {"ssl_ca_path", &out->ca_path},
        {"ssl_certfile", &out->certificate_file},
        {"ssl_keyfile", &out->key_file},
        {"ssl_password", &out->key_password},
        {"username", &out->user},
        {"password", &out->password},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if (slice_equals_string(key, strings[i].key))
            return strings[i].where;
    return NULL;
}

static int take_option(
    struct redis_uri *out, struct slice key, struct slice value, unsigned number, struct error *err)
{
    char **where = string_of_key(out, key);
    if (where) {
        free(*where);
        *where = memory_copy(value.data, value.length);
        return 0;
    }
    if (slice_equals_string(key, "db"))
        return check_database(value, err);
    if (slice_equals_string(key, "ssl_cert_reqs")) {
        out->verify = !slice_equals_string(value, "none");
        if (out->verify && !slice_equals_string(value, "required") && !slice_equals_string(value, "optional"))
            return error_set(err, EINVAL, "the Redis URI's ssl_cert_reqs must be required, optional or none");
        return 0;
    }
    if (slice_equals_string(key, "ssl_check_hostname"))
        return parse_boolean(value, &out->verify_host) == 0
                   ? 0
                   : error_set(err, EINVAL, "the Redis URI's ssl_check_hostname must be true or false");
    if (is_ignored(key))
        return 0;
    /* Not quoted: it may be a piece of a password. */
    return error_set(err, EINVAL,
        "the Redis URI's option %u is unknown; known: db, username, password, ssl_ca_certs, ssl_ca_path, "
        "ssl_certfile, ssl_keyfile, ssl_password, ssl_cert_reqs, ssl_check_hostname; in a password write & "
        "as "
        "%%26 and ? as %%3F",
        number);
}

static bool has_nul(const struct text *text)
{
    return text->length && memchr(text->data, '\0', text->length);
}

static int parse_query(struct redis_uri *out, struct slice query, struct error *err)
{
    struct text key = {0}, value = {0};
    int result = 0;
    for (unsigned number = 1; result == 0 && percent_next_pair(&query, false, &key, &value); number++) {
        if (has_nul(&key) || has_nul(&value))
            result = error_set(err, EINVAL, "the Redis URI's query contains a NUL");
        else
            result = take_option(out, text_slice(&key), text_slice(&value), number, err);
    }
    if (value.data)
        explicit_bzero(value.data, value.length);
    text_free(&key);
    text_free(&value);
    return result;
}

/* ---- the whole ---- */

int redis_uri_parse(const char *uri, struct redis_uri *out, struct error *err)
{
    struct backbone_uri parts;
    *out = (struct redis_uri){.port = REDIS_PORT_DEFAULT, .verify = true, .verify_host = true};
    if (backbone_uri_split("Redis", uri, "/?#", &parts, err) < 0)
        return -1;
    out->tls = slice_equals_ignoring_case(parts.scheme, "rediss");
    if (!out->tls && !slice_equals_ignoring_case(parts.scheme, "redis"))
        return error_set(err, EINVAL, "a Redis URI begins with redis:// or rediss://");
    if (parts.path.length && parts.path.data[parts.path.length - 1] == '/')
        parts.path.length--;
    if (parse_authority(&parts, out, err) < 0 || check_database(parts.path, err) < 0 ||
        parse_query(out, parts.query, err) < 0) {
        redis_uri_free(out);
        return -1;
    }
    struct text secrets = {0};
    backbone_uri_append_secrets(&secrets, &parts);
    out->secrets = secrets.data;
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
    wipe(uri->secrets);
    free(uri->user);
    free(uri->host);
    free(uri->ca_file);
    free(uri->ca_path);
    free(uri->certificate_file);
    free(uri->key_file);
    *uri = (struct redis_uri){0};
}
