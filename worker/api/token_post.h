/* POST /token: signs a token for a caller that has the master token. */
#ifndef OPALD_WORKER_API_TOKEN_POST_H
#define OPALD_WORKER_API_TOKEN_POST_H

#include "worker/http/http_exchange.h"

http_handler token_post;

#endif
