#include "server/master/jwks_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/text.h"
#include "worker/auth/auth.h"

static int make_folders(const char *path, struct error *err)
{
    struct text part = {0};
    int result = 0;
    for (const char *at = path; result == 0; at++) {
        if (*at && (*at != '/' || at == path)) {
            text_append_char(&part, *at);
            continue;
        }
        const char *folder = text_slice(&part).data; /* "" of an empty path */
        if (mkdir(folder, 0755) < 0 && errno != EEXIST)
            result = error_set_errno(err, errno, "cannot make the folder %s", folder);
        if (!*at)
            break;
        text_append_char(&part, '/');
    }
    text_free(&part);
    return result;
}

static int write_file(const char *path, struct slice content, struct error *err)
{
    struct text fresh = {0};
    text_append_format(&fresh, "%s.%d", path, (int)getpid());
    int fd = open(fresh.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int result = 0;
    if (fd < 0 || write(fd, content.data, content.length) != (ssize_t)content.length)
        result = error_set_errno(err, errno, "cannot write %s", fresh.data);
    if (fd >= 0)
        close(fd);
    if (result == 0 && rename(fresh.data, path) < 0)
        result = error_set_errno(err, errno, "cannot write %s", path);
    if (result < 0)
        unlink(fresh.data);
    text_free(&fresh);
    return result;
}

int jwks_file_write(const struct config *config, struct error *err)
{
    struct auth *auth = NULL;
    struct text path = {0};
    const char *name = strrchr(config->auth_jwks_url, '/');
    int result = 0;
    if (!config->auth_jwks_static_dir)
        return 0;
    if (!name || !name[1])
        return error_set(err, EINVAL,
            "OPAL_AUTH_JWKS_URL=%s: must end in a file's name, because OPAL_AUTH_JWKS_STATIC_DIR is set",
            config->auth_jwks_url);
    text_append_format(&path, "%s%s", config->auth_jwks_static_dir, name);
    if (make_folders(config->auth_jwks_static_dir, err) < 0 || auth_open(config, 0, &auth, err) < 0 ||
        write_file(path.data, auth_jwks(auth), err) < 0)
        result = error_prefix(err, "OPAL_AUTH_JWKS_STATIC_DIR");
    auth_close(auth);
    text_free(&path);
    return result;
}
