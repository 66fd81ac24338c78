#include "server/policy/bundle/bundle_revision.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

#define REVISION_BYTES 255

/* Hashes and names. A client must not start a search through messages (":/text", "^{/text}") or the reflog
 * ("@{1}"). */
static bool revision_is_plain(struct slice revision)
{
    if (revision.length == 0 || revision.length > REVISION_BYTES)
        return false;
    for (size_t i = 0; i < revision.length; i++)
        if ((unsigned char)revision.data[i] <= ' ' || strchr(":{}", revision.data[i]))
            return false;
    return true;
}

/* Whether `revision` begins with the hash of a file, perhaps a short one, or with one that is ambiguous.
 * libgit2 would inflate the whole file, however large, only to see that it is no commit. */
static bool revision_is_file(git_repository *repository, const char *revision)
{
    size_t digits = strspn(revision, "0123456789abcdefABCDEF");
    git_oid brief, whole;
    git_odb *store;
    git_object_t type = GIT_OBJECT_COMMIT;
    size_t length;
    if (digits < GIT_OID_MINPREFIXLEN || digits > BUNDLE_HASH_LENGTH ||
        git_oid_fromstrn(&brief, revision, digits) < 0 || git_repository_odb(&store, repository) < 0)
        return false;
    int found = git_odb_exists_prefix(&whole, store, &brief, digits);
    if (found == 0 && git_odb_read_header(&length, &type, store, &whole) < 0)
        type = GIT_OBJECT_COMMIT; /* the look-up that follows finds what is wrong with it */
    git_odb_free(store);
    return found == GIT_EAMBIGUOUS || type == GIT_OBJECT_BLOB;
}

bool bundle_revision_find(git_repository *repository, struct slice revision, char *hash)
{
    git_object *object = NULL, *commit = NULL;
    hash[0] = '\0';
    if (!revision_is_plain(revision))
        return false;
    char *text = memory_copy(revision.data, revision.length);
    if (!revision_is_file(repository, text) && git_revparse_single(&object, repository, text) == 0 &&
        git_object_peel(&commit, object, GIT_OBJECT_COMMIT) == 0)
        git_oid_tostr(hash, BUNDLE_HASH_LENGTH + 1, git_object_id(commit));
    git_object_free(commit);
    git_object_free(object);
    free(text);
    return hash[0] != '\0';
}
