#include "server/policy/source/policy_source.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/policy/source/policy_source_internal.h"

struct policy_source {
    struct policy *policy;
    const struct source_kind *kind;
    void *source;
    struct event *poll;
    bool failed;
};

static void source_on_poll(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_source *source = context;
    (void)descriptor;
    (void)what;
    source->kind->check(source->source);
}

struct policy_source *policy_source_open(struct policy *policy)
{
    struct policy_source *source = memory_allocate(sizeof *source);
    bool api = strcmp(policy->config->policy_source_type, "API") == 0;
    log_write(LOG_INFO, LOGGER_POLICY, "listening on webhook topic: '%s'", POLICY_WEBHOOK_TOPIC);
    policy->source = source;
    source->policy = policy;
    source->kind = api ? &api_source_kind : &git_source_kind;
    source->poll = event_new(policy->base, -1, EV_PERSIST, source_on_poll, source);
    source->source = source->kind->open(policy);
    return source;
}

void policy_source_close(struct policy_source *source)
{
    if (!source)
        return;
    source->kind->close(source->source);
    event_free(source->poll);
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

void policy_source_ready(struct policy *policy)
{
    struct policy_source *source = policy->source;
    int64_t seconds = policy->config->policy_repo_polling_interval;
    const struct timeval interval = {(time_t)seconds, 0};
    if (seconds <= 0) {
        log_write(LOG_INFO, LOGGER_POLICY, "Polling task is off");
        return;
    }
    log_write(LOG_INFO, LOGGER_POLICY, "Launching polling task, interval: %lld seconds", (long long)seconds);
    event_add(source->poll, &interval);
    event_active(source->poll, EV_TIMEOUT, 0); /* and once now */
}

void policy_source_give_up(struct policy *policy)
{
    policy->source->failed = true;
    event_base_loopbreak(policy->base);
}

double policy_source_backoff(unsigned failures, double first, double most)
{
    double seconds = first;
    for (unsigned i = 1; i < failures && seconds < most; i++)
        seconds *= 2;
    if (seconds > most)
        seconds = most;
    uint32_t random;
    evutil_secure_rng_get_bytes(&random, sizeof random);
    return seconds * (0.5 + 0.5 * (double)random / (double)UINT32_MAX);
}
