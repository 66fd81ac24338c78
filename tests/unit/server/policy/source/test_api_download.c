/* Downloads from a server of the test's own: what is asked, versions, limits; and the fetcher that makes a
 * commit of one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "server/policy/source/api_download.h"
#include "server/policy/source/api_fetch.h"

/* ---- the server: a child that answers one request and writes the request to a file ---- */

static int listener = -1, asked = -1;
static char url[64];
static pid_t server;

static void serve(const char *answer, size_t length)
{
    char request[4096];
    assert_int_equal(ftruncate(asked, 0), 0);
    server = fork();
    if (server != 0)
        return;
    int connection = accept(listener, NULL, NULL);
    size_t have = 0;
    while (have < sizeof request - 1) {
        ssize_t got = read(connection, request + have, sizeof request - 1 - have);
        if (got <= 0)
            break;
        have += (size_t)got;
        request[have] = '\0';
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    if (pwrite(asked, request, have, 0) != (ssize_t)have ||
        write(connection, answer, length) != (ssize_t)length)
        _exit(1);
    _exit(0);
}

static const char *request(void)
{
    static char text[4097];
    waitpid(server, NULL, 0);
    ssize_t length = pread(asked, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return text;
}

static int begin(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    (void)state;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/b", (unsigned)ntohs(address.sin_port));
    asked = memfd_create("asked", MFD_CLOEXEC);
    return 0;
}

static int end(void **state)
{
    (void)state;
    close(listener);
    close(asked);
    return 0;
}

static struct config config_of(void)
{
    return (struct config){.policy_bundle_url = url,
        .policy_bundle_server_type = "HTTP",
        .policy_bundle_server_aws_region = "r",
        .policy_bundle_git_add_pattern = "*",
        .policy_bundle_max_bytes = 1000,
        .policy_bundle_unpacked_max_bytes = 10000,
        .policy_bundle_max_files = 10};
}

struct row {
    const char *answer;
    const char *known;
    /* NULL: it is an error, with that text. */
    const char *version;
    const char *error;
    bool unchanged;
};

static const struct row rows[] = {
    {.answer = "HTTP/1.1 200 OK\r\nETag:  \"v1\" \r\nContent-Length: 4\r\n\r\nbody",
        .known = "",
        .version = "etag:\"v1\""},
    {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        .known = "",
        .version = "sha256:230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"},
    {.answer = "HTTP/1.1 304 Not Modified\r\n\r\n",
        .known = "etag:\"v1\"",
        .version = "etag:\"v1\"",
        .unchanged = true},
    {.answer = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 4\r\n\r\nbody",
        .known = "etag:\"v1\"",
        .version = "etag:\"v1\"",
        .unchanged = true},
    {.answer = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        .known = "",
        .error = "requested url not found"},
    {.answer = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
        .known = "",
        .error = "the bundle server answered with status 503"},
    {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",
        .known = "",
        .error = "server connection error: "},
};

static void test_answers(void **state)
{
    const struct config config = config_of();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct api_download download = {0};
        struct error err = {0};
        int file = memfd_create("body", MFD_CLOEXEC);
        serve(rows[i].answer, strlen(rows[i].answer));
        int result = api_download_run(&download, &config, rows[i].known, file, &err);
        const char *said = request();
        assert_non_null(strstr(said, "GET /b/bundle.tar.gz HTTP/1.1\r\n"));
        assert_int_equal(strstr(said, "If-None-Match: \"v1\"\r\n") != NULL, rows[i].known[0] != '\0');
        assert_int_equal(result, rows[i].version ? 0 : -1);
        if (rows[i].version)
            assert_string_equal(text_slice(&download.version).data, rows[i].version);
        else
            assert_non_null(strstr(err.text, rows[i].error));
        assert_int_equal(download.unchanged, rows[i].unchanged);
        api_download_free(&download);
        close(file);
    }
}

static void test_too_large_and_token(void **state)
{
    static char answer[2000] = "HTTP/1.1 200 OK\r\n\r\n";
    struct config config = config_of();
    struct api_download download = {0};
    struct error err = {0};
    (void)state;
    memset(answer + strlen(answer), 'x', 1500);
    config.policy_bundle_server_token = "token";
    int file = memfd_create("body", MFD_CLOEXEC);
    serve(answer, strlen(answer));
    assert_int_equal(api_download_run(&download, &config, "", file, &err), -1);
    assert_non_null(strstr(err.text, "more than 1000 bytes (OPAL_POLICY_BUNDLE_MAX_BYTES)"));
    assert_true(lseek(file, 0, SEEK_END) <= 1000);
    assert_non_null(strstr(request(), "Authorization: Bearer token\r\n"));
    api_download_free(&download);
    close(file);
}

/* The fetcher from end to end: an archive becomes a commit, and three lines say so. */
static void test_fetcher(void **state)
{
    char folder[] = "/tmp/opald-test-fetch-XXXXXX", command[512], archive[4096], output[256] = "";
    const struct config config = config_of();
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command,
        "cd %s && mkdir b && echo 'package a' >b/a.rego && tar -czf a.tar.gz -C b a.rego && rm -r b", folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/a.tar.gz", folder);
    size_t head = (size_t)snprintf(archive, sizeof archive, "HTTP/1.1 200 OK\r\nETag: \"v2\"\r\n\r\n");
    int file = open(command, O_RDONLY);
    ssize_t length = read(file, archive + head, sizeof archive - head);
    close(file);
    assert_true(length > 0);
    snprintf(command, sizeof command, "%s/repository", folder);
    setenv(API_FETCH_REPOSITORY, command, 1);
    setenv(API_FETCH_FOLDER, folder, 1);
    setenv(API_FETCH_VERSION, "", 1);
    serve(archive, head + (size_t)length);
    file = memfd_create("output", MFD_CLOEXEC);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(file, STDOUT_FILENO);
        _exit(api_fetch_main(&config));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)request();
    assert_int_equal(status, 0);
    assert_true(pread(file, output, sizeof output - 1, 0) > 0);
    close(file);
    assert_int_equal(strncmp(output, "new\netag:\"v2\"\n", 14), 0);
    snprintf(command, sizeof command, "test \"$(git -C %s/repository rev-parse refs/heads/master)\" = %.40s",
        folder, output + 14);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_answers), TEST(test_too_large_and_token), TEST(test_fetcher)};
    return cmocka_run_group_tests_name("server/policy/source/api_download, api_fetch", tests, NULL, NULL);
}
