#include "server/policy/source/git_access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/memory.h"
#include "shm/common/text.h"
#include "server/policy/source/clone_folder.h"

#define KEY_FILE_DEFAULT "~/.ssh/opal_repo_ssh_key"

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- http(s) ---- */

struct userinfo {
    struct text user;
    struct text password;
    bool has_password;
};

static void append_decoded(struct text *out, const char *at, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        int high = i + 2 < length && at[i] == '%' ? text_hex_value(at[i + 1]) : -1;
        int low = high >= 0 ? text_hex_value(at[i + 2]) : -1;
        if (low >= 0) {
            text_append_char(out, (char)(high * 16 + low));
            i += 2;
        } else {
            text_append_char(out, at[i]);
        }
    }
}

/* Appends the URL without its userinfo, which goes to `userinfo` (may be NULL). Other than http(s) as it is. */
static void url_strip(const char *url, struct text *out, struct userinfo *userinfo)
{
    const char *host = has_prefix(url, "https://") ? url + 8 : has_prefix(url, "http://") ? url + 7 : NULL;
    const char *end = host ? host + strcspn(host, "/?#") : NULL;
    const char *at = NULL;
    for (const char *p = host; p && p < end; p++)
        if (*p == '@')
            at = p;
    if (!at) {
        text_append_string(out, url);
        return;
    }
    text_append(out, url, (size_t)(host - url));
    text_append_string(out, at + 1);
    if (!userinfo)
        return;
    const char *colon = memchr(host, ':', (size_t)(at - host));
    append_decoded(&userinfo->user, host, (size_t)((colon ? colon : at) - host));
    if (colon)
        append_decoded(&userinfo->password, colon + 1, (size_t)(at - colon - 1));
    userinfo->has_password = colon != NULL;
}

static void add_variable(struct git_access *access, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_variable(struct git_access *access, const char *format, ...)
{
    size_t count = 0;
    char *made = NULL;
    va_list arguments;
    while (access->variables[count])
        count++;
    va_start(arguments, format);
    if (count < GIT_ACCESS_VARIABLES && vasprintf(&made, format, arguments) >= 0)
        access->variables[count] = made;
    va_end(arguments);
}

/*
 * A credential helper that answers from the environment, for this repository's server alone: git asks it when the server wants a
 * password, and after a redirect to another host it does not ask it.
 */
static void access_http(struct git_access *access, const struct userinfo *userinfo)
{
    struct text scope = {0};
    const char *host = strstr(access->url, "://") + 3;
    text_append(&scope, access->url, (size_t)(host - access->url) + strcspn(host, "/?#"));
    add_variable(access, "OPAL_GIT_USER=%s", userinfo->user.data ? userinfo->user.data : "");
    add_variable(access, "OPAL_GIT_PASSWORD=%s", userinfo->password.data ? userinfo->password.data : "");
    /* The empty one first: no other helper is asked, and none is told to store what ours says. */
    add_variable(access, "GIT_CONFIG_COUNT=2");
    add_variable(access, "GIT_CONFIG_KEY_0=credential.%s.helper", scope.data);
    add_variable(access, "GIT_CONFIG_VALUE_0=");
    add_variable(access, "GIT_CONFIG_KEY_1=credential.%s.helper", scope.data);
    add_variable(access, "%s",
        "GIT_CONFIG_VALUE_1=!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' "
        "\"$OPAL_GIT_USER\" \"$OPAL_GIT_PASSWORD\"; }; f");
    text_free(&scope);
}

/* A path from the working directory: git works in another one. */
static bool url_is_relative(const char *url)
{
    size_t part = strcspn(url, "/:");
    return url[0] != '/' && url[part] != ':';
}

/* What git is given. */
static void url_resolve(const char *url, struct text *out, struct userinfo *userinfo)
{
    if (url_is_relative(url)) {
        char *here = getcwd(NULL, 0);
        text_append_format(out, "%s/", here ? here : "");
        free(here);
    }
    url_strip(url, out, userinfo);
}

/* ---- SSH ---- */

static bool url_is_ssh(const char *url)
{
    return has_prefix(url, "ssh://") || has_prefix(url, "git@");
}

/* Beside its place first, then renamed: never half a key, never readable by others, and nobody's link is followed. */
static int key_write(const char *path, const struct text *key, struct error *err)
{
    struct text temporary = {0};
    text_append_format(&temporary, "%s.%d", path, (int)getpid());
    unlink(temporary.data);
    int file = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool written = file >= 0 && write(file, key->data, key->length) == (ssize_t)key->length;
    int failure = errno ? errno : EIO;
    if (file >= 0)
        close(file);
    if (written && rename(temporary.data, path) < 0) {
        written = false;
        failure = errno;
    }
    if (!written)
        unlink(temporary.data);
    text_free(&temporary);
    if (!written)
        return error_set_errno(err, failure, "cannot write the SSH key to %s", path);
    return 0;
}

/* `text` between single quotes for a shell. */
static void append_quoted(struct text *out, const char *text)
{
    text_append_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            text_append_string(out, "'\\''");
        else
            text_append_char(out, *text);
    }
    text_append_char(out, '\'');
}

