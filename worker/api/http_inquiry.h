/* The routes whose answers come from all processes of the host (worker/client/inquiry.h). */
#ifndef OPALD_WORKER_API_HTTP_INQUIRY_H
#define OPALD_WORKER_API_HTTP_INQUIRY_H

#include "worker/http/http_exchange.h"

/* GET /pubsub_client_info */
http_handler client_info_get;
/* GET /statistics */
http_handler statistics_get;
/* GET /stats */
http_handler stats_get;

#endif
