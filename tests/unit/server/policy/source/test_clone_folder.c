/* Whose folders are whose, when several servers share a base. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/policy/source/clone_folder.h"

static struct clone_folder *open_folder(char *base, char *prefix)
{
    const struct config config = {.policy_repo_clone_path = base, .policy_repo_clone_folder_prefix = prefix};
    return clone_folder_open(&config);
}

/* "one" is how "one2" begins: each may use the base, and neither takes away what the other is making. */
static void prefixes_that_begin_alike(void **state)
{
    char base[] = "/tmp/opald-folder-XXXXXX";
    struct error err = {0};
    (void)state;
    assert_non_null(mkdtemp(base));
    struct clone_folder *folders[2] = {open_folder(base, "one"), open_folder(base, "one2")};
    char *work[2], *place[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(clone_folder_lock(folders[i], &err), 0);
        work[i] = clone_folder_new_work(folders[i]);
        place[i] = clone_folder_new_place(folders[i]);
        assert_int_equal(mkdir(work[i], 0700), 0);
        assert_int_equal(mkdir(place[i], 0700), 0);
    }
    for (int i = 0; i < 2; i++) {
        char **leftovers = clone_folder_leftovers(folders[i], place[i]);
        assert_non_null(leftovers[0]);
        assert_string_equal(leftovers[0], work[i]);
        assert_null(leftovers[1]);
        clone_folder_free_list(leftovers);
        char *found = clone_folder_find(folders[i]);
        assert_string_equal(found, place[i]);
        free(found);
    }
    for (int i = 0; i < 2; i++) {
        rmdir(work[i]);
        rmdir(place[i]);
        free(work[i]);
        free(place[i]);
        clone_folder_close(folders[i]);
    }
    const char *const locks[] = {"/.one.lock", "/.one2.lock"};
    for (int i = 0; i < 2; i++) {
        char path[64] = "";
        strcat(strcpy(path, base), locks[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(base), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prefixes_that_begin_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
