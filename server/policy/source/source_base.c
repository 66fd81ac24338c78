#include "server/policy/source/source_base.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/change.h"
#include "server/policy/source/git_command.h"

#define SOURCE_BASE_MAGIC  UINT32_C(0x73726362)
#define LOCK_RETRY_SECONDS 5.0
#define REMOVE_SECONDS     3600.0

/* ---- git ---- */

void source_base_git(struct source_base *base, const char *repository, const char *const *arguments,
    void (*done)(void *context, const struct job_result *result))
{
    const struct git_command command = {
        .repository = repository, .arguments = arguments, .done = done, .context = base->context};
    base->job = git_command_start(base->policy, &command);
}

/* ---- the folder ---- */

static void base_on_removed(void *context, const struct job_result *result)
{
    struct source_base *base = object_cast(struct source_base, SOURCE_BASE_MAGIC, context);
    (void)result; /* what rm could not remove shows when the next clone fails */
    clone_folder_free_list(base->leftovers);
    base->leftovers = NULL;
}

void source_base_remove_leftovers(struct source_base *base)
{
    size_t count = 0;
    if (base->leftovers)
        return; /* the next call removes what is left then */
    /* A damaged repository is served until there is another one. */
    base->leftovers =
        clone_folder_leftovers(base->folder, base->repository ? base->repository : base->policy->repository);
    while (base->leftovers[count])
        count++;
    const char **argv = memory_allocate(sizeof *argv * (count + 4));
    argv[0] = "rm";
    argv[1] = "-rf";
    argv[2] = "--";
    for (size_t i = 0; i < count; i++) {
        if (clone_folder_is_repository(base->leftovers[i]))
            log_write(LOG_WARNING, LOGGER_POLICY,
                "Found previous policy repo clone: %s, removing it to avoid conflicts.", base->leftovers[i]);
        argv[3 + i] = base->leftovers[i];
    }
    const struct job_settings settings = {.argv = argv,
        .stall_seconds = REMOVE_SECONDS,
        .output_max = GIT_OUTPUT_SMALL,
        .done = base_on_removed,
        .context = base};
    if (count > 0)
        job_start(base->policy, &settings);
    else
        base_on_removed(base, NULL);
    free(argv);
}

void source_base_forget(struct source_base *base)
{
    free(base->repository);
    base->repository = NULL;
}

void source_base_new_work(struct source_base *base)
{
    free(base->work);
    base->work = clone_folder_new_work(base->folder);
}

int source_base_settle(struct source_base *base, char *place, struct error *err)
{
    if (clone_folder_move(base->folder, base->work, place, err) < 0) {
        free(place);
        return -1;
    }
    free(base->work);
    base->work = NULL;
    free(base->repository);
    base->repository = place;
    return 0;
}

/* ---- what is served ---- */

void source_base_serve(struct source_base *base, const char *hash)
{
    if (hash != base->head)
        memcpy(base->head, hash, sizeof base->head);
    policy_set_head(base->policy, base->repository, base->head);
}

static void base_on_changed(void *context, bool ok)
{
    struct source_base *base = object_cast(struct source_base, SOURCE_BASE_MAGIC, context);
    base->change = NULL;
    if (ok)
        memcpy(base->head, base->fetched, sizeof base->head);
    base->steps->changed(base->context, ok);
}

void source_base_change(struct source_base *base, const char *branch)
{
    base->state = SOURCE_CHANGING;
    base->change = change_start(
        base->policy, base->repository, base->head, base->fetched, branch, base_on_changed, base);
}

void source_base_idle(struct source_base *base)
{
    base->state = SOURCE_IDLE;
    event_del(base->retry);
    if (!base->ready) {
        base->ready = true;
        base->hooks.ready(base->hooks.context);
    }
    if (base->again) {
        base->again = false;
        base->steps->fetch(base->context);
    }
}

void source_base_check(struct source_base *base)
{
    if (base->state == SOURCE_IDLE)
        base->steps->fetch(base->context);
    else
        base->again = true;
}

/* ---- the start, and another try ---- */

void source_base_retry_after(struct source_base *base, double seconds)
{
    struct timeval delay = clock_timeval(seconds);
    /* Never at once. */
    delay.tv_usec++;
    event_add(base->retry, &delay);
}

static void base_begin(struct source_base *base)
{
    struct error err = {0};
    if (clone_folder_lock(base->folder, &err) < 0) {
        log_write_limited(&base->limit_lock, LOG_ERROR, LOGGER_POLICY, "%s", err.text);
        source_base_retry_after(base, LOCK_RETRY_SECONDS);
        return;
    }
    base->repository = clone_folder_find(base->folder);
    if (base->repository && clone_folder_is_repository(base->repository)) {
        base->state = SOURCE_OPENING;
        clone_folder_unlock(base->repository);
        base->steps->open(base->context);
        return;
    }
    source_base_forget(base);
    base->steps->load(base->context);
}

static void base_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct source_base *base = object_cast(struct source_base, SOURCE_BASE_MAGIC, context);
    (void)descriptor;
    (void)what;
    if (base->state == SOURCE_LOCKING)
        base_begin(base);
    else if (!base->job && !base->change)
        base->steps->retry(base->context);
}

void source_base_open(struct source_base *base, struct policy *policy, const struct source_hooks *hooks,
    const struct source_steps *steps, void *context)
{
    base->magic = SOURCE_BASE_MAGIC;
    base->policy = policy;
    base->hooks = *hooks;
    base->steps = steps;
    base->context = context;
    base->folder = clone_folder_open(policy->config);
    base->retry = event_new(policy->base, -1, 0, base_on_retry, base);
    base->state = SOURCE_LOCKING;
    event_active(base->retry, EV_TIMEOUT, 0);
}

void source_base_close(struct source_base *base)
{
    if (base->job)
        job_abandon(base->job);
    if (base->change)
        change_abandon(base->change);
    event_free(base->retry);
    if (base->leftovers)
        clone_folder_free_list(base->leftovers);
    free(base->repository);
    free(base->work);
    clone_folder_close(base->folder);
    base->magic = 0;
}