static void append_host_key_options(struct text *command, const char *how, const char *known_hosts)
{
    if (strcmp(how, "accept-any") == 0) {
        text_append_string(command, " -o StrictHostKeyChecking=no");
        return;
    }
    text_append_format(
        command, " -o StrictHostKeyChecking=%s", strcmp(how, "strict") == 0 ? "yes" : "accept-new");
    /* Ours is the first, where new keys go; what the user and the system know counts too. */
    text_append_string(command, " -o UserKnownHostsFile=");
    struct text files = {0};
    text_append_format(&files, "\"%s\" ~/.ssh/known_hosts", known_hosts);
    append_quoted(command, files.data);
    text_free(&files);
}

static int access_ssh(struct git_access *access, const struct config *config, struct error *err)
{
    char *path = clone_folder_expand(config->git_ssh_key_file ? config->git_ssh_key_file : KEY_FILE_DEFAULT);
    char *slash = strrchr(path, '/');
    struct text key = {0};
    struct text known_hosts = {0};
    struct text command = {0};
    if (slash && slash != path) {
        *slash = '\0';
        (void)!mkdir(path, 0700); /* that it is not there shows when the key is written */
        *slash = '/';
    }
    for (const char *at = config->policy_repo_ssh_key; *at; at++)
        text_append_char(&key, *at == '_' ? '\n' : *at);
    if (key.length == 0 || key.data[key.length - 1] != '\n')
        text_append_char(&key, '\n');
    int result = key_write(path, &key, err);
    explicit_bzero(key.data, key.length);
    text_append_format(&known_hosts, "%s.known_hosts", path);
    text_append_string(&command, "ssh -o BatchMode=yes -o ConnectTimeout=20 -o IdentitiesOnly=yes -i ");
    append_quoted(&command, path);
    append_host_key_options(&command, config->policy_repo_ssh_host_keys, known_hosts.data);
    add_variable(access, "GIT_SSH_COMMAND=%s", command.data);
    text_free(&key);
    text_free(&known_hosts);
    text_free(&command);
    free(path);
    return result;
}

/* ---- */

int git_access_open(const struct config *config, struct git_access *access, struct error *err)
{
    struct text url = {0};
    struct userinfo userinfo = {0};
    int result = 0;
    *access = (struct git_access){0};
    url_resolve(config->policy_repo_url, &url, &userinfo);
    access->url = memory_copy_string(url.data ? url.data : "");
    if (userinfo.user.length || userinfo.has_password)
        access_http(access, &userinfo);
    if (url_is_ssh(config->policy_repo_url) && config->policy_repo_ssh_key)
        result = access_ssh(access, config, err);
    text_free(&url);
    text_free(&userinfo.user);
    text_free(&userinfo.password);
    return result;
}

void git_access_free(struct git_access *access)
{
    free(access->url);
    for (size_t i = 0; access->variables[i]; i++)
        free(access->variables[i]);
    *access = (struct git_access){0};
}

bool git_access_same_url(const struct config *config, const char *url)
{
    struct text mine = {0};
    struct text other = {0};
    url_resolve(config->policy_repo_url, &mine, NULL);
    url_strip(url, &other, NULL);
    bool same = slice_equals(text_slice(&mine), text_slice(&other));
    text_free(&mine);
    text_free(&other);
    return same;
}
