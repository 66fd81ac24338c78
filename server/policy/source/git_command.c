#include "server/policy/source/git_command.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/text.h"
#include "server/policy/source/policy_context.h"

#define ARGUMENTS_MAX 48
/* For work on the local disk: long, because a disk may be slow, and still an end. */
#define LOCAL_SECONDS 600.0

struct job *git_command_start(struct policy *policy, const struct git_command *command)
{
    /* What git says of the local repository must not depend on somebody's settings. */
    static const char *const local[] = {"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", NULL};
    struct text safe = {0};
    const char *argv[ARGUMENTS_MAX] = {"git",
        /* No program that a repository or somebody's configuration names runs here; nothing goes on in the background. */
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
    for (size_t i = 0; command->arguments[i] && count + 1 < ARGUMENTS_MAX; i++)
        argv[count++] = command->arguments[i];
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

/* `name: KIBIBYTES` in what git count-objects -v prints; 0: not there. */
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
