/* What the policy process and its builder say to each other, and the builder's serving of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server/policy/bundle/bundle_child.h"
#include "server/policy/bundle/bundle_wire.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"

static void append_request(struct text *out)
{
    static const struct slice paths[] = {SLICE_LITERAL("a"), SLICE_LITERAL("")};
    const struct bundle_request request = {
        .repository = "/r", .head = "h", .paths = paths, .path_count = 2, .base = SLICE_LITERAL("b")};
    bundle_wire_request_write(&request, out);
}

static void test_request(void **state)
{
    struct text text = {0};
    struct bundle_request request;
    struct slice paths[2];
    (void)state;
    append_request(&text);
    assert_int_equal(bundle_wire_request_read(text_slice(&text), paths, 2, &request), 0);
    assert_string_equal(request.repository, "/r");
    assert_string_equal(request.head, "h");
    assert_true(slice_equals_string(request.base, "b"));
    assert_int_equal(request.path_count, 2);
    assert_true(slice_equals_string(request.paths[0], "a"));
    assert_int_equal(request.paths[1].length, 0);
    /* Too many paths, a cut, more than there should be, another magic number. */
    assert_int_equal(bundle_wire_request_read(text_slice(&text), paths, 1, &request), -1);
    for (size_t length = 0; length < text.length; length++)
        assert_int_equal(bundle_wire_request_read((struct slice){text.data, length}, paths, 2, &request), -1);
    text_append_char(&text, 'x');
    assert_int_equal(bundle_wire_request_read(text_slice(&text), paths, 2, &request), -1);
    text.length--;
    text.data[0] ^= 1;
    assert_int_equal(bundle_wire_request_read(text_slice(&text), paths, 2, &request), -1);
    text_free(&text);
}

static void test_reply(void **state)
{
    struct bundle_result result = {
        .status = 200, .files = 3, .repaired = 1, .body = {.json_bytes = 5, .gzip_bytes = 4, .tag = "t"}};
    struct bundle_reply reply;
    struct text text = {0};
    (void)state;
    bundle_wire_reply_write(&result, 77, &text);
    int descriptor = dup(STDIN_FILENO);
    assert_int_equal(bundle_wire_reply_read(text_slice(&text), descriptor, &reply), 0);
    assert_int_equal(reply.descriptor, descriptor);
    assert_int_equal(reply.head.json_bytes, 5);
    assert_int_equal(reply.head.gzip_bytes, 4);
    assert_int_equal(reply.head.files, 3);
    assert_int_equal(reply.head.repaired, 1);
    assert_int_equal(reply.head.build_ns, 77);
    assert_string_equal(reply.head.tag, "t");
    /* A body without its descriptor; a descriptor with what makes no sense is closed. */
    assert_int_equal(bundle_wire_reply_read(text_slice(&text), -1, &reply), -1);
    memset(text.data + offsetof(struct bundle_wire_reply, tag), 'x', sizeof reply.head.tag);
    assert_int_equal(bundle_wire_reply_read(text_slice(&text), descriptor, &reply), -1);
    assert_int_equal(close(descriptor), -1);
    text_free(&text);
    result = (struct bundle_result){.status = 404};
    text_append_string(&result.detail, "not there");
    bundle_wire_reply_write(&result, 0, &text);
    assert_int_equal(bundle_wire_reply_read(text_slice(&text), -1, &reply), 0);
    assert_true(slice_equals_string(reply.detail, "not there"));
    assert_int_equal(
        bundle_wire_reply_read((struct slice){text.data, sizeof reply.head - 1}, -1, &reply), -1);
    text_free(&text);
    text_free(&result.detail);
}

static int serve(const char *bytes, size_t length, struct bundle_reply *reply, struct text *buffer)
{
    static char *items[] = {".rego"};
    const struct config_list list = {items, 1}, none = {0};
    const struct bundle_rules rules = {.extensions = &list, .policy_extensions = &list, .ignore = &none};
    const struct bundle_limits limits = {.bytes = 10000, .files = 10, .path_bytes = 100};
    struct error err = {0};
    int ends[2], status, descriptor = -1;
    assert_int_equal(bundle_wire_pair(ends, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        _exit(bundle_child_serve(ends[1], &rules, &limits));
    }
    close(ends[1]);
    if (length > 0)
        assert_int_equal(bundle_wire_send(ends[0], (struct slice){bytes, length}, -1), 0);
    if (length > 0 && bundle_wire_receive(ends[0], buffer, &descriptor) > 0)
        assert_int_equal(bundle_wire_reply_read(text_slice(buffer), descriptor, reply), 0);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_child(void **state)
{
    struct harness_repository repository;
    struct bundle_reply reply = {.descriptor = -1};
    struct text text = {0}, buffer = {0};
    (void)state;
    harness_repository_open(&repository);
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a.rego", "package a", 0, 0}, {NULL, NULL, 0, 0}});
    const struct bundle_request request = {
        .repository = repository.folder, .head = repository.head, .base = SLICE_LITERAL("")};
    bundle_wire_request_write(&request, &text);
    assert_int_equal(serve(text.data, text.length, &reply, &buffer), 0);
    assert_int_equal(reply.head.status, 200);
    assert_int_equal(reply.head.files, 1);
    assert_int_equal(lseek(reply.descriptor, 0, SEEK_END), reply.head.json_bytes + reply.head.gzip_bytes);
    close(reply.descriptor);
    /* The end of the socket is its end; a request that can't be read is too, with an error. */
    assert_int_equal(serve(NULL, 0, &reply, &buffer), 0);
    harness_log_begin();
    int status = serve("junk", 4, &reply, &buffer);
    assert_non_null(strstr(harness_log_end(), "a request that it can't read"));
    assert_int_equal(status, 1);
    text_free(&text);
    text_free(&buffer);
    harness_repository_close(&repository);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request), cmocka_unit_test(test_reply), cmocka_unit_test(test_child)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_wire, bundle_child", tests, NULL, NULL);
}
