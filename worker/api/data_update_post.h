/* POST /data/config: publishes a data update (worker/api/data_update.h). */
#ifndef OPALD_WORKER_API_DATA_UPDATE_POST_H
#define OPALD_WORKER_API_DATA_UPDATE_POST_H

#include "worker/http/http_exchange.h"

http_handler data_update_post;

#endif
