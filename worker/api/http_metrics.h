/* GET /metrics: the metrics of the whole host in Prometheus' text format. */
#ifndef OPALD_WORKER_API_HTTP_METRICS_H
#define OPALD_WORKER_API_HTTP_METRICS_H

#include "worker/http/http_exchange.h"

http_handler metrics_get;

#endif
