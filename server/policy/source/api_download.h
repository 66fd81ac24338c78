/* Fetches bundle.tar.gz from a bundle server by libcurl. It waits: the fetcher's process (api_fetch.h). */
#ifndef OPALD_SERVER_POLICY_SOURCE_API_DOWNLOAD_H
#define OPALD_SERVER_POLICY_SOURCE_API_DOWNLOAD_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* Zero-initialise; api_download_free. */
struct api_download {
    /* The server answered 304, or the version is the known one. */
    bool unchanged;
    /* "etag:" and the ETag as it came, or "sha256:" and the body's hash when the server sends no ETag. */
    struct text version;
};

/* `known`: the version that is there already, or "". The body goes to `file` (a descriptor at its beginning).
 * -1 with `err`. */
MUST_CHECK int api_download_run(struct api_download *download, const struct config *config, const char *known,
    int file, struct error *err);
void api_download_free(struct api_download *download);

#endif
