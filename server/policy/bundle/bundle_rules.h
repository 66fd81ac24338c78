/* What decides which files of a repository go into a bundle, and how large things may get; from the
 * configuration. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_RULES_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/common/config.h"
#include "shm/common/text.h"

/* Views into the configuration. */
struct bundle_rules {
    /* OPAL_FILTER_FILE_EXTENSIONS: files with other extensions do not count. */
    const struct config_list *extensions;
    /* OPAL_POLICY_REPO_POLICY_EXTENSIONS. */
    const struct config_list *policy_extensions;
    /* OPAL_BUNDLE_IGNORE. */
    const struct config_list *ignore;
    /* OPAL_POLICY_REPO_MANIFEST_PATH; NULL: the root. */
    const char *manifest_path;
};

struct bundle_limits {
    /* Of the JSON body. */
    size_t bytes;
    /* Files and directories of the commit, and changes of a diff. */
    size_t files;
    /* Of one path in the repository. */
    size_t path_bytes;
};

struct bundle_rules bundle_rules_of(const struct config *config);
struct bundle_limits bundle_limits_of(const struct config *config);

/* What a file is in a bundle. */
enum bundle_kind { BUNDLE_NEITHER, BUNDLE_DATA, BUNDLE_POLICY };
enum bundle_kind bundle_rules_kind(const struct bundle_rules *rules, struct slice path);
/* The path's suffix is one of the extensions. */
bool bundle_rules_has_extension(const struct bundle_rules *rules, struct slice path);
/* A pattern of OPAL_BUNDLE_IGNORE takes it out. */
bool bundle_rules_ignores(const struct bundle_rules *rules, struct slice path);

#endif
