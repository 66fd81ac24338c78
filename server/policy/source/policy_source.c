#include "server/policy/source/policy_source.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/policy_source_internal.h"

#define POLICY_SOURCE_MAGIC UINT32_C(0x706f6c73)

struct policy_source {
    uint32_t magic;
    struct policy *policy;
    const struct source_kind *kind;
    /* The kind's own object. */
    void *source;
    struct event *poll;
    bool failed;
};

static void source_on_poll(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_source *source = object_cast(struct policy_source, POLICY_SOURCE_MAGIC, context);
    (void)descriptor;
    (void)what;
    source->kind->check(source->source);
}

/* ---- what a kind reports ---- */

/* Polling begins, with the first look at once. */
static void source_on_ready(void *context)
{
    struct policy_source *source = object_cast(struct policy_source, POLICY_SOURCE_MAGIC, context);
    int64_t seconds = source->policy->config->policy_repo_polling_interval;
    const struct timeval interval = {(time_t)seconds, 0};
    if (seconds <= 0) {
        log_write(LOG_INFO, LOGGER_POLICY, "Polling task is off");
        return;
    }
    log_write(LOG_INFO, LOGGER_POLICY, "Launching polling task, interval: %lld seconds", (long long)seconds);
    event_add(source->poll, &interval);
    event_active(source->poll, EV_TIMEOUT, 0);
}

static void source_on_gave_up(void *context)
{
    struct policy_source *source = object_cast(struct policy_source, POLICY_SOURCE_MAGIC, context);
    source->failed = true;
    event_base_loopbreak(source->policy->base);
}

/* ---- from outside ---- */

struct policy_source *policy_source_open(struct policy *policy)
{
    struct policy_source *source = memory_allocate(sizeof *source);
    bool api = strcmp(policy->config->policy_source_type, "API") == 0;
    log_write(LOG_INFO, LOGGER_POLICY, "listening on webhook topic: '%s'", POLICY_WEBHOOK_TOPIC);
    source->magic = POLICY_SOURCE_MAGIC;
    source->policy = policy;
    source->kind = api ? &api_source_kind : &git_source_kind;
    source->poll = event_new(policy->base, -1, EV_PERSIST, source_on_poll, source);
    const struct source_hooks hooks = {
        .ready = source_on_ready, .gave_up = source_on_gave_up, .context = source};
    source->source = source->kind->open(policy, &hooks);
    return source;
}

void policy_source_close(struct policy_source *source)
{
    if (!source)
        return;
    source->kind->close(source->source);
    event_free(source->poll);
    source->magic = 0;
    free(source);
}

void policy_source_check(struct policy_source *source)
{
    log_write(LOG_INFO, LOGGER_POLICY, "Webhook listener triggered (0)");
    source->kind->check(source->source);
}

bool policy_source_failed(const struct policy_source *source)
{
    return source->failed;
}
