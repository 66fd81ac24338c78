/* URLs as print-config shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "shm/common/url_display.h"

static void test_what_is_shown(void **state)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"redis://h:6379/0", "redis://h:6379/0"},
        {"redis://u:p@h:6379/0", "redis://***@h:6379/0"},
        {"redis://u:p@ss@h:6379", "redis://***@h:6379"},
        {"redis://u:p/x@h:6379", "redis://***"},
        {"redis://:secret", "redis://***"},
        {"redis://u:secret", "redis://***"},
        {"redis://[::1]:7000", "redis://[::1]:7000"},
        {"redis://[secret", "redis://***"},
        {"kafka://h1:9092, h2:9092", "kafka://h1:9092, h2:9092"},
        {"kafka+mock://", "kafka+mock://"},
        {"postgresql://u:p@h1:1,h2:2/name?sslmode=require&secret&more=1",
            "postgresql://***@h1:1,h2:2/name?sslmode=***&***&***"},
        {"https://u:token@git.example/org/repo.git", "https://***@git.example/org/repo.git"},
        {"https://git.example/org/repo.git?token=x#y", "https://git.example/org/repo.git?token=***#***"},
        {"file:///srv/policy", "file:///srv/policy"},
        {"ssh://git@host:22/org/repo", "ssh://***@host:22/org/repo"},
        {"git@host:org/repo.git", "git@host:org/repo.git"},
        {"u:secret@host:path", "***"},
        {"/srv/policy", "/srv/policy"},
        {"host=h password=secret", "***"},
        {"a scheme://h", "***"},
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        url_append_display(&out, cases[i].url);
        assert_string_equal(out.data ? out.data : "", cases[i].shown);
        text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
