#include "shm/common/url_display.h"

#include <string.h>

#define SCHEME_MAX 20
#define LETTERS    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS     "0123456789"

/* Options of URLs that users write; a piece of a password is hardly ever the same as one of them. */
static const char *const known_options[] = {"token", "access_token", "private_token", "api_key", "key",
    "password", "secret", "user", "username", "db", "database", "dbname", "host", "hostaddr", "port",
    "options", "application_name", "connect_timeout", "target_session_attrs", "ssl", "sslmode", "sslrootcert",
    "sslcert", "sslkey", "sslpassword", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile",
    "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"};

static bool is_made_of(struct slice part, const char *set)
{
    for (size_t i = 0; i < part.length; i++)
        if (!part.data[i] || !strchr(set, part.data[i]))
            return false;
    return true;
}

static struct slice slice_between(const char *start, const char *end)
{
    return (struct slice){start, (size_t)(end - start)};
}

/* "host", "host:port", "[::1]:port"; also the empty host of a local socket or a trial cluster. */
static bool is_host(struct slice host)
{
    uint64_t port;
    const char *end = host.data + host.length;
    const char *colon;
    if (host.length && host.data[0] == '[') {
        const char *bracket = memchr(host.data, ']', host.length);
        if (!bracket || !is_made_of(slice_between(host.data + 1, bracket), LETTERS DIGITS ":.%"))
            return false;
        colon = bracket + 1;
        if (colon < end && *colon != ':')
            return false;
    } else {
        colon = memchr(host.data, ':', host.length);
        colon = colon ? colon : end;
        if (!is_made_of(slice_between(host.data, colon), LETTERS DIGITS "-._") ||
            (colon == host.data && colon < end))
            return false;
    }
    return colon >= end - 1 || slice_read_number(slice_between(colon + 1, end), 65535, &port);
}

static bool are_hosts(struct slice hosts)
{
    const char *end = hosts.data + hosts.length;
    for (const char *at = hosts.data;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        if (!is_host(slice_trim(slice_between(at, comma ? comma : end), TEXT_BLANKS)))
            return false;
        if (!comma)
            return true;
        at = comma + 1;
    }
}

static bool is_known_option(struct slice name)
{
    for (size_t i = 0; i < sizeof known_options / sizeof *known_options; i++)
        if (slice_equals_string(name, known_options[i]))
            return true;
    return false;
}

static void append_query(struct text *out, struct slice query)
{
    const char *end = query.data + query.length;
    for (const char *at = query.data; at <= end;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        text_append_char(out, at == query.data ? '?' : '&');
        if (equals && is_known_option(slice_between(at, equals)))
            text_append_format(out, "%.*s=", (int)(equals - at), at);
        text_append_string(out, "***");
        at = stop + 1;
    }
}

/* What follows the userinfo. */
static void append_rest(struct text *out, const char *rest)
{
    struct slice hosts = {rest, strcspn(rest, "/?#")};
    const char *path_start = rest + hosts.length;
    struct slice path = {path_start, strcspn(path_start, "?#")};
    const char *query_start = path_start + path.length;
    if (!are_hosts(hosts) || !is_made_of(path, LETTERS DIGITS "/-._~%+,")) {
        text_append_string(out, "***");
        return;
    }
    text_append_slice(out, hosts);
    text_append_slice(out, path);
    if (*query_start == '?')
        append_query(out, (struct slice){query_start + 1, strcspn(query_start + 1, "#")});
    if (strchr(query_start, '#'))
        text_append_string(out, "#***");
}

/* A path, or user@host:path: nothing in it can be a password. */
static bool is_plain(const char *text)
{
    size_t user = strcspn(text, "@:/");
    size_t start = text[user] == '@' ? user + 1 : 0;
    return is_made_of((struct slice){text, start ? user : 0}, LETTERS DIGITS "-._") &&
           is_made_of(slice_from_string(text + start), LETTERS DIGITS "/:-._~[]");
}

void url_append_display(struct text *out, const char *url)
{
    const char *scheme_end = strstr(url, "://");
    if (!scheme_end) {
        text_append_string(out, is_plain(url) ? url : "***");
        return;
    }
    struct slice scheme = slice_between(url, scheme_end);
    if (!scheme.length || scheme.length > SCHEME_MAX || !is_made_of(scheme, LETTERS DIGITS "+-._")) {
        text_append_string(out, "***");
        return;
    }
    const char *start = scheme_end + 3;
    const char *end = start + strcspn(start, "/?#");
    const char *at = memrchr(start, '@', (size_t)(end - start));
    text_append_slice(out, scheme);
    text_append_string(out, at ? "://***@" : "://");
    if (strchr(end, '@')) /* behind the host: of a password that was cut, perhaps */
        text_append_string(out, "***");
    else
        append_rest(out, at ? at + 1 : start);
}
