#include "server/policy/source/clone_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/text.h"

#define DEFAULT     "regoclone"
#define WORK_PREFIX ".opald-work-"
#define OPEN_MAX    16

struct clone_folder {
    char *base;
    const char *prefix;
    bool fixed;
    /* -1: not taken. */
    int lock;
};

char *clone_folder_expand(const char *path)
{
    struct text out = {0};
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
        const char *home = getenv("HOME");
        const struct passwd *user = home ? NULL : getpwuid(geteuid());
        if (user)
            home = user->pw_dir;
        text_append_string(&out, home ? home : "");
        text_append_string(&out, path + 1);
    } else {
        text_append_string(&out, path);
    }
    if (!out.data)
        text_append_string(&out, "");
    return out.data;
}

static char *path_join(const char *directory, const char *name)
{
    struct text out = {0};
    text_append_format(&out, "%s/%s", directory, name);
    return out.data;
}

static char *name_random(const char *prefix, const char *between)
{
    char hex[IDENTITY_HEX + 1] = {0};
    struct identity identity = identity_make();
    struct text out = {0};
    identity_format(&identity, hex);
    text_append_format(&out, "%s%s%s", prefix, between, hex);
    return out.data;
}

struct clone_folder *clone_folder_open(const struct config *config)
{
    struct clone_folder *folder = memory_allocate(sizeof *folder);
    char *path =
        clone_folder_expand(config->policy_repo_clone_path ? config->policy_repo_clone_path : DEFAULT);
    folder->lock = -1;
    folder->prefix = config->policy_repo_clone_folder_prefix;
    folder->fixed = config->policy_repo_reuse_clone_path;
    if (path[0] == '/') {
        folder->base = path;
    } else {
        /* git and the bundle builder have other working directories. */
        char *here = getcwd(NULL, 0);
        folder->base = path_join(here ? here : "", path);
        free(here);
        free(path);
    }
    return folder;
}

void clone_folder_close(struct clone_folder *folder)
{
    if (folder->lock >= 0)
        close(folder->lock);
    free(folder->base);
    free(folder);
}

static int make_folders(const char *path)
{
    char *copy = memory_copy_string(path);
    int result = 0;
    for (char *at = copy + 1; result == 0; at++) {
        bool end = *at == '\0';
        if (!end && *at != '/')
            continue;
        *at = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EISDIR)
            result = -1;
        if (end)
            break;
        *at = '/';
    }
    free(copy);
    return result;
}

int clone_folder_lock(struct clone_folder *folder, struct error *err)
{
    struct text path = {0};
    if (folder->lock >= 0)
        return 0;
    if (make_folders(folder->base) < 0)
        return error_set_errno(err, errno, "cannot make the folder of the clone, %s", folder->base);
    text_append_format(&path, "%s/.%s.lock", folder->base, folder->prefix);
    int lock = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        error_set_errno(err, errno, "cannot make %s", path.data);
    text_free(&path);
    if (lock < 0)
        return -1;
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        int failure = errno;
        close(lock);
        return failure == EWOULDBLOCK
                   ? error_set(err, EWOULDBLOCK,
                         "another server uses the clone in %s: give each its own OPAL_POLICY_REPO_CLONE_PATH",
                         folder->base)
                   : error_set_errno(err, failure, "cannot lock %s", folder->base);
    }
    folder->lock = lock;
    return 0;
}

const char *clone_folder_base(const struct clone_folder *folder)
{
    return folder->base;
}

bool clone_folder_is_repository(const char *place)
{
    struct stat status;
    char *head = path_join(place, ".git/HEAD");
    bool there = stat(head, &status) == 0;
    free(head);
    return there;
}

/* `<prefix>-*`, and nothing that was begun by hand under a similar name. */
static bool name_is_clone(const struct clone_folder *folder, const char *name)
{
    size_t length = strlen(folder->prefix);
    return strncmp(name, folder->prefix, length) == 0 && name[length] == '-';
}

/* Names in the base that `wanted` takes; NULL at the end. */
static char **list_names(
    const struct clone_folder *folder, bool (*wanted)(const struct clone_folder *folder, const char *name))
{
    char **list = memory_allocate(sizeof *list);
    size_t count = 0;
    DIR *directory = opendir(folder->base);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        if (!wanted(folder, entry->d_name))
            continue;
        list = memory_resize(list, sizeof *list * (count + 2));
        list[count++] = path_join(folder->base, entry->d_name);
        list[count] = NULL;
    }
    if (directory)
        closedir(directory);
    return list;
}

