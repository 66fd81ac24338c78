#include "shm/common/git_url.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "shm/common/percent.h"

#define PARSE_FLAGS (CURLU_NON_SUPPORT_SCHEME | CURLU_ALLOW_SPACE | CURLU_PATH_AS_IS)

struct scheme {
    const char *name;
    enum git_url_kind kind;
    const char *port;
};

static const struct scheme schemes[] = {
    {"https", GIT_URL_HTTP, "443"},
    {"http", GIT_URL_HTTP, "80"},
    {"ftps", GIT_URL_HTTP, "990"},
    {"ftp", GIT_URL_HTTP, "21"},
    {"ssh", GIT_URL_SSH, "22"},
    {"git+ssh", GIT_URL_SSH, "22"},
    {"ssh+git", GIT_URL_SSH, "22"},
    {"git", GIT_URL_OTHER, "9418"},
    {"file", GIT_URL_PATH, ""},
};

static const struct scheme *scheme_find(const struct text *name)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (slice_equals_string(text_slice(name), schemes[i].name))
            return &schemes[i];
    return NULL;
}

static void append_lower(struct text *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        text_append_char(out, (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]));
}

/* Without brackets. */
static void take_host(struct git_url *url, const char *host, size_t length)
{
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    append_lower(&url->host, host, length);
}

/* ---- a URL ---- */

static int take_part(CURLU *handle, CURLUPart part, unsigned flags, struct text *out)
{
    char *value = NULL;
    CURLUcode code = curl_url_get(handle, part, &value, flags);
    if (code == CURLUE_OK)
        text_append_string(out, value);
    curl_free(value);
    return code == CURLUE_URLDECODE ? -1 : 0;
}

/* A password with a '/' in it ends the authority early: then its '@' is in what libcurl takes for the path.
 * */
static bool has_late_at(CURLU *handle)
{
    static const CURLUPart parts[] = {CURLUPART_PATH, CURLUPART_QUERY, CURLUPART_FRAGMENT};
    struct text text = {0};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        (void)take_part(handle, parts[i], 0, &text);
    bool found = text.length > 0 && memchr(text.data, '@', text.length);
    text_free(&text);
    return found;
}

static int take_plain(struct git_url *url, CURLU *handle, const char *text, struct error *err)
{
    bool keeps_user = url->kind == GIT_URL_SSH;
    if (url->password.length == 0 && (keeps_user || url->user.length == 0) && !strchr(text, '@')) {
        text_append_string(&url->plain, text);
        return 0;
    }
    if (curl_url_set(handle, CURLUPART_PASSWORD, NULL, 0) != CURLUE_OK ||
        (!keeps_user && curl_url_set(handle, CURLUPART_USER, NULL, 0) != CURLUE_OK) ||
        take_part(handle, CURLUPART_URL, CURLU_NON_SUPPORT_SCHEME, &url->plain) < 0 || url->plain.length == 0)
        return error_set(err, EINVAL, "is no URL that libcurl can write");
    return 0;
}

static int take_url(struct git_url *url, CURLU *handle, const char *text, struct error *err)
{
    struct text host = {0};
    CURLUcode code = curl_url_set(handle, CURLUPART_URL, text, PARSE_FLAGS);
    if (code != CURLUE_OK)
        return error_set(err, EINVAL, "is no URL that can be used (%s)%s", curl_url_strerror(code),
            strchr(text, '@') ? "; " PERCENT_ADVICE : "");
    (void)take_part(handle, CURLUPART_SCHEME, 0, &url->scheme);
    const struct scheme *scheme = scheme_find(&url->scheme);
    url->kind = scheme ? scheme->kind : GIT_URL_OTHER;
    if (url->kind != GIT_URL_PATH && has_late_at(handle))
        return error_set(
            err, EINVAL, "%s", "has an @ behind its host; " PERCENT_ADVICE " (and an @ in the path as %40)");
    if (take_part(handle, CURLUPART_USER, CURLU_URLDECODE, &url->user) < 0 ||
        take_part(handle, CURLUPART_PASSWORD, CURLU_URLDECODE, &url->password) < 0)
        return error_set(err, EINVAL, "has a control character in its user name or password");
    (void)take_part(handle, CURLUPART_HOST, 0, &host);
    (void)take_part(handle, CURLUPART_PORT, 0, &url->port);
    (void)take_part(handle, CURLUPART_PATH, 0, &url->path);
    if (host.length > 0)
        take_host(url, host.data, host.length);
    if (scheme && slice_equals_string(text_slice(&url->port), scheme->port))
        text_clear(&url->port);
    text_free(&host);
    return take_plain(url, handle, text, err);
}

