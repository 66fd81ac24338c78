/* For the unit tests of server/policy: a small git repository, made by libgit2, and what is logged. */
#ifndef OPALD_TESTS_UNIT_SERVER_POLICY_BUNDLE_BUNDLE_HARNESS_H
#define OPALD_TESTS_UNIT_SERVER_POLICY_BUNDLE_BUNDLE_HARNESS_H

#include <git2.h>
#include <stddef.h>

/* ---- a repository in a folder of its own ---- */

struct harness_repository {
    char folder[64];
    git_repository *git;
    /* Of the last commit. */
    char head[41];
    git_oid head_oid;
};

struct harness_file {
    /* NULL at the end of a list. */
    const char *path;
    const char *content;
    /* 0: strlen(content). */
    size_t length;
    /* 0: an ordinary file. */
    unsigned mode;
};

/* An empty one, whose branch is "master". */
void harness_repository_open(struct harness_repository *repository);
/* Removes the folder. */
void harness_repository_close(struct harness_repository *repository);
/* Commits a tree that has these files and no others, on top of the branch. */
void harness_repository_commit(struct harness_repository *repository, const struct harness_file *files);

/* ---- the log ---- */

/* From here on the log goes to a buffer. */
void harness_log_begin(void);
/* Ends that and gives what was logged; valid until the next call. */
const char *harness_log_end(void);

#endif
