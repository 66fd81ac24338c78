#include "server/policy/source/change.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/link/publisher.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/policy_changes.h"
#include "server/policy/source/policy_context.h"

#define CHANGE_MAGIC UINT32_C(0x63686e67)
/* Of one change in the output of git diff-tree, with an average path. */
#define CHANGE_BYTES 256
/* An event's envelope and the room that the backbone's needs. */
#define ENVELOPE_BYTES 8192
/* Every topic carries the whole message, also over the backbone. Thousands of directories go in several
 * publications, or the bytes would grow with the square of their number. */
#define MESSAGE_BYTES_MAX (128 * 1024)
/* Until the next attempt when the queue before the uplink is full. */
#define AGAIN_MS 50

struct change {
    uint32_t magic;
    struct policy *policy;
    /* NULL: none runs. */
    struct job *job;
    struct policy_directories directories;
    /* How many of them. */
    size_t published;
    /* Pending while there is no room on the way to the master. */
    struct event *again;
    char *repository;
    char *branch;
    char old_hash[POLICY_HASH_LENGTH + 1];
    char new_hash[POLICY_HASH_LENGTH + 1];
    void (*done)(void *context, bool ok);
    void *context;
};

static void change_free(struct change *change)
{
    if (change->again)
        event_free(change->again);
    policy_directories_free(&change->directories);
    free(change->repository);
    free(change->branch);
    change->magic = 0;
    free(change);
}

static void change_end(struct change *change, bool ok)
{
    void (*done)(void *, bool) = change->done;
    void *context = change->context;
    change_free(change);
    done(context, ok);
}

static void change_git(struct change *change, const char *const *arguments, size_t output_max,
    void (*done)(void *context, const struct job_result *result))
{
    const struct git_command command = {.repository = change->repository,
        .arguments = arguments,
        .output_max = output_max,
        .done = done,
        .context = change};
    change->job = git_command_start(change->policy, &command);
}

/* ---- third: the branch ---- */

static void change_on_moved(void *context, const struct job_result *result)
{
    struct change *change = object_cast(struct change, CHANGE_MAGIC, context);
    change->job = NULL;
    if (!result->ok)
        log_write(LOG_ERROR, LOGGER_POLICY, "cannot move branch '%s' of the clone to %s: %.*s",
            change->branch, change->new_hash, (int)result->reason.length, result->reason.data);
    change_end(change, result->ok);
}

static void change_move_branch(struct change *change)
{
    struct text reference = {0};
    text_append_format(&reference, "refs/heads/%s", change->branch);
    const char *const arguments[] = {"update-ref", reference.data, change->new_hash, NULL};
    change_git(change, arguments, 0, change_on_moved);
    text_free(&reference);
}

/* ---- second: the event ---- */

static enum publish_outcome change_publish_part(
    struct change *change, size_t first, size_t end, struct slice data)
{
    struct policy *policy = change->policy;
    struct text *names = memory_allocate((end - first) * sizeof *names);
    struct slice *topics = memory_allocate((end - first) * sizeof *topics);
    for (size_t i = first; i < end; i++) {
        policy_changes_topic(change->directories.items[i], &names[i - first]);
        topics[i - first] = text_slice(&names[i - first]);
    }
    const struct publish_request request = {
        .topics = topics, .topic_count = (uint32_t)(end - first), .data = data, .server_side = true};
    enum publish_outcome outcome = publisher_publish(policy->publisher, &request, NULL);
    for (size_t i = 0; i < end - first; i++)
        text_free(&names[i]);
    free(names);
    free(topics);
    return outcome;
}

static size_t change_bytes_max(const struct policy *policy)
{
    uint64_t limit = event_limit_read(policy->segment);
    if (limit > MESSAGE_BYTES_MAX + ENVELOPE_BYTES)
        return MESSAGE_BYTES_MAX;
    return limit > 2 * ENVELOPE_BYTES ? (size_t)limit - ENVELOPE_BYTES : ENVELOPE_BYTES;
}

/* As many directories as one event may name. The backbone gets a message for each, and each names all: fewer
 * of them when that is too much. `*end` is the first one that is left. */
static enum publish_outcome change_publish_next(struct change *change, size_t *end)
{
    enum publish_outcome outcome = PUBLISH_TOO_WIDE;
    for (size_t most = change_bytes_max(change->policy); outcome == PUBLISH_TOO_WIDE && most > 0; most /= 2) {
        struct text data = {0};
        *end = policy_changes_message(
            &change->directories, change->published, change->old_hash, change->new_hash, most, &data);
        outcome = change_publish_part(change, change->published, *end, text_slice(&data));
        text_free(&data);
    }
    return outcome;
}

