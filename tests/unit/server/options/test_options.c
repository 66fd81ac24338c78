/* Options: every parse rule, every source of a value and their order, the lines that tell what is wrong,
 * what is printed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shm/common/json.h"
#include "shm/common/text.h"
#include "server/options/options.h"
#include "server/options/options_table.h"
#include "server/options/worker_count.h"

static struct options options;
static struct options_command command;
static struct text problems; /* one a line */

static int clean(void **state)
{
    (void)state;
    for (;;) {
        char name[256];
        char **each = environ;
        while (*each && strncmp(*each, "OPAL_", 5) != 0 && strncmp(*each, "UVICORN_", 8) != 0 &&
               strncmp(*each, "WEB_CONCURRENCY", 15) != 0 && strncmp(*each, "GUNICORN_", 9) != 0)
            each++;
        if (!*each)
            return 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*each, "="), *each);
        unsetenv(name);
    }
}

static void unload(void)
{
    options_free(&options);
    options_command_free(&command);
    text_free(&problems);
}

static int setup(void **state)
{
    problems = (struct text){0};
    options = (struct options){0};
    command = (struct options_command){0};
    return clean(state);
}

static int teardown(void **state)
{
    unload();
    return clean(state);
}

static void note(void *context, const char *line)
{
    (void)context;
    text_append_string(&problems, line);
    text_append_char(&problems, '\n');
}

/* "run" and what is given, NULL at the end. */
static size_t load(const char *first, ...)
{
    char *argv[16] = {"opald", "run"};
    int argc = 2;
    va_list args;
    unload();
    va_start(args, first);
    for (const char *each = first; each; each = va_arg(args, const char *))
        argv[argc++] = (char *)each;
    va_end(args);
    return options_load(&options, argc, argv, &command, note, NULL);
}

#define LOAD(...)          load(__VA_ARGS__, NULL)
#define LOAD_ENVIRONMENT() load(NULL)

static void assert_problem(const char *line)
{
    struct text wanted = {0};
    text_append_format(&wanted, "%s\n", line);
    assert_string_equal(text_slice(&problems).data, wanted.data);
    text_free(&wanted);
}

/* ---- the table itself ---- */

static void table_is_consistent(void **state)
{
    (void)state;
    for (size_t i = 0; i < options_table_count; i++) {
        const struct option *option = &options_table[i];
        struct option_meaning meaning;
        struct error err = {0};
        if (option->default_text) {
            if (option_parse(option, option->default_text, &meaning, &err) < 0)
                fail_msg("%s: default %s: %s", option->name, option->default_text, err.text);
            option_meaning_free(&meaning);
        }
        assert_true(option->section == SECTION_REFERENCE || option->help);
        assert_true(option->status == OPTION_USED || option->section == SECTION_REFERENCE);
        assert_true(option->type != OPTION_ENUM || option->choices);
        if (option->offset != OPTION_NOWHERE && (option->type == OPTION_INT || option->type == OPTION_SIZE)) {
            assert_true(option->minimum >= 0); /* the field may be unsigned */
            assert_true(option->maximum <= (option->width == 4 ? (double)INT32_MAX : (double)INT64_MAX));
        }
        for (size_t k = i + 1; k < options_table_count; k++) {
            assert_string_not_equal(option->name, options_table[k].name);
            assert_true(option->offset == OPTION_NOWHERE || option->offset != options_table[k].offset);
        }
    }
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(command.name, "run");
    assert_string_equal(options.config.host, "127.0.0.1");
    assert_int_equal(options.config.port, 7002);
    assert_true(options.config.workers >= 1);
    assert_int_equal(options.config.workers_max, options.config.workers > 16 ? options.config.workers : 16);
    assert_null(options.config.broadcast.uri);
    assert_string_equal(options.config.broadcast.channel, "EventNotifier");
    assert_true(options.config.broadcast.reconnect_backoff_min == 0.5);
    assert_int_equal(options.config.broadcast.keepalive_interval, 3600);
    assert_true(options.config.broadcast.healthcheck_enabled);
    assert_int_equal(options.config.broadcast.reconnect_max_retries, 0);
    assert_int_equal(options.config.limits.event_max_bytes, 1048576);
    assert_int_equal(options.config.memory.ring_bytes, 64 * 1048576);
    assert_int_equal(options.config.memory.uplink_bytes, 4 * 1048576);
    assert_int_equal(options.config.limits.json_max_depth, 512);
    assert_int_equal(options.config.http_header_max_bytes, 131072);
    assert_string_equal(options.config.all_data_url, "http://localhost:7002/policy-data");
    assert_int_equal(options.config.allowed_origins.count, 1);
    assert_string_equal(options.config.allowed_origins.items[0], "*");
    assert_int_equal(options.config.log.level, LOG_INFO);
    assert_true(options.config.log.colorize);
    assert_false(options.config.log.to_stdout);
    assert_null(options.config.data_config_sources);
    assert_null(options.config.auth_private_key);
}

