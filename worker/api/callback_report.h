/*
 * POST /data/callback_report: a client reports on an update. The report is only logged, without
 * configurations and data.
 */
#ifndef OPALD_WORKER_API_CALLBACK_REPORT_H
#define OPALD_WORKER_API_CALLBACK_REPORT_H

#include "worker/http/http_exchange.h"

http_handler callback_report_post;

#endif
