/* Where passwords and keys go, and which URL is the same repository. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/policy/source/git_access.h"

static const char *variable(const struct git_access *access, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; access->variables[i]; i++)
        if (strncmp(access->variables[i], name, length) == 0 && access->variables[i][length] == '=')
            return access->variables[i] + length + 1;
    return NULL;
}

static void passwords(void **state)
{
    struct config config = {.policy_repo_url = "https://us%20er:p%40:s%2fx%@Host:8443/o/r.git?x=u"};
    struct git_access access;
    struct error err = {0};
    (void)state;
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_string_equal(access.url, "https://Host:8443/o/r.git?x=u");
    assert_string_equal(variable(&access, "OPAL_GIT_USER"), "us er");
    assert_string_equal(variable(&access, "OPAL_GIT_PASSWORD"), "p@:s/x%");
    /* for that server alone */
    assert_string_equal(variable(&access, "GIT_CONFIG_KEY_1"), "credential.https://Host:8443.helper");
    git_access_free(&access);

    config.policy_repo_url = "https://host/o/r.git";
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_string_equal(access.url, "https://host/o/r.git");
    assert_null(access.variables[0]);
    git_access_free(&access);

    config.policy_repo_url = "repos/r.git"; /* from here, wherever git works */
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_int_equal(access.url[0], '/');
    assert_non_null(strstr(access.url, "/repos/r.git"));
    assert_true(git_access_same_url(&config, access.url));
    git_access_free(&access);
    config.policy_repo_url = "host:o/r.git";
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_string_equal(access.url, "host:o/r.git");
    git_access_free(&access);

    config.policy_repo_url = "https://token@host/o/r.git";
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_string_equal(variable(&access, "OPAL_GIT_USER"), "token");
    assert_string_equal(variable(&access, "OPAL_GIT_PASSWORD"), "");
    git_access_free(&access);
}

/* What the operator gives git by its environment stays; ours come behind it. */
static void settings_of_the_operator(void **state)
{
    const struct config config = {.policy_repo_url = "https://u:p@host/r"};
    struct git_access access;
    struct error err = {0};
    (void)state;
    setenv("GIT_CONFIG_COUNT", "3", 1);
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_string_equal(variable(&access, "GIT_CONFIG_COUNT"), "5");
    assert_string_equal(variable(&access, "GIT_CONFIG_KEY_3"), "credential.https://host.helper");
    assert_string_equal(variable(&access, "GIT_CONFIG_VALUE_3"), "");
    assert_string_equal(variable(&access, "GIT_CONFIG_KEY_4"), "credential.https://host.helper");
    assert_null(variable(&access, "GIT_CONFIG_KEY_0"));
    git_access_free(&access);
    unsetenv("GIT_CONFIG_COUNT");
}

/* What can't be parsed is refused, and nothing of it shows. */
static void a_url_that_is_refused(void **state)
{
    const struct config config = {.policy_repo_url = "https://user:to/ken@host/r"};
    struct git_access access;
    struct error err = {0};
    (void)state;
    assert_int_equal(git_access_open(&config, &access, &err), -1);
    assert_non_null(strstr(err.text, "OPAL_POLICY_REPO_URL (value not shown)"));
    assert_null(strstr(err.text, "ken@"));
    git_access_free(&access);
}

static void same_urls(void **state)
{
    const struct config config = {.policy_repo_url = "https://u:p@host/o/r.git"};
    (void)state;
    assert_true(git_access_same_url(&config, "https://u:p@host/o/r.git"));
    assert_true(git_access_same_url(&config, "https://host/o/r.git"));
    assert_true(git_access_same_url(&config, "https://other:token@host/o/r.git"));
    assert_false(git_access_same_url(&config, "https://host/o/other.git"));
    assert_false(git_access_same_url(&config, "https://evil/@host/o/r.git"));
}

/* Made for this test. */
static const char openssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
                              "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
                              "QyNTUxOQAAACBIzCPVNuzUmHBsEfsbli3ZWqW64hJnwGmPqTz3TgbmzQAAAIi7wuJku8Li\n"
                              "ZAAAAAtzc2gtZWQyNTUxOQAAACBIzCPVNuzUmHBsEfsbli3ZWqW64hJnwGmPqTz3TgbmzQ\n"
                              "AAAEDvZQtEVEp3bJjhcz4amH80KoRwSb92JStxb4il1OIHfUjMI9U27NSYcGwR+xuWLdla\n"
                              "pbriEmfAaY+pPPdOBubNAAAAAWMBAgME\n"
                              "-----END OPENSSH PRIVATE KEY-----\n";

/* The key is only this user's whatever lay there before, and a link there is replaced, not followed. */
static void keys(void **state)
{
    char folder[] = "/tmp/opald-test-key-XXXXXX";
    char key[128], outside[128], text[1024] = "", mangled[1024];
    struct stat status;
    struct git_access access;
    struct error err = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(key, sizeof key, "%s/it's a key", folder);
    snprintf(outside, sizeof outside, "%s/outside", folder);
    FILE *file = fopen(outside, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(symlink(outside, key), 0);
    for (size_t i = 0; i <= strlen(openssh); i++)
        mangled[i] = openssh[i] == '\n' ? '_' : openssh[i];
    struct config config = {.policy_repo_url = "git@host:o/r.git",
        .policy_repo_ssh_key = mangled,
        .git_ssh_key_file = key,
        .policy_repo_ssh_host_keys = "accept-new"};
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_int_equal(lstat(key, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0600);
    file = fopen(key, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text - 1, file), strlen(openssh));
    fclose(file);
    assert_string_equal(text, openssh);
    assert_int_equal(stat(outside, &status), 0);
    assert_int_equal(status.st_size, 0);
    const char *command = variable(&access, "GIT_SSH_COMMAND");
    assert_non_null(strstr(command, "StrictHostKeyChecking=accept-new"));
    assert_non_null(strstr(command, "/it'\\''s a key'"));
    git_access_free(&access);
    config.policy_repo_ssh_host_keys = "accept-any";
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_non_null(strstr(variable(&access, "GIT_SSH_COMMAND"), "StrictHostKeyChecking=no"));
    git_access_free(&access);
    /* What is wrong with a key is said, and nothing is written. */
    unlink(key);
    config.policy_repo_ssh_key = "-----BEGIN OPENSSH PRIVATE KEY-----";
    assert_int_equal(git_access_open(&config, &access, &err), -1);
    assert_non_null(
        strstr(err.text, "OPAL_POLICY_REPO_SSH_KEY (value not shown): only its first line has arrived"));
    assert_int_equal(lstat(key, &status), -1);
    git_access_free(&access);
    config.policy_repo_ssh_key = mangled;
    /* no key for what is not reached by SSH */
    config.policy_repo_url = "https://host/o/r.git";
    assert_int_equal(git_access_open(&config, &access, &err), 0);
    assert_int_equal(lstat(key, &status), -1);
    git_access_free(&access);
    unlink(outside);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passwords),
        cmocka_unit_test(settings_of_the_operator), cmocka_unit_test(a_url_that_is_refused),
        cmocka_unit_test(same_urls), cmocka_unit_test(keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
