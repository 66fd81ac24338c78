#include "worker/http/http_access_log.h"

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/percent.h"

void http_access_log(const struct http_request *request, const char *peer, unsigned status)
{
    struct text target = {0};
    if (!log_enabled(LOG_INFO))
        return;
    percent_encode(request->path, "/", &target);
    if (request->query.length) {
        text_append_char(&target, '?');
        text_append_slice(&target, request->query);
    }
    log_write(LOG_INFO, LOGGER_HTTP, "%s - \"%.*s %s HTTP/1.%u\" %u", peer, (int)request->method.length,
        request->method.data, target.data ? target.data : "", request->version_minor, status);
    text_free(&target);
}
