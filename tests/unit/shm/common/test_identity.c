/* Identifiers: form, uniqueness, and that the two generators are independent of each other. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/identity.h"

#define COUNT 100000

static void assert_uuid4(const struct identity *identity)
{
    char text[IDENTITY_HEX + 1];
    memset(text, '!', sizeof text);
    identity_format(identity, text);
    assert_int_equal(text[IDENTITY_HEX], '!'); /* no NUL is written */
    text[IDENTITY_HEX] = '\0';
    assert_int_equal(strspn(text, "0123456789abcdef"), IDENTITY_HEX);
    assert_int_equal(text[12], '4');
    assert_non_null(strchr("89ab", text[16]));
}

static void format_is_lower_case_hex(void **state)
{
    struct identity identity;
    char text[IDENTITY_HEX];
    (void)state;
    for (size_t i = 0; i < IDENTITY_BYTES; i++)
        identity.bytes[i] = (uint8_t)(i * 0x11);
    identity_format(&identity, text);
    assert_memory_equal(text, "00112233445566778899aabbccddeeff", IDENTITY_HEX);
}

static void both_make_uuid4(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct identity slow = identity_make();
        struct identity fast = identity_make_fast();
        assert_uuid4(&slow);
        assert_uuid4(&fast);
    }
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct identity));
}

static void fast_ones_are_unique_and_spread(void **state)
{
    struct identity *made = malloc(COUNT * sizeof *made);
    unsigned bits[128] = {0};
    (void)state;
    assert_non_null(made);
    for (size_t i = 0; i < COUNT; i++) {
        made[i] = identity_make_fast();
        for (size_t bit = 0; bit < 128; bit++)
            bits[bit] += (made[i].bytes[bit / 8] >> (bit % 8)) & 1u;
    }
    for (size_t bit = 0; bit < 128; bit++) {
        if (bit / 8 != 6 && bit / 8 != 8) /* version and variant are fixed */
            assert_in_range(bits[bit], COUNT / 2 - COUNT / 50, COUNT / 2 + COUNT / 50);
    }
    qsort(made, COUNT, sizeof *made, compare);
    for (size_t i = 1; i < COUNT; i++)
        assert_memory_not_equal(&made[i - 1], &made[i], sizeof *made);
    free(made);
}

/* Workers are executed anew, so each seeds its own generator: two programs must not make the same ids. */
static void programs_differ(void **state)
{
    struct identity made[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        int channel[2];
        int status;
        assert_int_equal(pipe(channel), 0);
        pid_t pid = fork();
        if (pid == 0) {
            dup2(channel[1], STDOUT_FILENO);
            execl("/proc/self/exe", "test_identity", "--one", NULL);
            _exit(127);
        }
        close(channel[1]);
        assert_int_equal(read(channel[0], &made[i], sizeof made[i]), sizeof made[i]);
        close(channel[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_uuid4(&made[i]);
    }
    assert_memory_not_equal(&made[0], &made[1], sizeof made[0]);
}

static int print_one(void)
{
    struct identity made = identity_make_fast();
    return write(STDOUT_FILENO, &made, sizeof made) == (ssize_t)sizeof made ? 0 : 1;
}

static void parses_what_it_formats_and_nothing_else(void **state)
{
    static const char *const wrong[] = {"", "0123456789abcdef0123456789abcde",
        "0123456789abcdef0123456789abcdef0", "0123456789ABCDEF0123456789abcdef",
        "0123456789abcdef0123456789abcdeg", "01234567-89ab-cdef-0123-456789abcdef"};
    struct identity made = identity_make(), read;
    char text[IDENTITY_HEX];
    (void)state;
    identity_format(&made, text);
    assert_true(identity_parse((struct slice){text, sizeof text}, &read));
    assert_true(identity_equals(&made, &read));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(identity_parse(slice_from_string(wrong[i]), &read));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--one") == 0)
        return print_one();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_what_it_formats_and_nothing_else),
        cmocka_unit_test(format_is_lower_case_hex),
        cmocka_unit_test(both_make_uuid4),
        cmocka_unit_test(fast_ones_are_unique_and_spread),
        cmocka_unit_test(programs_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
