#include "broadcast/backend/backbone_uri.h"

#include <errno.h>
#include <string.h>

#include "shm/common/percent.h"

static struct slice slice_between(const char *start, const char *end)
{
    return (struct slice){start, (size_t)(end - start)};
}

static bool has_at(struct slice part)
{
    return part.length && memchr(part.data, '@', part.length);
}

/* Options whose values may well have one. */
static bool may_have_at(struct slice name)
{
    static const char *const names[] = {"user", "username", "password", "sslpassword", "ssl_password",
        "options", "application_name", "database", "dbname"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_equals_string(name, names[i]))
            return true;
    return false;
}

/* True: an '@' of the query is no part of an option's value. */
static bool query_has_stray_at(struct slice query)
{
    const char *end = query.data + query.length;
    for (const char *at = query.data; query.length && at < end;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        struct slice pair = slice_between(at, stop ? stop : end);
        const char *equals = memchr(pair.data, '=', pair.length);
        if (has_at(pair) && !(equals && may_have_at(slice_between(pair.data, equals))))
            return true;
        at = stop ? stop + 1 : end;
    }
    return false;
}

int backbone_uri_split(
    const char *name, const char *uri, const char *ends, struct backbone_uri *parts, struct error *err)
{
    const char *scheme_end = strstr(uri, "://");
    *parts = (struct backbone_uri){0};
    if (!scheme_end)
        return error_set(err, EINVAL, "the %s URI has no scheme", name);
    bool fragments = strchr(ends, '#') != NULL;
    const char *start = scheme_end + 3;
    const char *end = start + strcspn(start, ends);
    const char *at = memrchr(start, '@', (size_t)(end - start));
    parts->scheme = slice_between(uri, scheme_end);
    if (at)
        parts->userinfo = slice_between(start, at);
    parts->hosts = slice_between(at ? at + 1 : start, end);
    struct slice fragment = {0};
    if (*end == '/') {
        const char *path_end = end + strcspn(end, fragments ? "?#" : "?");
        parts->path = slice_between(end + 1, path_end);
        end = path_end;
    }
    if (*end == '?') {
        const char *query_end = fragments ? end + strcspn(end, "#") : end + strlen(end);
        parts->query = slice_between(end + 1, query_end);
        end = query_end;
    }
    fragment = slice_from_string(end);
    if (has_at(parts->path) || query_has_stray_at(parts->query) || has_at(fragment))
        return error_set(err, EINVAL, "the %s URI has an @ behind its host: %s", name, PERCENT_ADVICE);
    return 0;
}

void backbone_uri_append_authority(struct text *out, const struct backbone_uri *parts)
{
    text_append_slice(out, parts->scheme);
    text_append_string(out, "://");
    for (size_t i = 0; i < parts->userinfo.length; i++) {
        if (parts->userinfo.data[i] == '@')
            text_append_string(out, "%40");
        else
            text_append_char(out, parts->userinfo.data[i]);
    }
    if (parts->userinfo.data)
        text_append_char(out, '@');
    text_append_slice(out, parts->hosts);
}

static void append_secret(struct text *out, struct slice secret)
{
    text_append_slice(out, secret);
    text_append_char(out, '\n');
    percent_decode(secret, false, out);
    text_append_char(out, '\n');
}

void backbone_uri_append_secrets(struct text *out, const struct backbone_uri *parts)
{
    static const char option[] = "password=";
    struct slice user = parts->userinfo;
    struct slice query = parts->query;
    const char *colon = user.length ? memchr(user.data, ':', user.length) : NULL;
    if (colon)
        append_secret(out, slice_between(colon + 1, user.data + user.length));
    const char *found = query.length ? memmem(query.data, query.length, option, sizeof option - 1) : NULL;
    if (found)
        append_secret(out, slice_between(found + sizeof option - 1, query.data + query.length));
}
