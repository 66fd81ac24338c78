/* One POST to a server, for the commands of the command line: the program waits for it. http and https (the
 * system's certificates, or those that SSL_CERT_FILE and SSL_CERT_DIR name). All addresses of a name are
 * tried. A proxy is used when the environment names one (http_proxy, https_proxy, no_proxy). */
#ifndef OPALD_SERVER_COMMAND_HTTP_CALL_H
#define OPALD_SERVER_COMMAND_HTTP_CALL_H

#include <stdbool.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct http_result {
    /* 0: no reply, see failure */
    int status;
    /* NUL-terminated */
    char *body;
    char failure[320];
};

/* Whether the URL can be used; if not, a line on standard error has said so, naming --server-url. */
MUST_CHECK bool http_call_check(const char *url);
/* Sends `body` as JSON to `url`; `token` is for `Authorization: bearer`, NULL for none. Returns 0 with a
 * result, which may be a failure (http_result_free), or -1 when the URL can't be used (see
 * http_call_check). */
MUST_CHECK int http_call_post(
    const char *url, const char *token, struct slice body, struct http_result *result);
void http_result_free(struct http_result *result);

#endif
