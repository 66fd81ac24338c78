/* One log line per answered request, as uvicorn prints it. */
#ifndef OPALD_WORKER_HTTP_HTTP_ACCESS_LOG_H
#define OPALD_WORKER_HTTP_HTTP_ACCESS_LOG_H

#include "worker/http/http_request.h"

/* The path percent-encoded again, then the query as it came. Only at the level INFO. */
void http_access_log(const struct http_request *request, const char *peer, unsigned status);

#endif
