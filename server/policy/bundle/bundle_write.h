/* Writes the JSON of a bundle, the reference's to the byte. Reads the files from the repository. Bundle
 * builder's process. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_WRITE_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_WRITE_H

#include "shm/common/error.h"
#include "shm/common/object.h"
#include "server/policy/bundle/bundle_manifest.h"
#include "server/policy/bundle/bundle_modules.h"
#include "server/policy/bundle/bundle_output.h"

struct bundle_content {
    git_repository *repository;
    const struct bundle_manifest *manifest;
    /* The commit, 40 digits. */
    const char *hash;
    /* NULL: a full bundle; else the commit that `modules` and `deleted` are the difference from. */
    const char *old_hash;
    const struct bundle_modules *modules;
    const struct bundle_modules *deleted;
    /* Of one file. */
    size_t file_bytes_max;
};

/* `*repaired` counts the files whose ill-formed UTF-8 became U+FFFD. -1 with `err`: a file can't be read or
 * is too large. What is wrong with `output` itself comes out of bundle_output_finish. */
MUST_CHECK int bundle_write(const struct bundle_content *content, struct bundle_output *output,
    uint64_t *repaired, struct error *err);

#endif
