#include "server/policy/source/git_access.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/git_url.h"
#include "shm/common/memory.h"
#include "shm/common/text.h"
#include "server/policy/source/git_ssh.h"

static void add_variable(struct git_access *access, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_variable(struct git_access *access, const char *format, ...)
{
    char *text = NULL;
    size_t count = 0;
    va_list arguments;
    while (access->variables[count])
        count++;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0 || count == GIT_ACCESS_VARIABLES)
        abort(); /* out of memory, or GIT_ACCESS_VARIABLES is too small */
    va_end(arguments);
    access->variables[count] = text;
}

/* Settings that the operator gives git by GIT_CONFIG_COUNT stay: ours get the numbers behind them. */
static unsigned settings_given(void)
{
    const char *count = getenv("GIT_CONFIG_COUNT");
    return count ? (unsigned)strtoul(count, NULL, 10) : 0;
}

/*
 * A credential helper that answers from the environment, for this repository's server alone: git asks it when
 * the server wants a password, and does not ask it after a redirect to another host.
 */
static void access_http(struct git_access *access, const struct git_url *url)
{
    const char *path = strchr(strstr(access->url, "://") + 3, '/');
    size_t origin = path ? (size_t)(path - access->url) : strlen(access->url);
    unsigned first = settings_given();
    add_variable(access, "OPAL_GIT_USER=%s", text_slice(&url->user).data);
    add_variable(access, "OPAL_GIT_PASSWORD=%s", text_slice(&url->password).data);
    add_variable(access, "GIT_CONFIG_COUNT=%u", first + 2);
    /* The empty one first: git asks no other helper, and tells none to store what ours says. */
    add_variable(access, "GIT_CONFIG_KEY_%u=credential.%.*s.helper", first, (int)origin, access->url);
    add_variable(access, "GIT_CONFIG_VALUE_%u=", first);
    add_variable(access, "GIT_CONFIG_KEY_%u=credential.%.*s.helper", first + 1, (int)origin, access->url);
    add_variable(access, "GIT_CONFIG_VALUE_%u=%s", first + 1,
        "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \"$OPAL_GIT_USER\" "
        "\"$OPAL_GIT_PASSWORD\"; }; f");
}

/* A relative path counts from this process's working directory; git works in another one. */
static void make_absolute(struct git_url *url)
{
    if (url->kind != GIT_URL_PATH || url->scheme.length > 0 || url->path.length == 0 ||
        url->path.data[0] == '/')
        return;
    char *here = getcwd(NULL, 0);
    struct text path = {0};
    text_append_format(&path, "%s/%s", here ? here : "", url->path.data);
    free(here);
    text_clear(&url->path);
    text_append_slice(&url->path, text_slice(&path));
    text_clear(&url->plain);
    text_append_slice(&url->plain, text_slice(&path));
    text_free(&path);
}

MUST_CHECK static int parse_configured(const struct config *config, struct git_url *url, struct error *err)
{
    if (git_url_parse(url, config->policy_repo_url, err) < 0)
        return error_prefix(err, "OPAL_POLICY_REPO_URL (value not shown)");
    make_absolute(url);
    return 0;
}

int git_access_open(const struct config *config, struct git_access *access, struct error *err)
{
    struct git_url url = {0};
    *access = (struct git_access){0};
    int result = parse_configured(config, &url, err);
    if (result == 0) {
        access->url = memory_copy_string(text_slice(&url.plain).data);
        if (url.kind == GIT_URL_HTTP && (url.user.length > 0 || url.password.length > 0))
            access_http(access, &url);
        if (url.kind == GIT_URL_SSH && config->policy_repo_ssh_key) {
            struct text command = {0};
            result = git_ssh_open(config, &command, err);
            if (result == 0)
                add_variable(access, "GIT_SSH_COMMAND=%s", command.data);
            text_free(&command);
        }
    }
    git_url_free(&url);
    return result;
}

void git_access_free(struct git_access *access)
{
    free(access->url);
    for (size_t i = 0; access->variables[i]; i++)
        free(access->variables[i]);
    *access = (struct git_access){0};
}

char *git_access_plain_url(const struct config *config)
{
    struct git_url url = {0};
    struct error err = {0};
    bool good = parse_configured(config, &url, &err) == 0;
    char *plain = memory_copy_string(good ? text_slice(&url.plain).data : "***");
    git_url_free(&url);
    return plain;
}

bool git_access_same_url(const struct config *config, const char *url)
{
    struct git_url mine = {0}, other = {0};
    struct error err = {0};
    bool same = parse_configured(config, &mine, &err) == 0 && git_url_parse(&other, url, &err) == 0 &&
                git_url_same(&mine, &other);
    git_url_free(&mine);
    git_url_free(&other);
    return same;
}
