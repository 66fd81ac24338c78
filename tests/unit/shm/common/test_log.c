/* Log lines, caught in a pipe in place of standard error or output. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shm/common/json.h"
#include "shm/common/log.h"
#include "shm/common/log_redact.h"

#define TIME_PATTERN "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}[+-][0-9]{4}"

static int pipe_ends[2];
static int saved[3];
static char caught[100000];

static int setup(void **state)
{
    (void)state;
    saved[1] = dup(STDOUT_FILENO);
    saved[2] = dup(STDERR_FILENO);
    return 0;
}

static void begin(int fd, const struct log_settings *settings)
{
    fflush(stdout);
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(pipe_ends[0], F_SETPIPE_SZ, 65536), 65536);
    dup2(pipe_ends[1], fd);
    log_configure(settings);
}

static char *end(int fd)
{
    size_t length = 0;
    ssize_t count;
    const struct log_settings quiet = {.level = LOG_CRITICAL};
    dup2(saved[fd], fd);
    log_configure(&quiet); /* lets go of the pipe */
    close(pipe_ends[1]);
    while ((count = read(pipe_ends[0], caught + length, sizeof caught - 1 - length)) > 0)
        length += (size_t)count;
    caught[length] = '\0';
    close(pipe_ends[0]);
    return caught;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int status = regexec(&compiled, text, 0, NULL, 0);
    regfree(&compiled);
    if (status)
        fail_msg("'%s' does not match '%s'", text, pattern);
}

static void plain_lines(void **state)
{
    static const char *const centred[] = {"TRACE ", "DEBUG ", " INFO ", "WARNING", "ERROR ", "CRITICAL"};
    struct log_settings settings = {.level = LOG_TRACE};
    char pattern[256];
    (void)state;
    for (int level = 0; level < 6; level++) {
        begin(STDERR_FILENO, &settings);
        log_write((enum log_level)level, "logging", "hello %d", level);
        snprintf(pattern, sizeof pattern, "^" TIME_PATTERN " [|] logging {33}[|]%s [|] hello %d\n$",
            centred[level], level);
        assert_matches(end(STDERR_FILENO), pattern);
    }
}

static void coloured_lines(void **state)
{
    struct log_settings settings = {.level = LOG_INFO, .colorize = true};
    (void)state;
    begin(STDERR_FILENO, &settings);
    log_write(LOG_WARNING, "a.b", "text");
    assert_matches(end(STDERR_FILENO),
        "^\033\\[32m" TIME_PATTERN
        "\033\\[0m [|] \033\\[34ma[.]b {37}\033\\[0m[|]\033\\[33m\033\\[1mWARNING [|] "
        "text\033\\[0m\n$");
}

static void pid_and_stdout(void **state)
{
    struct log_settings settings = {.level = LOG_INFO, .include_pid = true, .to_stdout = true};
    char pattern[256];
    (void)state;
    begin(STDOUT_FILENO, &settings);
    log_write(LOG_INFO, "n", "m");
    snprintf(pattern, sizeof pattern, "^" TIME_PATTERN " [|] %d [|] n {39}[|] INFO  [|] m\n$", (int)getpid());
    assert_matches(end(STDOUT_FILENO), pattern);
}

static void long_names(void **state)
{
    static const struct {
        const char *name;
        const char *shown;
    } names[] = {{"fastapi_websocket_pubsub.event_broadcaster.x", "fastapi_websocket_pubsub...x            "},
        {"a123456789.b123456789.c123456789.d1234567", "a123456789...d1234567                  "},
        {"a1234567890123456789012345678901234567890123456789", "a123456789012345678901234567890123456..."},
        {"a12345678901234567890123.b.c12345678901234567890", "a12345678901234567890123...c123456789..."},
        {"one.a12345678901234567890123456789012345678901", "one.a12345678901234567890123456789012..."}};
    struct log_settings settings = {.level = LOG_INFO};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        begin(STDERR_FILENO, &settings);
        log_write(LOG_INFO, names[i].name, "m");
        const char *line = strstr(end(STDERR_FILENO), " | ");
        assert_non_null(line);
        assert_int_equal(strcspn(line + 3, "|"), 40);
        assert_memory_equal(line + 3, names[i].shown, strlen(names[i].shown));
    }
}

