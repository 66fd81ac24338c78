#include "worker/api/http_inquiry.h"

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "worker/api/api_services.h"

#define STATISTICS_OFF \
    "{\"detail\":{\"error\":\"This OPAL server does not have statistics turned on. To turn on, set this " \
    "config " \
    "var: OPAL_STATISTICS_ENABLED=true\"}}"

static enum http_answer ask(struct http_exchange *exchange, enum inquiry_question question)
{
    const struct api_services *services = exchange->services->api;
    if (!services->ask) {
        http_reply_detail(&exchange->reply, 503, "this process cannot ask the others");
        return HTTP_ANSWERED;
    }
    services->ask(services->inquiry, exchange, question);
    return HTTP_PENDING;
}

static enum http_answer ask_statistics(
    struct http_exchange *exchange, enum inquiry_question question, const char *line)
{
    if (!exchange->services->config->statistics.enabled) {
        http_reply_set(&exchange->reply, 501, HTTP_JSON, SLICE_LITERAL(STATISTICS_OFF));
        return HTTP_ANSWERED;
    }
    log_write(LOG_INFO, LOGGER_STATISTICS, "%s", line);
    return ask(exchange, question);
}

enum http_answer client_info_get(struct http_exchange *exchange)
{
    return ask(exchange, INQUIRY_CLIENTS);
}

enum http_answer statistics_get(struct http_exchange *exchange)
{
    return ask_statistics(exchange, INQUIRY_STATISTICS, "Serving statistics");
}

enum http_answer stats_get(struct http_exchange *exchange)
{
    return ask_statistics(exchange, INQUIRY_STATS, "Serving brief statistics info");
}
