/* GET /loadlimit: clients ask it at their start until it says yes, so that not all of them fetch at once. */
#ifndef OPALD_WORKER_API_HTTP_LOAD_LIMIT_H
#define OPALD_WORKER_API_HTTP_LOAD_LIMIT_H

#include "worker/http/http_exchange.h"

http_handler load_limit_get;

#endif
