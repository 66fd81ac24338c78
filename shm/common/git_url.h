/*
 * Where a git repository is: a URL, the scp form user@host:path, or a path. libcurl parses URLs; the scp form
 * is none. Pure. No error text and no part named as safe to show ever holds a user name or password of a URL.
 */
#ifndef OPALD_SHM_COMMON_GIT_URL_H
#define OPALD_SHM_COMMON_GIT_URL_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

enum git_url_kind {
    /* A path, or file://. */
    GIT_URL_PATH,
    /* http, https, ftp, ftps: git asks a credential helper for user name and password. */
    GIT_URL_HTTP,
    /* ssh://, git+ssh://, ssh+git:// and user@host:path. */
    GIT_URL_SSH,
    /* git://, and the transport::address form of git's remote helpers, which is not parsed. */
    GIT_URL_OTHER,
};

/* Owned by the caller: zero-initialise, git_url_free. */
struct git_url {
    enum git_url_kind kind;
    /* In lower case; empty for a path and the scp form. */
    struct text scheme;
    /* Percent-decoded; empty when there is none. The secrets. */
    struct text user;
    struct text password;
    /* In lower case, without brackets around an IPv6 address; empty for a path. */
    struct text host;
    /* Digits; empty when it is the scheme's own. */
    struct text port;
    /* With a '/' in front, except for the scp form and a relative path; not decoded; without query and
     * fragment. */
    struct text path;
    /* For a command line, a clone's configuration and the log: as it was given, without the password, and
     * without the user name where that may be a token (everywhere but with SSH). */
    struct text plain;
};

/* -1 with `err`, which says what is wrong and how to write it (`url` may be freed all the same). */
MUST_CHECK int git_url_parse(struct git_url *url, const char *text, struct error *err);
void git_url_free(struct git_url *url);
/* Whether both name the same repository: credentials, a default port, the case of the host, `.git` or '/' at
 * the end, and ssh:// or scp form make no difference. */
bool git_url_same(const struct git_url *a, const struct git_url *b);

#endif
