#include "server/policy/bundle/bundle_blob.h"

#include <errno.h>

#include "server/policy/bundle/bundle_tree.h"

int bundle_blob_open(
    git_blob **blob, git_repository *repository, const git_oid *oid, size_t bytes_max, struct error *err)
{
    git_odb *store;
    size_t length = 0;
    git_object_t type;
    if (git_repository_odb(&store, repository) < 0)
        return bundle_tree_git_error(err, "cannot read the repository");
    int result = git_odb_read_header(&length, &type, store, oid);
    git_odb_free(store);
    if (result == 0 && length > bytes_max)
        return error_set(err, E2BIG, "policy bundle is larger than %zu bytes", bytes_max);
    if (result < 0 || git_blob_lookup(blob, repository, oid) < 0)
        return bundle_tree_git_error(err, "cannot read a file of the repository");
    return 0;
}