/* ---- what is no URL ---- */

/* user@host:path or host:path; the host may be in brackets, with a port in them: [host:22]:path, [::1]:path.
 * As git reads it. */
static int take_scp(struct git_url *url, const char *text, struct error *err)
{
    const char *colon = strchr(text, ':');
    const char *at = memchr(text, '@', (size_t)(colon - text));
    const char *host = at ? at + 1 : text;
    if (host[0] == '[') {
        const char *close = strchr(host, ']');
        colon = close && close[1] == ':' ? close + 1 : NULL;
    }
    if (!colon || colon == host)
        return error_set(err, EINVAL, "has no host before its colon");
    /* user:password@host/path without a scheme, for example. */
    if (strchr(colon, '@'))
        return error_set(
            err, EINVAL, "has an @ behind its first colon: a URL with a password begins with https://");
    url->kind = GIT_URL_SSH;
    if (at)
        text_append(&url->user, text, (size_t)(at - text));
    size_t length = (size_t)(colon - host);
    const char *port = host[0] == '[' ? memchr(host, ':', length) : NULL;
    if (port && !memchr(port + 1, ':', (size_t)(colon - port - 1))) {
        append_lower(&url->host, host + 1, (size_t)(port - host - 1));
        text_append(&url->port, port + 1, (size_t)(colon - port - 2));
    } else {
        take_host(url, host, length);
    }
    text_append_string(&url->path, colon + 1);
    text_append_string(&url->plain, text);
    return 0;
}

int git_url_parse(struct git_url *url, const char *text, struct error *err)
{
    static const char scheme_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.";
    size_t scheme = strspn(text, scheme_bytes);
    size_t part = strcspn(text, "/:");
    bool transport = scheme > 0 && strncmp(text + scheme, "::", 2) == 0;
    if (scheme > 0 && strncmp(text + scheme, "://", 3) == 0) {
        CURLU *handle = curl_url();
        int result = handle ? take_url(url, handle, text, err) : error_set(err, ENOMEM, "cannot be parsed");
        curl_url_cleanup(handle);
        return result;
    }
    if (text[part] == ':' && !transport)
        return take_scp(url, text, err);
    url->kind = transport ? GIT_URL_OTHER : GIT_URL_PATH;
    text_append_string(&url->path, text);
    text_append_string(&url->plain, text);
    return 0;
}

void git_url_free(struct git_url *url)
{
    struct text *const parts[] = {
        &url->scheme, &url->user, &url->password, &url->host, &url->port, &url->path, &url->plain};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        text_free(parts[i]);
    *url = (struct git_url){0};
}

/* ---- sameness ---- */

/* Without the '/' in front (of a host's paths: an scp path begins without it), and without '/' and ".git" at
 * the end. */
static struct slice path_core(const struct git_url *url)
{
    struct slice path = text_slice(&url->path);
    while (url->host.length > 0 && path.length > 0 && path.data[0] == '/')
        path = (struct slice){path.data + 1, path.length - 1};
    while (path.length > 1 && path.data[path.length - 1] == '/')
        path.length--;
    if (path.length > 4 && memcmp(path.data + path.length - 4, ".git", 4) == 0)
        path.length -= 4;
    return path;
}

static bool same_scheme(const struct git_url *a, const struct git_url *b)
{
    if (a->kind != b->kind)
        return false;
    return a->kind == GIT_URL_SSH || a->kind == GIT_URL_PATH ||
           slice_equals(text_slice(&a->scheme), text_slice(&b->scheme));
}

bool git_url_same(const struct git_url *a, const struct git_url *b)
{
    return same_scheme(a, b) && slice_equals(text_slice(&a->host), text_slice(&b->host)) &&
           slice_equals(text_slice(&a->port), text_slice(&b->port)) &&
           slice_equals(path_core(a), path_core(b));
}
