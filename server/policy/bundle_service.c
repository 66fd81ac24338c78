#include "server/policy/bundle_service.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_child.h"
#include "shm/link/bundle_link.h"
#include "server/policy/bundle/bundle_store.h"

struct bundle_service {
    struct policy *policy;
    struct bundle_store *store;
};

static void on_answered(void *context, struct bundle_asker asker, const struct bundle_answer *answer)
{
    const struct bundle_service *service = context;
    struct bundle_link_answer head = {
        .status = answer->status, .json_bytes = answer->json_bytes, .gzip_bytes = answer->gzip_bytes};
    struct text body = {0};
    strncpy(head.tag, answer->tag, sizeof head.tag - 1);
    strncpy(head.head, answer->head, sizeof head.head - 1);
    text_append(&body, &head, sizeof head);
    /* a detail may name a long path; what does not fit a message is cut */
    size_t room = POLICY_BODY_MAX - sizeof head;
    text_append(&body, answer->detail.data, answer->detail.length < room ? answer->detail.length : room);
    policy_server_answer(
        service->policy->server, asker.peer, asker.id, text_slice(&body), answer->descriptor);
    text_free(&body);
}

static void on_count(void *context, enum bundle_count what, uint64_t amount)
{
    static const enum counter counters[] = {
        [BUNDLE_COUNT_BUILT] = COUNTER_BUNDLES_BUILT,
        [BUNDLE_COUNT_SHARED] = COUNTER_BUNDLES_SHARED,
        [BUNDLE_COUNT_DROPPED] = COUNTER_BUNDLES_DROPPED,
        [BUNDLE_COUNT_REFUSED] = COUNTER_BUNDLES_REFUSED,
        [BUNDLE_COUNT_FAILED] = COUNTER_BUNDLES_FAILED,
        [BUNDLE_COUNT_REPAIRED_FILES] = COUNTER_BUNDLE_FILES_REPAIRED,
        [BUNDLE_COUNT_BUILDERS_DIED] = COUNTER_BUNDLE_BUILDERS_DIED,
    };
    const struct bundle_service *service = context;
    policy_count(service->policy, counters[what], amount);
}

struct bundle_service *bundle_service_open(struct policy *policy)
{
    const struct config *config = policy->config;
    struct bundle_service *service = memory_allocate(sizeof *service);
    service->policy = policy;
    service->store = bundle_store_open(&(struct bundle_store_settings){
        .base = policy->base,
        .cache_bytes = (uint64_t)config->bundle_cache_bytes,
        .waiting_max = (size_t)config->bundle_waiting_max,
        .build_seconds = config->bundle_build_seconds,
        .start = bundle_child_start,
        .answered = on_answered,
        .count = on_count,
        .context = service,
    });
    return service;
}

void bundle_service_close(struct bundle_service *service)
{
    bundle_store_close(service->store);
    free(service);
}

void bundle_service_set_head(struct bundle_service *service, const char *repository, const char *hash)
{
    bundle_store_set_head(service->store, repository, hash);
}

void bundle_service_request(struct bundle_service *service, policy_peer peer, uint64_t id, struct slice body)
{
    size_t count = 0, capacity = 0;
    struct slice *fields = NULL;
    while (body.length > 0) {
        const char *end = memchr(body.data, '\0', body.length);
        if (!end)
            break; /* no worker sends that */
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            fields = memory_resize(fields, capacity * sizeof *fields);
        }
        fields[count++] = (struct slice){body.data, (size_t)(end - body.data)};
        body = (struct slice){end + 1, body.length - (size_t)(end + 1 - body.data)};
    }
    if (count > 0)
        bundle_store_ask(service->store, fields + 1, count - 1, fields[0], (struct bundle_asker){peer, id});
    free(fields);
}
