#include "server/policy/bundle_service.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/link/bundle_link.h"
#include "server/policy/bundle/bundle_child.h"
#include "server/policy/bundle/bundle_store.h"

#define BUNDLE_SERVICE_MAGIC UINT32_C(0x62736576)

struct bundle_service {
    uint32_t magic;
    struct policy *policy;
    struct policy_server *server;
    struct bundle_store *store;
};

static void service_on_answered(void *context, struct bundle_asker asker, const struct bundle_answer *answer)
{
    const struct bundle_service *service = object_cast(struct bundle_service, BUNDLE_SERVICE_MAGIC, context);
    struct bundle_link_answer head = {
        .status = answer->status, .json_bytes = answer->json_bytes, .gzip_bytes = answer->gzip_bytes};
    struct text body = {0};
    if (answer->no_base)
        head.flags |= BUNDLE_LINK_NO_BASE;
    strncpy(head.tag, answer->tag, sizeof head.tag - 1);
    strncpy(head.head, answer->head, sizeof head.head - 1);
    text_append(&body, &head, sizeof head);
    /* A detail may name a long path; what does not fit into a message is cut. */
    size_t room = POLICY_BODY_MAX - sizeof head;
    text_append(&body, answer->detail.data, answer->detail.length < room ? answer->detail.length : room);
    policy_server_answer(service->server, asker.peer, asker.id, text_slice(&body), answer->descriptor);
    text_free(&body);
}

static void service_on_count(void *context, enum bundle_count what, uint64_t amount)
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
    const struct bundle_service *service = object_cast(struct bundle_service, BUNDLE_SERVICE_MAGIC, context);
    policy_count(service->policy, counters[what], amount);
}

struct bundle_service *bundle_service_open(struct policy *policy, struct policy_server *server)
{
    const struct config *config = policy->config;
    struct bundle_service *service = memory_allocate(sizeof *service);
    service->magic = BUNDLE_SERVICE_MAGIC;
    service->policy = policy;
    service->server = server;
    service->store = bundle_store_open(&(struct bundle_store_settings){
        .base = policy->base,
        .cache_bytes = config->bundle_cache_bytes,
        .waiting_max = config->bundle_waiting_max,
        .build_seconds = config->bundle_build_seconds,
        .start = bundle_child_start,
        .answered = service_on_answered,
        .count = service_on_count,
        .context = service,
    });
    return service;
}

void bundle_service_close(struct bundle_service *service)
{
    bundle_store_close(service->store);
    service->magic = 0;
    free(service);
}

void bundle_service_set_head(struct bundle_service *service, const char *repository, const char *hash)
{
    bundle_store_set_head(service->store, repository, hash);
}

/* FNV-1a: two clients that share a hash share their turn. */
static uint64_t hash_client(struct slice client)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < client.length; i++)
        hash = (hash ^ (unsigned char)client.data[i]) * UINT64_C(0x100000001b3);
    return hash;
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
    if (count > 1)
        bundle_store_ask(service->store, fields + 2, count - 2, fields[1],
            (struct bundle_asker){.peer = peer, .id = id, .client = hash_client(fields[0])});
    free(fields);
}
