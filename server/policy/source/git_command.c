#include "server/policy/source/git_command.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/text.h"
#include "server/policy/source/policy_context.h"

#define ARGUMENTS_MAX 48
/* For work on the local disk, which may be slow. */
#define LOCAL_SECONDS 600.0

struct job *git_command_start(struct policy *policy, const struct git_command *command)
{
    /* What git reports of the local repository must not depend on the user's settings. */
    static const char *const local[] = {"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", NULL};
    struct text safe = {0};
    const char *argv[ARGUMENTS_MAX] = {"git",
        /* No program that a repository or a configuration names runs here, and nothing runs in the
         * background. */
        "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c",
        "maintenance.auto=false", "-c", "gc.autoDetach=false", "-c", "advice.detachedHead=false", "-c",
        "core.quotePath=false", "-c", "commit.gpgSign=false"};
    size_t count = 0;
    while (argv[count])
        count++;
    if (command->repository) {
        /* The operator chose the folder; that a volume shows another owner (Kubernetes) must not stop git. */
        text_append_format(&safe, "safe.directory=%s", command->repository);
        argv[count++] = "-c";
        argv[count++] = safe.data;
        argv[count++] = "-C";
        argv[count++] = command->repository;
    }
    for (size_t i = 0; command->arguments[i]; i++) {
        if (count + 1 == ARGUMENTS_MAX)
            abort(); /* ARGUMENTS_MAX is too small */
        argv[count++] = command->arguments[i];
    }
    const struct job_settings settings = {.argv = argv,
        .environment = command->environment || command->remote ? command->environment : local,
        .stall_seconds = command->remote ? policy->config->policy_repo_stall_seconds : LOCAL_SECONDS,
        .output_max = command->output_max ? command->output_max : GIT_OUTPUT_SMALL,
        .file_bytes_max = command->file_bytes_max,
        .done = command->done,
        .context = command->context};
    struct job *job = job_start(policy, &settings);
    text_free(&safe);
    return job;
}

/* ---- what git prints ---- */

bool git_command_take_hash(struct slice output, char *hash)
{
    if (output.length < POLICY_HASH_LENGTH)
        return false;
    for (size_t i = 0; i < POLICY_HASH_LENGTH; i++)
        if (text_hex_value(output.data[i]) < 0)
            return false;
    memcpy(hash, output.data, POLICY_HASH_LENGTH);
    hash[POLICY_HASH_LENGTH] = '\0';
    return true;
}

/* The number behind `name` in the output of git count-objects -v, in bytes; 0: not there. */
static uint64_t counted_bytes(struct slice output, const char *name)
{
    const char *at = output.length ? memmem(output.data, output.length, name, strlen(name)) : NULL;
    uint64_t kibibytes = 0;
    for (at = at ? at + strlen(name) : NULL;
         at && at < output.data + output.length && *at >= '0' && *at <= '9'; at++)
        kibibytes = kibibytes * 10 + (uint64_t)(*at - '0');
    return kibibytes * 1024;
}

uint64_t git_command_counted_bytes(struct slice output)
{
    return counted_bytes(output, "\nsize: ") + counted_bytes(output, "\nsize-pack: ");
}

static bool holds(struct slice text, const char *words)
{
    return text.length > 0 && memmem(text.data, text.length, words, strlen(words));
}

bool git_command_lacks_branch(struct slice reason)
{
    /* of git clone, and of git fetch */
    return (holds(reason, "Remote branch ") && holds(reason, " not found in upstream")) ||
           holds(reason, "couldn't find remote ref refs/heads/");
}

struct slice git_command_default_branch(struct slice output)
{
    static const char before[] = "ref: refs/heads/";
    static const char behind[] = "\tHEAD\n";
    const size_t length = sizeof before - 1;
    if (output.length <= length || memcmp(output.data, before, length) != 0)
        return SLICE_LITERAL("");
    const char *begin = output.data + length;
    const char *end = memmem(begin, output.length - length, behind, sizeof behind - 1);
    return end ? (struct slice){begin, (size_t)(end - begin)} : SLICE_LITERAL("");
}
