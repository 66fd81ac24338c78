#include "server/policy/bundle/bundle_modules.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_path.h"

#define MODE_SUBMODULE 0160000u

static void modules_add(
    struct bundle_modules *modules, struct slice path, const git_oid *oid, const struct bundle_rules *rules)
{
    enum bundle_kind kind = bundle_rules_kind(rules, path);
    if (kind == BUNDLE_NEITHER || !bundle_path_is_safe(path))
        return;
    if (modules->count == modules->capacity) {
        modules->capacity = modules->capacity ? modules->capacity * 2 : 64;
        modules->items = memory_resize(modules->items, modules->capacity * sizeof *modules->items);
    }
    modules->items[modules->count++] = (struct bundle_module){.path = path, .oid = *oid, .kind = kind};
}

void bundle_modules_free(struct bundle_modules *modules)
{
    free(modules->items);
    *modules = (struct bundle_modules){0};
}

static bool under_any(struct slice path, const struct bundle_directories *directories)
{
    for (size_t i = 0; i < directories->count; i++)
        if (bundle_path_is_under(path, directories->paths[i]))
            return true;
    return false;
}

/* Whether a node of the tree is a module, wherever it is. */
static bool node_counts(const struct bundle_node *node, const struct bundle_rules *rules)
{
    return !node->directory && bundle_rules_has_extension(rules, node->path) &&
           !bundle_rules_ignores(rules, node->path);
}

bool bundle_modules_any(const struct bundle_tree *tree, const struct bundle_rules *rules)
{
    for (size_t i = 0; i < tree->count; i++)
        if (bundle_rules_kind(rules, tree->nodes[i].path) != BUNDLE_NEITHER &&
            node_counts(&tree->nodes[i], rules))
            return true;
    return false;
}

void bundle_modules_of_tree(struct bundle_modules *modules, const struct bundle_tree *tree,
    const struct bundle_directories *directories, const struct bundle_rules *rules)
{
    for (size_t i = 0; i < tree->count; i++) {
        const struct bundle_node *node = &tree->nodes[i];
        if (under_any(node->path, directories) && node_counts(node, rules))
            modules_add(modules, node->path, &node->oid, rules);
    }
}

/* One side is enough for suffix and directory; what is ignored is decided by the new side. */
static bool change_matters(const struct bundle_change *change, const struct bundle_directories *directories,
    const struct bundle_rules *rules)
{
    return (bundle_rules_has_extension(rules, change->old_path) ||
               bundle_rules_has_extension(rules, change->new_path)) &&
           (under_any(change->old_path, directories) || under_any(change->new_path, directories)) &&
           !bundle_rules_ignores(rules, change->new_path);
}

static bool is_modified(const struct bundle_change *change)
{
    if (change->status == 'M')
        return true;
    return (change->status == 'R' || change->status == 'T') &&
           strcmp(change->old_hash, change->new_hash) != 0;
}

/* 'A', 'R', or 'M' in the wide sense of is_modified. */
static void add_group(struct bundle_modules *modules, const struct bundle_diff *diff, char group,
    const struct bundle_directories *directories, const struct bundle_rules *rules)
{
    for (size_t i = 0; i < diff->count; i++) {
        const struct bundle_change *change = &diff->changes[i];
        bool wanted = group == 'M' ? is_modified(change) : change->status == group;
        git_oid oid;
        if (wanted && change->new_mode != MODE_SUBMODULE && change_matters(change, directories, rules) &&
            git_oid_fromstr(&oid, change->new_hash) == 0)
            modules_add(modules, change->new_path, &oid, rules);
    }
}

void bundle_modules_of_diff(struct bundle_modules *modules, const struct bundle_diff *diff,
    const struct bundle_directories *directories, const struct bundle_rules *rules)
{
    add_group(modules, diff, 'A', directories, rules);
    add_group(modules, diff, 'R', directories, rules);
    add_group(modules, diff, 'M', directories, rules);
}

void bundle_modules_deleted(struct bundle_modules *modules, const struct bundle_diff *diff,
    const struct bundle_directories *directories, const struct bundle_rules *rules)
{
    static const char groups[] = {'D', 'R'};
    static const git_oid none;
    for (size_t group = 0; group < sizeof groups; group++)
        for (size_t i = 0; i < diff->count; i++)
            if (diff->changes[i].status == groups[group] &&
                change_matters(&diff->changes[i], directories, rules))
                modules_add(modules, diff->changes[i].old_path, &none, rules);
}
