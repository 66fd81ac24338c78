#include "server/policy/bundle/bundle_rules.h"

#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/ignore_glob.h"

struct bundle_rules bundle_rules_of(const struct config *config)
{
    return (struct bundle_rules){
        .extensions = &config->filter_file_extensions,
        .policy_extensions = &config->policy_extensions,
        .ignore = &config->bundle_ignore,
        .manifest_path = config->policy_manifest_path,
    };
}

struct bundle_limits bundle_limits_of(const struct config *config)
{
    return (struct bundle_limits){
        .bytes = config->bundle_max_bytes,
        .files = config->bundle_files_max,
        .path_bytes = config->bundle_path_max_bytes,
    };
}

static bool suffix_in(struct slice path, const struct config_list *extensions)
{
    struct slice suffix = bundle_path_suffix(path);
    for (size_t i = 0; i < extensions->count; i++)
        if (slice_equals_string(suffix, extensions->items[i]))
            return true;
    return false;
}

bool bundle_rules_has_extension(const struct bundle_rules *rules, struct slice path)
{
    return suffix_in(path, rules->extensions);
}

enum bundle_kind bundle_rules_kind(const struct bundle_rules *rules, struct slice path)
{
    if (slice_equals_string(bundle_path_name(path), "data.json"))
        return BUNDLE_DATA;
    return suffix_in(path, rules->policy_extensions) ? BUNDLE_POLICY : BUNDLE_NEITHER;
}

bool bundle_rules_ignores(const struct bundle_rules *rules, struct slice path)
{
    return ignore_glob_find(rules->ignore, path) != NULL;
}