void clone_folder_free_list(char **list)
{
    for (char **at = list; *at; at++)
        free(*at);
    free(list);
}

char *clone_folder_find(const struct clone_folder *folder)
{
    struct stat status;
    if (folder->fixed) {
        char *place = path_join(folder->base, folder->prefix);
        if (stat(place, &status) == 0)
            return place;
        free(place);
        return NULL;
    }
    char **list = list_names(folder, name_is_clone);
    char *only = list[0] && !list[1] ? memory_copy_string(list[0]) : NULL;
    clone_folder_free_list(list);
    return only;
}

char *clone_folder_new_place(const struct clone_folder *folder)
{
    if (folder->fixed)
        return path_join(folder->base, folder->prefix);
    char *name = name_random(folder->prefix, "-");
    char *place = path_join(folder->base, name);
    free(name);
    return place;
}

char *clone_folder_new_work(const struct clone_folder *folder)
{
    char *name = name_random(WORK_PREFIX, folder->prefix);
    char *work = path_join(folder->base, name);
    free(name);
    return work;
}

static bool name_is_leftover(const struct clone_folder *folder, const char *name)
{
    size_t length = strlen(WORK_PREFIX), prefix = strlen(folder->prefix);
    /* The length excludes the folders of a server with a longer prefix. */
    if (strncmp(name, WORK_PREFIX, length) == 0)
        return strlen(name) == length + prefix + IDENTITY_HEX &&
               strncmp(name + length, folder->prefix, prefix) == 0;
    return !folder->fixed && name_is_clone(folder, name);
}

char **clone_folder_leftovers(const struct clone_folder *folder, const char *keep)
{
    char **list = list_names(folder, name_is_leftover);
    size_t kept = 0;
    for (size_t i = 0; list[i]; i++) {
        if (keep && strcmp(list[i], keep) == 0)
            free(list[i]);
        else
            list[kept++] = list[i];
    }
    list[kept] = NULL;
    return list;
}

int clone_folder_move(
    const struct clone_folder *folder, const char *work, const char *place, struct error *err)
{
    /* What is in the way goes to `work`, and is a leftover then. */
    bool occupied = rename(work, place) < 0;
    if (occupied && ((errno != ENOTEMPTY && errno != EEXIST) ||
                        renameat2(AT_FDCWD, work, AT_FDCWD, place, RENAME_EXCHANGE) < 0))
        return error_set_errno(err, errno, "cannot move the clone to %s", place);
    int base = open(folder->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base >= 0) {
        fsync(base);
        close(base);
    }
    return 0;
}

static int remove_lock(const char *path, const struct stat *status, int type, struct FTW *where)
{
    size_t length = strlen(path);
    (void)status;
    if (type == FTW_D && strcmp(path + where->base, "objects") == 0 && where->level == 1)
        return FTW_SKIP_SUBTREE;
    if (type == FTW_F && length > 5 && strcmp(path + length - 5, ".lock") == 0 && unlink(path) == 0)
        log_write(LOG_INFO, LOGGER_POLICY, "removed %s, which a git that was killed has left behind", path);
    return FTW_CONTINUE;
}

/* tmp_pack_... of a fetch, .tmp-... of a repack, tmp_object_... of libgit2 */
static void remove_unfinished(const char *git, const char *within)
{
    char *path = path_join(git, within);
    DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if ((strncmp(entry->d_name, "tmp_", 4) == 0 || strncmp(entry->d_name, ".tmp-", 5) == 0) &&
            unlinkat(dirfd(directory), entry->d_name, 0) == 0)
            log_write(
                LOG_INFO, LOGGER_POLICY, "removed %s/%s, which was never finished", path, entry->d_name);
    if (directory)
        closedir(directory);
    free(path);
}

void clone_folder_unlock(const char *repository)
{
    char *git = path_join(repository, ".git");
    nftw(git, remove_lock, OPEN_MAX, FTW_PHYS | FTW_ACTIONRETVAL);
    remove_unfinished(git, "objects");
    remove_unfinished(git, "objects/pack");
    free(git);
}
