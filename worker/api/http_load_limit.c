#include "worker/api/http_load_limit.h"

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/load_limit.h"
#include "shm/worker_table.h"
#include "worker/api/api_services.h"

enum http_answer load_limit_get(struct http_exchange *exchange)
{
    static struct log_limiter limiter;
    const struct http_services *services = exchange->services;
    const struct rate_limits *limits = services->api->load_limits;
    const struct rate_limit *used_up = NULL;
    if (limits && limits->count)
        used_up = load_limit_take(services->segment, limits, clock_monotonic_ns() / CLOCK_MILLISECOND);
    if (!used_up) {
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("null"));
        return HTTP_ANSWERED;
    }
    counter_add(services->segment, services->slot, COUNTER_LOAD_LIMITED, 1);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: /loadlimit refused: %u per %u %s are used up",
        exchange->peer, used_up->amount, used_up->multiples, used_up->granularity);
    http_reply_detail(
        &exchange->reply, 429, "%u per %u %s", used_up->amount, used_up->multiples, used_up->granularity);
    return HTTP_ANSWERED;
}
