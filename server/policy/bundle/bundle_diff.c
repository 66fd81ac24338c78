#include "server/policy/bundle/bundle_diff.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/child.h"
#include "shm/common/memory.h"
#include "server/policy/bundle/child_environment.h"

#define DIFF_READ 65536
/* Two paths of 4096 bytes and the rest: git prints no more for one change. */
#define DIFF_BYTES_PER_CHANGE 8400

/* ---- parsing ---- */

/* The bytes up to `end`, which is taken as well. */
static int take_until(struct slice *rest, char end, struct slice *field)
{
    const char *at = rest->length ? memchr(rest->data, end, rest->length) : NULL;
    if (!at)
        return -1;
    *field = (struct slice){rest->data, (size_t)(at - rest->data)};
    *rest = (struct slice){at + 1, rest->length - field->length - 1};
    return 0;
}

static int take_mode(struct slice *rest, unsigned *mode)
{
    struct slice field;
    if (take_until(rest, ' ', &field) < 0 || field.length != 6)
        return -1;
    *mode = 0;
    for (size_t i = 0; i < field.length; i++) {
        if (field.data[i] < '0' || field.data[i] > '7')
            return -1;
        *mode = *mode * 8 + (unsigned)(field.data[i] - '0');
    }
    return 0;
}

static int take_hash(struct slice *rest, char *hash)
{
    struct slice field;
    if (take_until(rest, ' ', &field) < 0 || field.length != BUNDLE_HASH_LENGTH)
        return -1;
    for (size_t i = 0; i < field.length; i++)
        if (text_hex_value(field.data[i]) < 0)
            return -1;
    memcpy(hash, field.data, BUNDLE_HASH_LENGTH);
    hash[BUNDLE_HASH_LENGTH] = '\0';
    return 0;
}

/* ":100644 100644 HASH HASH R086\0old\0new\0" */
static int take_change(struct slice *rest, struct bundle_change *change)
{
    struct slice status;
    if (rest->data[0] != ':')
        return -1;
    *rest = (struct slice){rest->data + 1, rest->length - 1};
    if (take_mode(rest, &change->old_mode) < 0 || take_mode(rest, &change->new_mode) < 0 ||
        take_hash(rest, change->old_hash) < 0 || take_hash(rest, change->new_hash) < 0 ||
        take_until(rest, '\0', &status) < 0 || status.length == 0 || !memchr("ADMRT", status.data[0], 5))
        return -1;
    change->status = status.data[0];
    if (take_until(rest, '\0', &change->old_path) < 0 || change->old_path.length == 0)
        return -1;
    change->new_path = change->old_path;
    if (change->status == 'R' &&
        (take_until(rest, '\0', &change->new_path) < 0 || change->new_path.length == 0))
        return -1;
    return 0;
}

int bundle_diff_parse(struct bundle_diff *diff, size_t changes_max, struct error *err)
{
    struct slice rest = text_slice(&diff->output);
    diff->count = 0;
    while (rest.length > 0) {
        if (diff->count == changes_max)
            return error_set(err, E2BIG, "more than %zu files changed", changes_max);
        if (diff->count == diff->capacity) {
            diff->capacity = diff->capacity ? diff->capacity * 2 : 64;
            diff->changes = memory_resize(diff->changes, diff->capacity * sizeof *diff->changes);
        }
        if (take_change(&rest, &diff->changes[diff->count]) < 0)
            return error_set(err, EPROTO, "git diff-tree: its output can't be read");
        diff->count++;
    }
    return 0;
}

void bundle_diff_free(struct bundle_diff *diff)
{
    text_free(&diff->output);
    free(diff->changes);
    *diff = (struct bundle_diff){0};
}

/* ---- running git ---- */

/* git's settings elsewhere must not change what clients get. */
static pid_t start(
    const char *repository, const char *old_hash, const char *new_hash, int output, struct error *err)
{
    struct text directory = {0};
    text_append_format(&directory, "GIT_DIR=%s", repository);
    const char *const own[] = {directory.data, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_OPTIONAL_LOCKS=0", "GIT_NO_REPLACE_OBJECTS=1", "LC_ALL=C", NULL};
    const char **environment = child_make_environment(own, child_environment_keeps, NULL);
    const char *const argv[] = {"git", "diff-tree", "-r", "-M", "--raw", "-z", "--no-color", "--abbrev=40",
        "--full-index", old_hash, new_hash, "--", NULL};
    const struct child_descriptor descriptors[] = {
        {.from = CHILD_NOTHING, .to = STDIN_FILENO}, {.from = output, .to = STDOUT_FILENO}};
    const struct child_settings settings = {.program = "git",
        .argv = argv,
        .environment = environment,
        .descriptors = descriptors,
        .descriptor_count = sizeof descriptors / sizeof *descriptors,
        .dies_with_parent = true, /* a builder that is killed for its time limit takes git along */
        .own_group = true};       /* a terminal's ^C is for the server alone */
    pid_t pid = child_start(&settings, err);
    free(environment);
    text_free(&directory);
    return pid;
}

static int read_output(int input, struct text *output, size_t bytes_max, struct error *err)
{
    for (;;) {
        ssize_t length = read(input, text_reserve(output, DIFF_READ), DIFF_READ);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return error_set_errno(err, errno, "git diff-tree: cannot read its output");
        if (length == 0)
            return 0;
        output->length += (size_t)length;
        if (output->length > bytes_max)
            return error_set(err, E2BIG, "git diff-tree: more output than %zu bytes", bytes_max);
    }
}

static int wait_for(pid_t pid, struct error *err)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_set_errno(err, errno, "git diff-tree");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_STATUS_NO_START)
        return error_set(err, ENOENT, "the git program is not there");
    return error_set(
        err, EIO, "git diff-tree failed (status %d)", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

int bundle_diff_run(struct bundle_diff *diff, const char *repository, const char *old_hash,
    const char *new_hash, size_t changes_max, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "git diff-tree");
    pid_t pid = start(repository, old_hash, new_hash, ends[1], err);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    int result = read_output(ends[0], &diff->output, changes_max * DIFF_BYTES_PER_CHANGE, err);
    close(ends[0]);
    if (result < 0)
        kill(pid, SIGKILL);
    if (wait_for(pid, result < 0 ? NULL : err) < 0)
        result = -1;
    return result < 0 ? -1 : bundle_diff_parse(diff, changes_max, err);
}
