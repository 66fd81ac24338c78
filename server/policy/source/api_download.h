/* Fetches bundle.tar.gz from a bundle server by libcurl. Waits: the fetcher's process (api_fetch.h). */
#ifndef OPALD_SERVER_POLICY_SOURCE_API_DOWNLOAD_H
#define OPALD_SERVER_POLICY_SOURCE_API_DOWNLOAD_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/text.h"
#include "shm/common/config.h"

/* Zero-initialise; api_download_free. */
struct api_download {
    bool unchanged; /* 304, or the version is the known one */
    /* "etag:" and the ETag as it came, or "sha256:" and the body's hash when the server sends none. */
    struct text version;
};

/* `known`: the version that is there already, or "". The body goes to `file` (a descriptor at its beginning). -1 with `err`. */
int api_download_run(struct api_download *download, const struct config *config, const char *known, int file,
    struct error *err);
void api_download_free(struct api_download *download);

#endif