/* ---- parse rules ---- */

static void booleans(void **state)
{
    static const char *const yes[] = {"true", "TRUE", "1", "yes", "On", "t", "y"};
    static const char *const no[] = {"false", "False", "0", "NO", "off", "f", "n"};
    static const char *const neither[] = {"maybe", "2", "tru", " true", "-", "enabled"};
    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        setenv("OPAL_LOG_SERIALIZE", yes[i], 1);
        assert_int_equal(LOAD_ENVIRONMENT(), 0);
        assert_true(options.config.log.serialize);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        setenv("OPAL_LOG_COLORIZE", no[i], 1);
        assert_int_equal(LOAD_ENVIRONMENT(), 0);
        assert_false(options.config.log.colorize);
    }
    for (size_t i = 0; i < sizeof neither / sizeof *neither; i++) {
        setenv("OPAL_LOG_COLORIZE", neither[i], 1);
        assert_int_equal(LOAD_ENVIRONMENT(), 1);
    }
    assert_problem("OPAL_LOG_COLORIZE='enabled': must be true or false (or 1/0, yes/no, on/off)");
    assert_int_equal(LOAD("--log-colorize=", "--log-pipe-to-stderr", "no"), 0);
    assert_true(options.config.log.colorize);
    assert_true(options.config.log.to_stdout);
}

static void whole_numbers(void **state)
{
    static const char *const bad[] = {"-1", "65536", "1.5", "x", "7002x", "0x10", "1__0", "_1", "1_", "+",
        "7 0", "99999999999999999999999"};
    (void)state;
    assert_int_equal(LOAD("--port", "0"), 0);
    assert_int_equal(options.config.port, 0);
    assert_int_equal(LOAD("--port", " +65_535 "), 0);
    assert_int_equal(options.config.port, 65535);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(LOAD("--port", bad[i]), 1);
    assert_int_equal(LOAD("--port", "70000"), 1);
    assert_problem("--port='70000': must be a whole number from 0 to 65535");
}

static void seconds(void **state)
{
    static const char *const bad[] = {"x", "-1", "nan", "inf", "0x10", "1s", "1,5", "1e9"};
    (void)state;
    assert_int_equal(LOAD("--grace-seconds", "1.5"), 0);
    assert_true(options.config.grace_seconds == 1.5);
    assert_int_equal(LOAD("--grace-seconds=1e1"), 0);
    assert_true(options.config.grace_seconds == 10);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(LOAD("--grace-seconds", bad[i]), 1);
    assert_problem("--grace-seconds='1e9': must be a number of seconds from 0 to 86400");
}

