/* One POST to a server, for the commands of the command line: the program waits for it. http and https (the system's certificates). */
#ifndef OPALD_SERVER_COMMAND_HTTP_CALL_H
#define OPALD_SERVER_COMMAND_HTTP_CALL_H

#include <stdbool.h>
#include "shm/common/text.h"

struct http_result {
    int status; /* 0: no reply, see failure */
    char *body; /* NUL-terminated, http_result_free */
    char failure[160];
};

/* Whether the URL can be used; if not, a line on standard error has said so, naming --server-url. */
bool http_call_check(const char *url);
/*
 * Sends `body` as JSON to `url`; `token` is for `Authorization: bearer`, NULL for none. 0 with a result (which may be a failure), -1 when
 * the URL can't be used (see http_call_check).
 */
int http_call_post(const char *url, const char *token, struct slice body, struct http_result *result);
void http_result_free(struct http_result *result);

#endif
