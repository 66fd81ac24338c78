/* URLs of git repositories: their parts, which name the same repository, and that no secret shows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "shm/common/git_url.h"
#include "tests/unit/shm/common/random_seed.h"

struct parts {
    const char *text;
    enum git_url_kind kind;
    const char *user;
    const char *password;
    const char *host;
    const char *port;
    const char *path;
    const char *plain;
};

static const struct parts rows[] = {
    {"https://us%20er:p%40:s%2fx%@Host:8443/o/r.git", GIT_URL_HTTP, "us er", "p@:s/x%", "host", "8443",
        "/o/r.git", "https://Host:8443/o/r.git"},
    {"https://host/o/r.git", GIT_URL_HTTP, "", "", "host", "", "/o/r.git", "https://host/o/r.git"},
    {"https://host:443/o", GIT_URL_HTTP, "", "", "host", "", "/o", "https://host:443/o"},
    {"HTTPS://host/a/../b c", GIT_URL_HTTP, "", "", "host", "", "/a/../b c", "HTTPS://host/a/../b c"},
    {"https://token@host/o", GIT_URL_HTTP, "token", "", "host", "", "/o", "https://host/o"},
    {"https://:pw@host/o", GIT_URL_HTTP, "", "pw", "host", "", "/o", "https://host/o"},
    {"https://u:@host/o", GIT_URL_HTTP, "u", "", "host", "", "/o", "https://host/o"},
    {"https://@host/o", GIT_URL_HTTP, "", "", "host", "", "/o", "https://host/o"},
    {"http://u:[x]{}\\^|~`\"<>'!$&()*+,;=-._ @[::1]:80/o", GIT_URL_HTTP, "u",
        "[x]{}\\^|~`\"<>'!$&()*+,;=-._ ", "::1", "", "/o", "http://[::1]:80/o"},
    {"ssh://git@Host:2222/o/r", GIT_URL_SSH, "git", "", "host", "2222", "/o/r", "ssh://git@Host:2222/o/r"},
    {"ssh://u:pw@host/~/r", GIT_URL_SSH, "u", "pw", "host", "", "/~/r", "ssh://u@host/~/r"},
    {"git@Host:o/r.git", GIT_URL_SSH, "git", "", "host", "", "o/r.git", "git@Host:o/r.git"},
    {"host:/abs/r", GIT_URL_SSH, "", "", "host", "", "/abs/r", "host:/abs/r"},
    {"git@[host:2222]:r", GIT_URL_SSH, "git", "", "host", "2222", "r", "git@[host:2222]:r"},
    {"[::1]:r", GIT_URL_SSH, "", "", "::1", "", "r", "[::1]:r"},
    {"git://u:pw@host/r", GIT_URL_OTHER, "u", "pw", "host", "", "/r", "git://host/r"},
    {"ext::sh -c 'x'", GIT_URL_OTHER, "", "", "", "", "ext::sh -c 'x'", "ext::sh -c 'x'"},
    {"file:///a b/r@x", GIT_URL_PATH, "", "", "", "", "/a b/r@x", "file:///a b/r@x"},
    {"/a/b:c@d", GIT_URL_PATH, "", "", "", "", "/a/b:c@d", "/a/b:c@d"},
    {"repos/r.git", GIT_URL_PATH, "", "", "", "", "repos/r.git", "repos/r.git"},
    {"", GIT_URL_PATH, "", "", "", "", "", ""},
};

static const char *string(const struct text *text)
{
    return text->data ? text->data : "";
}

static void test_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct git_url url = {0};
        struct error err = {0};
        if (git_url_parse(&url, rows[i].text, &err) < 0)
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_int_equal(url.kind, rows[i].kind);
        assert_string_equal(string(&url.user), rows[i].user);
        assert_string_equal(string(&url.password), rows[i].password);
        assert_string_equal(string(&url.host), rows[i].host);
        assert_string_equal(string(&url.port), rows[i].port);
        assert_string_equal(string(&url.path), rows[i].path);
        assert_string_equal(string(&url.plain), rows[i].plain);
        git_url_free(&url);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } refused[] = {
        /* A '/', '?' or '#' in the password ends the host too early. */
        {"https://user:to/ken@host/o/r.git", "write / as %2F, @ as %40"},
        {"https://tok/en@host/o/r.git", "has an @ behind its host"},
        {"https://user:12/en@host/o/r.git", "write / as %2F"},
        {"https://user:12?en@host/o/r.git", "# as %23, ? as %3F and % as %25"},
        {"https://user:12#en@host/o/r.git", "has an @ behind its host"},
        {"https://user:p@x/y@host/o/r.git", "@ as %40"},
        {"https://user:p@x@host/o/r.git", "@ as %40"},
        {"https://evil/@host/o/r.git", "(and an @ in the path as %40)"},
        {"ssh://git:tok/en@host/r", "write / as %2F"},
        {"https://user:a%0ab@host/r", "control character in its user name or password"},
        {"https://user:a\x01z@host/r", "is no URL that can be used"},
        {"https://ho st/r", "is no URL that can be used (Bad hostname)"},
        {"https://host:99999/r", "Port number"},
        {"user:secret@host/o/r.git", "begins with https://"},
        {":path", "no host before its colon"},
        {"[::1", "no host before its colon"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct git_url url = {0};
        struct error err = {0};
        if (git_url_parse(&url, refused[i].text, &err) == 0)
            fail_msg("%s is taken", refused[i].text);
        if (!strstr(err.text, refused[i].says))
            fail_msg("%s: %s", refused[i].text, err.text);
        git_url_free(&url);
    }
}

