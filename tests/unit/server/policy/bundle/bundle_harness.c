#include "tests/unit/server/policy/bundle/bundle_harness.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/common/log.h"

/* ---- a repository ---- */

void harness_repository_open(struct harness_repository *repository)
{
    git_repository_init_options options;
    *repository = (struct harness_repository){.folder = "/tmp/opald-test-repository-XXXXXX"};
    assert_non_null(mkdtemp(repository->folder));
    git_libgit2_init();
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
    options.initial_head = "master";
    assert_int_equal(git_repository_init_ext(&repository->git, repository->folder, &options), 0);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

void harness_repository_close(struct harness_repository *repository)
{
    git_repository_free(repository->git);
    nftw(repository->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    git_libgit2_shutdown();
}

static git_oid write_tree(struct harness_repository *repository, const struct harness_file *files)
{
    git_index *index;
    git_oid tree;
    assert_int_equal(git_index_new(&index), 0);
    for (; files->path; files++) {
        git_index_entry entry = {.mode = files->mode ? files->mode : GIT_FILEMODE_BLOB, .path = files->path};
        size_t length = files->length ? files->length : strlen(files->content);
        assert_int_equal(git_blob_create_from_buffer(&entry.id, repository->git, files->content, length), 0);
        assert_int_equal(git_index_add(index, &entry), 0);
    }
    assert_int_equal(git_index_write_tree_to(&tree, index, repository->git), 0);
    git_index_free(index);
    return tree;
}

void harness_repository_commit(struct harness_repository *repository, const struct harness_file *files)
{
    git_oid tree_oid = write_tree(repository, files);
    git_tree *tree;
    git_commit *parent = NULL;
    git_signature *who;
    bool first = repository->head[0] == '\0';
    assert_int_equal(git_tree_lookup(&tree, repository->git, &tree_oid), 0);
    assert_int_equal(git_signature_new(&who, "t", "t@t", 1000000000, 0), 0);
    if (!first)
        assert_int_equal(git_commit_lookup(&parent, repository->git, &repository->head_oid), 0);
    const git_commit *parents[] = {parent};
    assert_int_equal(git_commit_create(&repository->head_oid, repository->git, "refs/heads/master", who, who,
                         NULL, "m", tree, first ? 0 : 1, parents),
        0);
    git_oid_tostr(repository->head, sizeof repository->head, &repository->head_oid);
    git_commit_free(parent);
    git_tree_free(tree);
    git_signature_free(who);
}

/* ---- the log ---- */

static int log_file = -1;
static int saved_error = -1;

void harness_log_begin(void)
{
    log_file = memfd_create("log", MFD_CLOEXEC);
    saved_error = dup(STDERR_FILENO);
    dup2(log_file, STDERR_FILENO);
    log_configure(&(struct log_settings){.level = LOG_INFO});
}

const char *harness_log_end(void)
{
    static char logged[100000];
    dup2(saved_error, STDERR_FILENO);
    close(saved_error);
    ssize_t length = pread(log_file, logged, sizeof logged - 1, 0);
    close(log_file);
    logged[length > 0 ? length : 0] = '\0';
    return logged;
}