static void levels(void **state)
{
    struct log_settings settings = {.level = LOG_WARNING};
    enum log_level level;
    (void)state;
    begin(STDERR_FILENO, &settings);
    log_write(LOG_INFO, "n", "no");
    log_write(LOG_WARNING, "n", "yes");
    assert_matches(end(STDERR_FILENO), "^[^\n]* yes\n$");
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_CRITICAL));
    assert_true(log_level_parse("info", &level) && level == LOG_INFO);
    assert_true(log_level_parse("CRITICAL", &level) && level == LOG_CRITICAL);
    assert_false(log_level_parse("", &level));
    assert_false(log_level_parse("INFOS", &level));
}

static void nothing_odd_reaches_the_terminal(void **state)
{
    struct log_settings settings = {.level = LOG_INFO};
    (void)state;
    begin(STDERR_FILENO, &settings);
    errno = 77;
    log_write(LOG_INFO, "n", "a\nb\rc\033[1m\x7f\xc2\x9b\xc3\xa9\td\001");
    assert_int_equal(errno, 77);
    assert_non_null(strstr(end(STDERR_FILENO), "| a\\nb\\rc\\x1b[1m\\x7f\\x9b\xc3\xa9\td\\x01\n"));
    /* A name in Latin-1, a cut character and an overlong one. */
    begin(STDERR_FILENO, &settings);
    log_write(LOG_INFO, "n", "caf\xe9.rego \xe2\x82 \xc0\xaf \xf0\x9f\x98\x80 \xe2");
    assert_non_null(
        strstr(end(STDERR_FILENO), "| caf\\xe9.rego \\xe2\\x82 \\xc0\\xaf \xf0\x9f\x98\x80 \\xe2\n"));
}

static void long_texts_are_cut_between_characters(void **state)
{
    struct log_settings settings = {.level = LOG_INFO};
    struct text text = {0};
    (void)state;
    text_append_char(&text, 'x');
    while (text.length < 20000)
        text_append_string(&text, "\xc3\xa9");
    begin(STDERR_FILENO, &settings);
    log_write(LOG_INFO, "n", "%s", text.data);
    const char *line = strstr(end(STDERR_FILENO), "| x");
    assert_non_null(line);
    assert_int_equal(strlen(line + 2), 16383 + 3 + 1);
    assert_string_equal(line + 2 + 16383, "...\n");
    text_free(&text);
}

static void limiter(void **state)
{
    struct log_settings settings = {.level = LOG_INFO};
    struct log_limiter limit = {0};
    (void)state;
    begin(STDERR_FILENO, &settings);
    for (int i = 0; i < 5; i++)
        log_write_limited(&limit, LOG_INFO, "n", "bad %d", i);
    limit.next_ns = 1; /* the time has come */
    log_write_limited(&limit, LOG_INFO, "n", "bad again");
    log_write_limited(&limit, LOG_DEBUG, "n", "never counted");
    assert_matches(end(STDERR_FILENO), "^[^\n]*bad 0\n[^\n]*bad again \\(4 more of these\\)\n$");
    assert_int_equal(limit.suppressed, 0);
}

