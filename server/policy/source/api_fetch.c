#include "server/policy/source/api_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/policy/source/api_download.h"
#include "server/policy/source/api_unpack.h"

#define HASH_BYTES 41

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

/* A file without a name, which is gone with this process; where the file system can't do that, one that is
 * removed at once. */
static int open_unnamed(const char *folder)
{
    char path[4096];
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return file;
    snprintf(path, sizeof path, "%s/.opald-bundle-XXXXXX", folder);
    file = mkostemp(path, O_CLOEXEC);
    if (file >= 0)
        unlink(path);
    return file;
}

static int unpack(const struct config *config, int file, const char *version, char *hash, struct error *err)
{
    struct text message = {0};
    const char *plain = strchr(version, ':');
    bool first = variable(API_FETCH_VERSION)[0] == '\0';
    text_append_format(&message, first ? "Init" : "new version %s", plain ? plain + 1 : version);
    const struct api_unpack settings = {.archive = file,
        .repository = variable(API_FETCH_REPOSITORY),
        .pattern = config->policy_bundle_git_add_pattern,
        .message = message.data,
        .bytes_max = config->policy_bundle_unpacked_max_bytes,
        .members_max = config->policy_bundle_max_files};
    int result = lseek(file, 0, SEEK_SET) < 0 ? error_set_errno(err, errno, "cannot read the bundle")
                                              : api_unpack_run(&settings, hash, err);
    text_free(&message);
    return result;
}

int api_fetch_main(const struct config *config)
{
    struct error err = {0};
    struct api_download download = {0};
    char hash[HASH_BYTES] = "";
    int file = open_unnamed(variable(API_FETCH_FOLDER));
    int result = -1;
    if (file < 0)
        error_set_errno(&err, errno, "cannot make a file for the bundle");
    else
        result = api_download_run(&download, config, variable(API_FETCH_VERSION), file, &err);
    if (result == 0 && !download.unchanged)
        result = unpack(config, file, download.version.data, hash, &err);
    if (result == 0)
        printf("%s\n%s\n%s\n", download.unchanged ? "unchanged" : "new", download.version.data, hash);
    else
        fprintf(stderr, "opald: %s\n", err.text);
    if (fflush(stdout) != 0)
        result = -1;
    api_download_free(&download);
    if (file >= 0)
        close(file);
    return result == 0 ? 0 : 1;
}