static void sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"134217728", 134217728}, {"128m", 134217728}, {"128M", 134217728}, {"131072k", 134217728},
        {"131072 KiB", 134217728}, {"1g", 1073741824}, {"1GiB", 1073741824}, {"134217728b", 134217728}};
    static const char *const bad[] = {
        "128x", "m", "-128m", "128mm", "1.5g", "1t", "17g", "9223372036854775807g", "128 m b"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(LOAD("--ring-bytes", good[i].text), 0);
        assert_int_equal(options.config.memory.ring_bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(LOAD("--ring-bytes", bad[i]), 1);
    assert_int_equal(LOAD("--ring-bytes", "1k"), 1);
    assert_problem(
        "--ring-bytes='1k': must be a size from 64k to 16g, in bytes or with k, m or g (1024, 1024k, 1024m)");
}

static void lists(void **state)
{
    static const struct {
        const char *text;
        const char *items[4];
    } table[] = {{"a, b ,\"c,d\"", {"a", "b", "c,d"}}, {"a", {"a"}}, {" a b ", {"a b"}},
        {"a,,b,", {"a", "b"}}, {"'x\"y',\"it's\"", {"x\"y", "it's"}}, {"a\\,b,\"q\\\"q\"", {"a,b", "q\"q"}},
        {"\"\",x", {"", "x"}}, {",", {NULL}},
        /* JSON, and what only begins like it */
        {"[\"a\", \"b,c\"]", {"a", "b,c"}}, {" [ ] ", {NULL}}, {"[\"\\u00e9\"]", {"\xc3\xa9"}},
        {"[1]", {"[1]"}}, {"[ab]*.rego,x", {"[ab]*.rego", "x"}}, {"[\"a\"", {"[a"}}, {"[::1]", {"[::1]"}}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t count = 0;
        setenv("OPAL_ALLOWED_ORIGINS", table[i].text, 1);
        assert_int_equal(LOAD_ENVIRONMENT(), 0);
        for (; table[i].items[count]; count++) {
            assert_in_range(count, 0, options.config.allowed_origins.count - 1);
            assert_string_equal(options.config.allowed_origins.items[count], table[i].items[count]);
        }
        assert_int_equal(options.config.allowed_origins.count, count);
    }
    setenv("OPAL_ALLOWED_ORIGINS", "'a", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_problem("OPAL_ALLOWED_ORIGINS=\"'a\": must be items separated by commas; a quote is not closed");
}

/* How print-config shows an option. */
static const char *canonical(const char *name)
{
    return options.values[option_find(name) - options_table].canonical;
}

static void file_extensions(void **state)
{
    static const struct {
        const char *text;
        const char *shown;
    } table[] = {{"rego,json", "['.rego', '.json']"}, {"[\".rego\",\".json\"]", "['.rego', '.json']"},
        {".rego, *.json,yaml", "['.rego', '.json', '.yaml']"}, {"[\"rego\"]", "['.rego']"}, {"\"\"", "['']"},
        {".tar.gz", "['.tar.gz']"}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        setenv("OPAL_FILTER_FILE_EXTENSIONS", table[i].text, 1);
        setenv("OPAL_POLICY_REPO_POLICY_EXTENSIONS", table[i].text, 1);
        assert_int_equal(LOAD_ENVIRONMENT(), 0);
        const char *shown = canonical("FILTER_FILE_EXTENSIONS");
        assert_string_equal(shown, table[i].shown);
        assert_string_equal(canonical("POLICY_REPO_POLICY_EXTENSIONS"), table[i].shown);
    }
    /* Patterns are no extensions. */
    setenv("OPAL_BUNDLE_IGNORE", "rego", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(canonical("BUNDLE_IGNORE"), "['rego']");
}

static void enums_levels_and_json(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--policy-source-type", "API"), 0);
    assert_int_equal(LOAD("--policy-source-type", "git"), 1);
    assert_problem("--policy-source-type='git': must be one of GIT|API (case matters)");
    assert_int_equal(LOAD("--policy-source-type", "GI"), 1);
    assert_int_equal(LOAD("--log-level", "debug"), 0);
    assert_int_equal(options.config.log.level, LOG_DEBUG);
    assert_int_equal(LOAD("--log-level", "loud"), 1);
    assert_int_equal(LOAD("--data-config-sources", "{\"config\":{\"entries\":[]}}"), 0);
    assert_string_equal(options.config.data_config_sources, "{\"config\":{\"entries\":[]}}");
    assert_int_equal(
        LOAD("--data-config-sources", "{\"external_source_url\":\"http://x\",\"config\":null}"), 0);
    assert_int_equal(LOAD("--data-config-sources", "{"), 1);
    assert_problem(
        "--data-config-sources (value not shown): must be JSON (Expecting property name enclosed in double "
        "quotes, at character 1)");
    static const char *const wrong[] = {"{}", "[]", "1", "{\"config\":{},\"external_source_url\":\"x\"}",
        "{\"config\":null}", "{\"config\":[]}", "{\"external_source_url\":1}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(LOAD("--data-config-sources", wrong[i]), 1);
}

/* ---- where a value comes from ---- */

static void flags_anywhere(void **state)
{
    char *argv[] = {
        "opald", "--host", "a", "--port=1", "run", "--log-level=ERROR", "--broadcast-channel", "run", NULL};
    (void)state;
    unload();
    assert_int_equal(options_load(&options, 8, argv, &command, note, NULL), 0);
    assert_string_equal(command.name, "run");
    assert_string_equal(options.config.host, "a");
    assert_int_equal(options.config.port, 1);
    assert_int_equal(options.config.log.level, LOG_ERROR);
    assert_string_equal(options.config.broadcast.channel, "run");
    assert_int_equal(command.argument_count, 0);
    assert_int_equal(
        LOAD("--server-host=b", "--host=c", "--server-bind-port", "2"), 0); /* the last one counts */
    assert_string_equal(options.config.host, "c");
    assert_int_equal(options.config.port, 2);
}

static void flag_mistakes(void **state)
{
    char *before[] = {"opald", "--prot", "1", "run", NULL};
    (void)state;
    unload();
    assert_true(options_load(&options, 4, before, &command, note, NULL) > 0);
    assert_non_null(strstr(problems.data, "--prot: no such option"));
    assert_int_equal(LOAD("--port"), 1);
    assert_problem("--port: a value is missing (NUMBER)");
    /* behind the command it is the command's to judge */
    assert_int_equal(LOAD("--engine-type", "gunicorn"), 0);
    assert_int_equal(command.argument_count, 2);
    assert_string_equal(command.arguments[0], "--engine-type");
    /* only secrets have files */
    assert_int_equal(LOAD("--host-file", "x"), 0);
    assert_int_equal(command.argument_count, 2);
}

static void commands(void **state)
{
    char *worker[] = {"opald", "--as-worker", "--port", "1", "run", NULL};
    char *late[] = {"opald", "run", "--as-worker", NULL};
    char *publish[] = {"opald", "--log-level", "ERROR", "publish-data-update", "-t", "x", "--port",
        "--version", "--help", NULL};
    char *none[] = {"opald", NULL};
    (void)state;
    unload();
    assert_int_equal(options_load(&options, 5, worker, &command, note, NULL), 0);
    assert_true(command.as_worker);
    assert_string_equal(command.name, "run");
    unload();
    (void)!options_load(&options, 3, late, &command, note, NULL);
    assert_false(command.as_worker);
    unload();
    assert_int_equal(options_load(&options, 9, publish, &command, note, NULL), 0);
    assert_int_equal(command.argument_count, 5);
    assert_string_equal(command.arguments[2], "--port");
    assert_false(command.help);
    unload();
    assert_int_equal(options_load(&options, 1, none, &command, note, NULL), 0);
    assert_null(command.name);
    assert_int_equal(LOAD("--help", "--port=x"), 0); /* help needs no values */
    assert_true(command.help);
}

static void flag_beats_environment_beats_default(void **state)
{
    (void)state;
    setenv("OPAL_SERVER_HOST", "from-environment", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.host, "from-environment");
    assert_int_equal(LOAD("--host", "from-flag"), 0);
    assert_string_equal(options.config.host, "from-flag");
    assert_int_equal(LOAD("--host", ""), 0);
    assert_string_equal(options.config.host, "127.0.0.1");
    setenv("OPAL_SERVER_HOST", "", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.host, "127.0.0.1");
    setenv("OPAL_BROADCAST_URI", "", 1); /* the reference takes it for a URI */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_null(options.config.broadcast.uri);
    /* a wrong value behind a right one is not looked at */
    setenv("OPAL_SERVER_BIND_PORT", "nonsense", 1);
    assert_int_equal(LOAD("--port", "5"), 0);
    assert_int_equal(options.config.port, 5);
}

static void names_of_the_port(void **state)
{
    (void)state;
    setenv("UVICORN_PORT", "3", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.port, 3);
    setenv("OPAL_SERVER_BIND_PORT", "4", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.port, 4);
    setenv("OPAL_SERVER_PORT", "tcp://10.0.0.1:7002", 1); /* Kubernetes */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.port, 4);
    setenv("OPAL_SERVER_PORT", "5", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.port, 5);
    setenv("OPAL_SERVER_PORT", "65536", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_problem("OPAL_SERVER_PORT='65536': must be a whole number from 0 to 65535");
}

static void names_of_the_workers(void **state)
{
    (void)state;
    setenv("WEB_CONCURRENCY", "3", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.workers, 3);
    setenv("OPAL_SERVER_WORKER_COUNT", "4", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.workers, 4);
    setenv("UVICORN_NUM_WORKERS", "5", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_int_equal(options.config.workers, 5);
    assert_int_equal(LOAD("--workers", "20"), 0);
    assert_int_equal(options.config.workers, 20);
    assert_int_equal(options.config.workers_max, 20);
    assert_int_equal(LOAD("--workers=AUTO"), 0);
    assert_int_equal(options.config.workers, worker_count_auto());
    assert_int_equal(LOAD("--workers=0"), 1);
    assert_problem("--workers='0': must be auto or a whole number from 1 to 128");
    assert_int_equal(LOAD("--workers=129"), 1);
    assert_int_equal(LOAD("--workers=8", "--workers-max=4"), 1);
    assert_problem("--workers='8': must not be more than OPAL_WORKERS_MAX=4");
}

static void names_of_the_channel(void **state)
{
    (void)state;
    setenv("OPAL_BROADCAST_CHANNEL", "old", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.broadcast.channel, "old");
    setenv("OPAL_BROADCAST_CHANNEL_NAME", "new", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.broadcast.channel, "new");
    setenv("OPAL_BROADCAST_CHANNEL_NAME", "", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.broadcast.channel, "old");
}

static void routes_follow(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--all-data-route", "/all"), 0);
    assert_string_equal(options.config.all_data_url, "http://localhost:7002/all");
    assert_int_equal(LOAD("--all-data-route", "/all", "--all-data-url", "http://x/y"), 0);
    assert_string_equal(options.config.all_data_url, "http://x/y");
    assert_int_equal(LOAD("--data-config-route", "data"), 1);
    assert_problem("OPAL_DATA_CONFIG_ROUTE='data': must begin with /");
}

/* ---- secrets ---- */

static void write_file(const char *path, const char *content, size_t length)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void secrets_from_files(void **state)
{
    char path[] = "/tmp/opald-test-options-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "kafka://h:1\n", 12);
    setenv("OPAL_BROADCAST_URI_FILE", path, 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.broadcast.uri, "kafka://h:1");
    write_file(path, "kafka://h:2\n\n", 13); /* one newline only is cut */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.broadcast.uri, "kafka://h:2\n");
    write_file(path, "kafka://h:3\r\n", 13);
    unsetenv("OPAL_BROADCAST_URI_FILE");
    assert_int_equal(LOAD("--broadcast-uri-file", path), 0);
    assert_string_equal(options.config.broadcast.uri, "kafka://h:3");
    setenv("OPAL_BROADCAST_URI", "kafka://environment", 1);
    assert_int_equal(LOAD("--broadcast-uri-file", path), 0); /* a flag beats the environment here too */
    assert_string_equal(options.config.broadcast.uri, "kafka://h:3");
    setenv("OPAL_BROADCAST_URI_FILE", path, 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_problem("OPAL_BROADCAST_URI and OPAL_BROADCAST_URI_FILE: must not both be set");
    setenv("OPAL_BROADCAST_URI", "", 1); /* empty is not set */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    write_file(path, "", 0);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_null(options.config.broadcast.uri);
    write_file(path, "a\0b", 3);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    unlink(path);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_non_null(strstr(problems.data, "must be a file that can be read (No such file or directory)"));
    setenv("OPAL_BROADCAST_URI_FILE", "/tmp", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_non_null(strstr(problems.data, "(Is a directory)"));
}

static void settings_for_kafka(void **state)
{
    char path[] = "/tmp/opald-settings-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    static const char content[] = "# the password\nsasl.password = a,b=c \r\n\nlinger.ms=1\n";
    assert_int_equal(write(fd, content, sizeof content - 1), (ssize_t)sizeof content - 1);
    close(fd);

    assert_int_equal(load("--kafka-config", "linger.ms=2", "--kafka-config=client.id=x=y, z=1", NULL), 0);
    assert_string_equal(options.config.broadcast.kafka_config, "linger.ms=2\nclient.id=x=y, z=1\n");
    unload();
    setenv("OPAL_KAFKA_CONFIG", "debug=broker,topic,linger.ms=5, fetch.min.bytes=1", 1);
    assert_int_equal(load(NULL), 0);
    assert_string_equal(
        options.config.broadcast.kafka_config, "debug=broker,topic\nlinger.ms=5\nfetch.min.bytes=1\n");
    unload();
    setenv("OPAL_KAFKA_CONFIG", "sasl.password=a,b=c\nlinger.ms=5", 1);
    assert_int_equal(load(NULL), 0);
    assert_string_equal(options.config.broadcast.kafka_config, "sasl.password=a,b=c\nlinger.ms=5\n");
    unload();

    /* all together: file, variable, flags */
    setenv("OPAL_KAFKA_CONFIG_FILE", path, 1);
    assert_int_equal(load("--kafka-config", "linger.ms=6", NULL), 0);
    assert_string_equal(options.config.broadcast.kafka_config,
        "sasl.password=a,b=c\nlinger.ms=1\nsasl.password=a,b=c\nlinger.ms=5\nlinger.ms=6\n");
    unload();
    unsetenv("OPAL_KAFKA_CONFIG_FILE");
    unsetenv("OPAL_KAFKA_CONFIG");
    assert_int_equal(load("--kafka-config-file", path, NULL), 0);
    assert_string_equal(options.config.broadcast.kafka_config, "sasl.password=a,b=c\nlinger.ms=1\n");
    unload();
    unlink(path);

    assert_int_equal(load("--kafka-config", "secretvalue", NULL), 1);
    assert_non_null(strstr(problems.data, "--kafka-config (value not shown): must be key=value"));
    assert_null(strstr(problems.data, "secretvalue"));
    unload();
    assert_int_equal(load("--kafka-config-file", path, NULL), 1);
    assert_non_null(strstr(problems.data, "--kafka-config-file='/tmp/opald-settings-"));
}

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    if (print)
        print(file);
    else
        options_print_config(&options, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void print_config(void **state)
{
    static const char *const secrets[] = {
        "user1", "pass@1", "tok1", "master1", "wstoken1", "source1", "hook1"};
    struct json_document document = {0};
    struct text scratch = {0};
    (void)state;
    setenv("OPAL_BROADCAST_URI", "kafka://user1:pass@1@h:9092?token=tok1", 1);
    setenv("OPAL_AUTH_MASTER_TOKEN", "master1", 1);
    setenv("OPAL_WS_TOKEN", "wstoken1", 1);
    setenv("OPAL_DATA_CONFIG_SOURCES", "{\"external_source_url\":\"source1\"}", 1);
    setenv("OPAL_POLICY_REPO_WEBHOOK_SECRET", "hook1", 1);
    setenv("OPAL_LOG_FORMAT_INCLUDE_PID", "yes", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    char *text = printed(NULL);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        assert_null(strstr(text, secrets[i]));
    static const char head[] = "Printing configuration values\n";
    assert_memory_equal(text, head, sizeof head - 1);
    char *server = text + sizeof head - 1;
    char *common = strstr(server, "\n}\n{\n");
    assert_non_null(common);
    common += 3;
    assert_int_equal(json_parse(&document, common, strlen(common), 3, 10000), JSON_OK);
    assert_true(slice_equals_string(
        json_string_view(&document, json_member(&document, 0, "LOG_FORMAT_INCLUDE_PID"), &scratch), "True"));
    assert_true(slice_equals_string(
        json_string_view(&document, json_member(&document, 0, "ALLOWED_ORIGINS"), &scratch), "['*']"));
    assert_int_equal(json_parse(&document, server, (size_t)(common - server), 3, 10000), JSON_OK);
    assert_true(
        slice_equals_string(json_string_view(&document, json_member(&document, 0, "BROADCAST_URI"), &scratch),
            "kafka://***@h:9092?token=***"));
    assert_true(slice_equals_string(
        json_string_view(&document, json_member(&document, 0, "AUTH_MASTER_TOKEN"), &scratch), "***"));
    assert_true(slice_equals_string(
        json_string_view(&document, json_member(&document, 0, "AUTH_PRIVATE_KEY"), &scratch), "None"));
    assert_true(slice_equals_string(
        json_string_view(&document, json_member(&document, 0, "GRACE_SECONDS"), &scratch), "25.0"));
    assert_true(slice_equals_string(
        json_string_view(
            &document, json_member(&document, 0, "BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS"), &scratch),
        "30.0"));
    /* sorted, as the reference prints them */
    char before[128] = "";
    for (uint32_t i = 1; i < document.tokens[0].next; i = document.tokens[i + 1].next) {
        struct slice key = json_string_view(&document, i, &scratch);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)key.length, key.data);
        assert_true(strcmp(before, name) < 0);
        memcpy(before, name, sizeof before);
    }
    free(text);
    text_free(&scratch);
    json_free(&document);
}

static void problems_show_no_secrets(void **state)
{
    (void)state;
    setenv("OPAL_DATA_CONFIG_SOURCES", "hunter2", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_null(strstr(problems.data, "hunter2"));
}

/* ---- what fits together ---- */

static void cross_checks(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--event-max-bytes=8m", "--uplink-bytes=64m", "--client-queue-max-bytes=16m"), 1);
    assert_problem(
        "OPAL_EVENT_MAX_BYTES=8388608 does not fit OPAL_RING_BYTES=67108864: the ring must be at least eight "
        "times the event and 2048 bytes more (67110912)");
    assert_int_equal(LOAD("--event-max-bytes=2m"), 1);
    assert_non_null(strstr(problems.data, "does not fit OPAL_UPLINK_BYTES=4194304"));
    assert_int_equal(LOAD("--client-queue-max-bytes=64k"), 1);
    assert_non_null(strstr(problems.data, "a client could never be sent such an event"));
    assert_int_equal(LOAD("--broadcast-reconnect-backoff-min-seconds=60"), 1);
    assert_int_equal(LOAD("--event-max-bytes=2k"), 1); /* topics of 4096 bytes */
    assert_int_equal(LOAD("--event-max-bytes=16m", "--ring-bytes=256m", "--uplink-bytes=64m",
                         "--client-queue-max-bytes=64m"),
        0);
}

/* Names of the images and of uvicorn, and ports that Kubernetes sets. */
static void names_of_others(void **state)
{
    (void)state;
    setenv("UVICORN_HOST", "0.0.0.0", 1);
    setenv("UVICORN_TIMEOUT_KEEP_ALIVE", "7", 1);
    setenv("OPAL_STATSD_PORT", "tcp://10.0.0.1:8125", 1);
    setenv("UVICORN_PORT", "udp://10.0.0.1:7002", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.host, "0.0.0.0");
    assert_true(options.config.http_keepalive_timeout == 7);
    assert_int_equal(options.config.statsd_port, 8125);
    assert_int_equal(options.config.port, 7002);
    options_report_unused(&options, note, NULL);
    assert_problem(
        "UVICORN_PORT=udp://10.0.0.1:7002 is ignored: Kubernetes sets it for a service of that name\n"
        "OPAL_STATSD_PORT=tcp://10.0.0.1:8125 is ignored: Kubernetes sets it for a service of that name");
    setenv("GUNICORN_KEEP_ALIVE_TIMEOUT", "9", 1);
    setenv("OPAL_SERVER_HOST", "127.0.0.2", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_string_equal(options.config.host, "127.0.0.2");
    assert_true(options.config.http_keepalive_timeout == 9);
    unsetenv("GUNICORN_KEEP_ALIVE_TIMEOUT");
    setenv("UVICORN_ROOT_PATH", "/x/", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_problem("UVICORN_ROOT_PATH='/x/': must begin with / and not end with it, like /opal");
}

static void what_this_version_refuses(void **state)
{
    (void)state;
    setenv("OPAL_SCOPES", "1", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 1);
    assert_problem("OPAL_SCOPES='1': must be false, this version has no scopes");
    clean(state);
    setenv("OPAL_SCOPES", "off", 1);
    setenv("OPAL_STATISTICS_ENABLED", "true", 1); /* a warning only */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
}

static void all_problems_are_told(void **state)
{
    (void)state;
    setenv("OPAL_LOG_LEVEL", "loud", 1);
    setenv("OPAL_FETCHING_WORKER_COUNT", "many", 1); /* not used, but wrong all the same */
    assert_int_equal(LOAD("--port", "x"), 3);
    assert_problem("--port='x': must be a whole number from 0 to 65535\n"
                   "OPAL_LOG_LEVEL='loud': must be one of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL\n"
                   "OPAL_FETCHING_WORKER_COUNT='many': must be a whole number");
}

static void unknown_variables(void **state)
{
    (void)state;
    setenv("OPAL_BROADCASTURI", "x", 1);
    setenv("OPAL_BROADCAST_URI", "kafka://x", 1);
    setenv("OPAL_BROADCAST_URI_FILE", "", 1);
    setenv("OPAL_BROADCAST_CHANNEL", "x", 1);
    setenv("OPAL_SERVER_PORT", "tcp://x", 1);
    setenv("OPAL_SERVER_PORT_7002_TCP", "x", 1);
    setenv("OPAL_SERVER_SERVICE_HOST", "x", 1);
    unload();
    assert_int_equal(options_report_unknown(note, NULL), 1);
    assert_problem("OPAL_BROADCASTURI: no option of this server has this name");
}

static void unused_differs_only_by_value(void **state)
{
    const struct option *option = option_find("POLICY_REPO_MAIN_BRANCH");
    const struct option *interval = option_find("SCOPES_GIT_FETCH_TIMEOUT");
    (void)state;
    setenv("OPAL_POLICY_REPO_MAIN_BRANCH", "master", 1);
    setenv("OPAL_SCOPES_GIT_FETCH_TIMEOUT", "120", 1); /* the default is written 120.0 */
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_false(options.values[option_index(option)].differs);
    assert_false(options.values[option_index(interval)].differs);
    setenv("OPAL_POLICY_REPO_MAIN_BRANCH", "main", 1);
    assert_int_equal(LOAD_ENVIRONMENT(), 0);
    assert_true(options.values[option_index(option)].differs);
}

/* ---- lists for people ---- */

static void help_and_readme_name_every_option(void **state)
{
    (void)state;
    char *help = printed(options_print_help);
    char *markdown = printed(options_print_markdown);
    for (size_t i = 0; i < options_table_count; i++) {
        char flag[96];
        char variable[96];
        option_flag_name(&options_table[i], flag, sizeof flag);
        option_environment_name(&options_table[i], variable, sizeof variable);
        assert_non_null(strstr(help, flag));
        assert_non_null(strstr(markdown, variable));
    }
    assert_non_null(strstr(help, "check-config"));
    free(help);
    free(markdown);
}

/* ---- processors ---- */

static void put(const char *folder, const char *name, const char *content)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    write_file(path, content, strlen(content));
}

static void cgroup_limits(void **state)
{
    char root[] = "/tmp/opald-test-cgroup-XXXXXX";
    char self[64], middle[64], inner[80];
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(self, sizeof self, "%s/self", root);
    snprintf(middle, sizeof middle, "%s/pod", root);
    snprintf(inner, sizeof inner, "%s/pod/container", root);
    assert_int_equal(mkdir(middle, 0700), 0);
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(worker_count_cgroup_limit(self, root), 0); /* no such file */
    write_file(self, "1:cpu:/x\n0::/pod/container\n", 27);
    assert_int_equal(worker_count_cgroup_limit(self, root), 0); /* no limits */
    put(inner, "cpu.max", "max 100000\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 0);
    put(middle, "cpu.max", "350000 100000\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 4);
    put(inner, "cpu.max", "150000 100000\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 2);
    put(inner, "cpu.max", "10000 100000\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 1);
    put(inner, "cpu.max", "400000 100000\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 4); /* the parent's is lower */
    put(inner, "cpu.max", "nonsense\n");
    put(middle, "cpu.max", "100000 0\n");
    assert_int_equal(worker_count_cgroup_limit(self, root), 0);
    write_file(self, "0::/\n", 5);
    put(root, "cpu.max", "300000 100000\n"); /* a container's own view */
    assert_int_equal(worker_count_cgroup_limit(self, root), 3);
    write_file(self, "0::/../other\n", 13);
    assert_int_equal(worker_count_cgroup_limit(self, root), 3);
    assert_true(worker_count_auto() >= 1);

    char line[256];
    const char *const files[] = {"pod/container/cpu.max", "pod/cpu.max", "cpu.max", "self"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(line, sizeof line, "%s/%s", root, files[i]);
        assert_int_equal(unlink(line), 0);
    }
    rmdir(inner);
    rmdir(middle);
    rmdir(root);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(table_is_consistent),
        TEST(defaults),
        TEST(booleans),
        TEST(whole_numbers),
        TEST(seconds),
        TEST(sizes),
        TEST(lists),
        TEST(file_extensions),
        TEST(enums_levels_and_json),
        TEST(flags_anywhere),
        TEST(flag_mistakes),
        TEST(commands),
        TEST(flag_beats_environment_beats_default),
        TEST(names_of_the_port),
        TEST(names_of_the_workers),
        TEST(names_of_the_channel),
        TEST(routes_follow),
        TEST(secrets_from_files),
        TEST(settings_for_kafka),
        TEST(print_config),
        TEST(problems_show_no_secrets),
        TEST(cross_checks),
        TEST(names_of_others),
        TEST(what_this_version_refuses),
        TEST(all_problems_are_told),
        TEST(unknown_variables),
        TEST(unused_differs_only_by_value),
        TEST(help_and_readme_name_every_option),
        TEST(cgroup_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