static void change_publish_rest(struct change *change)
{
    const struct timeval soon = {0, AGAIN_MS * 1000};
    while (change->published < change->directories.count) {
        size_t end = 0;
        enum publish_outcome outcome = change_publish_next(change, &end);
        if (outcome == PUBLISH_BUSY) {
            event_add(change->again, &soon);
            return;
        }
        if (outcome == PUBLISH_ORDERED)
            policy_count(change->policy, COUNTER_POLICY_CHANGES, 1);
        else
            log_write(LOG_ERROR, LOGGER_POLICY,
                "the policy update '%s' -> '%s' can't be published: larger than an event may be",
                change->old_hash, change->new_hash);
        change->published = end;
    }
    change_move_branch(change);
}

static void change_on_again(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    change_publish_rest(object_cast(struct change, CHANGE_MAGIC, context));
}

static void change_publish(struct change *change)
{
    /* First, so that a client that gets the event and asks for the bundle gets this commit. */
    policy_set_head(change->policy, change->repository, change->new_hash);
    if (change->directories.count == 0)
        log_write(LOG_WARNING, LOGGER_POLICY,
            "new commits detected but no tracked files were affected: '%s' -> '%s'", change->old_hash,
            change->new_hash);
    change->again = event_new(change->policy->base, -1, 0, change_on_again, change);
    change_publish_rest(change);
}

/* ---- first: what changed ---- */

static void change_on_listed(void *context, const struct job_result *result)
{
    struct change *change = object_cast(struct change, CHANGE_MAGIC, context);
    const struct bundle_rules rules = bundle_rules_of(change->policy->config);
    change->job = NULL;
    if (!result->ok) {
        log_write(LOG_ERROR, LOGGER_POLICY, "cannot read commit %s: %.*s", change->new_hash,
            (int)result->reason.length, result->reason.data);
        change_end(change, false);
        return;
    }
    policy_directories_of_listing(&change->directories, result->output, &rules);
    change_publish(change);
}

/* Without the difference (the old commit is not there any more, or too much changed) everything counts as
 * changed. */
static void change_list(struct change *change, struct slice why)
{
    const char *const arguments[] = {"ls-tree", "-r", "-z", "--name-only", change->new_hash, NULL};
    size_t files = change->policy->config->bundle_files_max;
    log_write(LOG_WARNING, LOGGER_POLICY,
        "cannot tell what changed between '%s' and '%s' (%.*s): all directories count as changed",
        change->old_hash, change->new_hash, (int)why.length, why.data);
    change_git(change, arguments, files * CHANGE_BYTES, change_on_listed);
}

static void change_on_diff(void *context, const struct job_result *result)
{
    struct change *change = object_cast(struct change, CHANGE_MAGIC, context);
    struct bundle_diff diff = {0};
    struct error err = {0};
    const struct bundle_rules rules = bundle_rules_of(change->policy->config);
    change->job = NULL;
    if (!result->ok) {
        change_list(change, result->reason);
        return;
    }
    text_append_slice(&diff.output, result->output);
    if (bundle_diff_parse(&diff, change->policy->config->bundle_files_max, &err) < 0) {
        change_list(change, slice_from_string(err.text));
    } else {
        policy_directories_of_diff(&change->directories, &diff, &rules);
        change_publish(change);
    }
    bundle_diff_free(&diff);
}

struct change *change_start(struct policy *policy, const char *repository, const char *old_hash,
    const char *new_hash, const char *branch, void (*done)(void *context, bool ok), void *context)
{
    struct change *change = memory_allocate(sizeof *change);
    /* As the bundle builder asks (bundle_diff.c), independent of git's settings for diffs. */
    const char *const arguments[] = {"diff-tree", "-r", "-M", "--raw", "-z", "--no-color", "--abbrev=40",
        "--full-index", change->old_hash, change->new_hash, "--", NULL};
    change->magic = CHANGE_MAGIC;
    change->policy = policy;
    change->repository = memory_copy_string(repository);
    change->branch = memory_copy_string(branch);
    memcpy(change->old_hash, old_hash, strnlen(old_hash, POLICY_HASH_LENGTH));
    memcpy(change->new_hash, new_hash, strnlen(new_hash, POLICY_HASH_LENGTH));
    change->done = done;
    change->context = context;
    change_git(change, arguments, policy->config->bundle_files_max * CHANGE_BYTES, change_on_diff);
    return change;
}

void change_abandon(struct change *change)
{
    if (change->job)
        job_abandon(change->job);
    change_free(change);
}