static void serialized(void **state)
{
    struct log_settings settings = {.level = LOG_INFO, .serialize = true};
    struct json_document document = {0};
    struct text scratch = {0};
    (void)state;
    begin(STDERR_FILENO, &settings);
    log_write(LOG_ERROR, "opald.x", "say \"hi\" to https://u:p@h");
    char *line = end(STDERR_FILENO);
    size_t length = strlen(line);
    assert_int_equal(line[length - 1], '\n');
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
    assert_int_equal(json_parse(&document, line, length, 10, 1000), JSON_OK);
    uint32_t record = json_member(&document, 0, "record");
    assert_true(
        slice_equals_string(json_string_view(&document, json_member(&document, record, "message"), &scratch),
            "say \"hi\" to https://***@h"));
    uint32_t level = json_member(&document, record, "level");
    assert_true(json_string_equals(&document, json_member(&document, level, "name"), SLICE_LITERAL("ERROR")));
    assert_true(slice_equals_string(json_raw(&document, json_member(&document, level, "no")), "40"));
    assert_true(
        json_string_equals(&document, json_member(&document, record, "name"), SLICE_LITERAL("opald.x")));
    static const char *const keys[] = {"elapsed", "exception", "extra", "file", "function", "level", "line",
        "message", "module", "name", "process", "thread", "time"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_not_equal(json_member(&document, record, keys[i]), JSON_ABSENT);
    assert_int_equal(document.tokens[record].size, sizeof keys / sizeof *keys);
    text_free(&scratch);
    json_free(&document);
}

/* A pipe that nobody reads must not stop the process, though its descriptor is a blocking one and stays
 * so; the loss is told later. */
static void full_pipe(void **state)
{
    struct log_settings settings = {.level = LOG_INFO};
    char page[4096];
    (void)state;
    memset(page, 'z', sizeof page);
    begin(STDERR_FILENO, &settings);
    for (int i = 0; i < 16; i++)
        assert_int_equal(write(STDERR_FILENO, page, sizeof page), sizeof page);
    alarm(10); /* a write that blocks ends the test */
    log_write(LOG_INFO, "n", "lost");
    alarm(0);
    assert_false(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(read(pipe_ends[0], page, sizeof page), sizeof page);
    log_write(LOG_INFO, "n", "not lost");
    assert_matches(
        end(STDERR_FILENO), "^[^\n]*1 log lines were lost: nobody read them in time\n[^\n]*not lost\n$");
}

static void redaction(void **state)
{
    static const struct {
        const char *line;
        const char *shown;
    } table[] = {{"https://user:pw@host/path?token=abc&x=1", "https://***@host/path?token=***&x=1"},
        {"redis://:pw@h", "redis://***@h"}, {"ssh://git@h/r", "ssh://***@h/r"},
        {"kafka://h1:9092,h2:9092", "kafka://h1:9092,h2:9092"},
        {"mail a@b http://h/a@b", "mail a@b http://h/a@b"}, {"git@github.com:a/b", "git@github.com:a/b"},
        {"postgres://u:p@ss@h/d", "postgres://***@h/d"}, {"x HTTP://U:P@H y", "x HTTP://***@H y"},
        {"'https://u:p@h/x?token=1'", "'https://***@h/x?token=***'"},
        {"two http://a:b@c http://d:e@f", "two http://***@c http://***@f"},
        {"{'url': 'https://h', 'mail': 'a@b'}", "{'url': 'https://h', 'mail': 'a@b'}"},
        {"\"GET /p?API_KEY=1&a=2&signature=3#password=4 HTTP/1.1\"",
            "\"GET /p?API_KEY=***&a=2&signature=***#password=*** HTTP/1.1\""},
        {"?monkey=1&tokens=2&key2=3", "?monkey=1&tokens=2&key2=3"},
        {"kafka://h?sasl.password=p&x=1", "kafka://h?sasl.password=***&x=1"}, {"://a@b", "://a@b"},
        {"a://", "a://"}, {"?token=", "?token=***"}, {"?key", "?key"}, {"", ""},
        {"http://***@h?token=***", "http://***@h?token=***"}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct text out = {0};
        log_redact(&out, slice_from_string(table[i].line));
        assert_string_equal(text_slice(&out).data, table[i].shown);
        text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines),
        cmocka_unit_test(coloured_lines),
        cmocka_unit_test(pid_and_stdout),
        cmocka_unit_test(long_names),
        cmocka_unit_test(levels),
        cmocka_unit_test(nothing_odd_reaches_the_terminal),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(limiter),
        cmocka_unit_test(serialized),
        cmocka_unit_test(full_pipe),
        cmocka_unit_test(redaction),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