/* Whether `text` has four characters in a row of `secret`. */
static bool shows(const char *text, const char *secret)
{
    for (; strlen(secret) >= 4; secret++) {
        char four[5] = {secret[0], secret[1], secret[2], secret[3], '\0'};
        if (strstr(text, four))
            return true;
    }
    return false;
}

/* Passwords and tokens of all punctuation, written as they are: refused or parsed, they show nowhere. */
static void test_no_secret_shows(void **state)
{
    static const char *const forms[] = {"https://user:%s@host/o/r.git", "https://%s@host/o/r.git",
        "http://%s:x-oauth-basic@host/r", "git://user:%s@host/r", "ssh://git:%s@host/r"};
    unsigned seed = random_seed((unsigned)time(NULL));
    (void)state;
    for (int round = 0; round < 20000; round++) {
        /* four of these in a row are in no message by chance */
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~";
        char secret[17], text[128];
        for (size_t i = 0; i < sizeof secret - 1; i++)
            secret[i] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
        secret[sizeof secret - 1] = '\0';
        int form = round % (int)(sizeof forms / sizeof *forms);
        snprintf(text, sizeof text, forms[form], secret);
        struct git_url url = {0};
        struct error err = {0};
        int result = git_url_parse(&url, text, &err);
        if (shows(err.text, secret))
            fail_msg("%s: %s", text, err.text);
        /* SSH keeps the user name, and a password cannot be one. */
        if (result == 0 && shows(string(&url.plain), secret))
            fail_msg("%s: %s", text, string(&url.plain));
        git_url_free(&url);
    }
}

static bool same(const char *a, const char *b)
{
    struct git_url left = {0}, right = {0};
    struct error err = {0};
    bool both = git_url_parse(&left, a, &err) == 0 && git_url_parse(&right, b, &err) == 0;
    bool result = both && git_url_same(&left, &right);
    assert_int_equal(result, both && git_url_same(&right, &left));
    git_url_free(&left);
    git_url_free(&right);
    return result;
}

static void test_sameness(void **state)
{
    (void)state;
    assert_true(same("https://u:p@host/o/r.git", "https://host/o/r.git"));
    assert_true(same("https://u:p@host/o/r.git", "https://other:token@HOST/o/r"));
    assert_true(same("https://host/o/r.git", "https://host:443/o/r/"));
    assert_true(same("git@host:o/r.git", "ssh://git@Host/o/r"));
    assert_true(same("git@host:o/r.git", "host:/o/r.git"));
    assert_true(same("git@[host:22]:o/r", "git+ssh://host:2222/o/r") == false);
    assert_true(same("git@[host:2222]:o/r", "ssh://host:2222/o/r"));
    assert_true(same("/srv/r.git", "file:///srv/r"));
    assert_false(same("https://host/o/r.git", "http://host/o/r.git"));
    assert_false(same("https://host/o/r.git", "https://host/o/other.git"));
    assert_false(same("https://host/o/r.git", "https://host/O/r.git"));
    assert_false(same("https://host/o/r.git", "https://host.evil/o/r.git"));
    assert_false(same("https://host/o/r.git", "https://host:8443/o/r.git"));
    assert_false(same("/srv/r", "srv/r"));
    assert_false(same("https://host/o/r.git", "https://evil/@host/o/r.git"));
    assert_false(same("https://host/.git", "https://host/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_secret_shows),
        cmocka_unit_test(test_sameness),
    };
    return cmocka_run_group_tests_name("shm/common/git_url", tests, NULL, NULL);
}
