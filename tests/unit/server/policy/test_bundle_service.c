/* A worker asks for bundles over the link: the answers with their descriptors, and what is counted. The
 * builder is this program, started as the policy process starts it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/link/bundle_link.h"
#include "shm/link/policy_socket.h"
#include "shm/worker_table.h"
#include "server/policy/bundle/bundle_child.h"
#include "server/policy/bundle_service.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"

static char *extension_items[] = {".rego", ".json"};

static struct config config_of(void)
{
    return (struct config){.filter_file_extensions = {extension_items, 2},
        .policy_extensions = {extension_items, 1},
        .bundle_max_bytes = 100000,
        .bundle_files_max = 100,
        .bundle_path_max_bytes = 1000,
        .bundle_cache_bytes = 100000,
        .bundle_waiting_max = 10,
        .bundle_build_seconds = 10};
}

static struct config config;
static struct policy policy;
static struct policy_server *server;
static struct bundle_service *service;
static int worker;
static struct harness_repository repository;

static void on_webhook(void *context)
{
    (void)context;
}

static void on_request(void *context, policy_peer peer, uint64_t id, struct slice body)
{
    (void)context;
    bundle_service_request(service, peer, id, body);
}

static void on_gone(void *context, policy_peer peer)
{
    (void)context;
    (void)peer;
}

static int begin(void **state)
{
    const struct segment_settings settings = {.ring_bytes = 65536, .uplink_bytes = 65536, .slots = 1};
    const struct policy_server_hooks hooks = {
        .webhook = on_webhook, .bundle_request = on_request, .peer_gone = on_gone};
    char address[POLICY_ADDRESS_MAX];
    struct error err = {0};
    (void)state;
    harness_log_begin();
    harness_repository_open(&repository);
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a.rego", "package a", 0, 0}, {NULL, NULL, 0, 0}});
    config = config_of();
    policy = (struct policy){
        .config = &config, .segment = segment_create(&settings, &err), .base = event_base_new()};
    assert_non_null(policy.segment);
    worker_table_set_pid(policy.segment, 0, (int32_t)getpid());
    int listener = policy_socket_listen(address, &err);
    assert_true(listener >= 0);
    server = policy_server_open(policy.base, listener, policy.segment, &hooks);
    service = bundle_service_open(&policy, server);
    worker = policy_socket_connect(address);
    assert_true(worker >= 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    bundle_service_close(service);
    policy_server_close(server);
    event_base_free(policy.base);
    segment_close(policy.segment);
    close(worker);
    harness_repository_close(&repository);
    (void)harness_log_end();
    return 0;
}

static void run_for(unsigned milliseconds)
{
    uint64_t stop = clock_monotonic_ns() + milliseconds * CLOCK_MILLISECOND;
    while (clock_monotonic_ns() < stop) {
        const struct timeval most = {0, 10 * 1000};
        event_base_loopexit(policy.base, &most);
        event_base_loop(policy.base, EVLOOP_ONCE);
    }
}

static void ask(uint64_t id, struct slice body)
{
    assert_int_equal(policy_socket_send(worker, POLICY_MESSAGE_BUNDLE_REQUEST, id, body, -1), POLICY_SENT);
}

/* The next answer, within ten seconds; its detail is at the end of `detail`. */
static struct bundle_link_answer answer(uint64_t id, int *descriptor, char detail[256])
{
    static char buffer[POLICY_PACKET_MAX] __attribute__((aligned(8)));
    struct bundle_link_answer head = {0};
    struct policy_message message;
    for (unsigned i = 0; i < 500; i++) {
        enum policy_received received = policy_socket_receive(worker, buffer, &message);
        assert_int_not_equal(received, POLICY_CLOSED);
        if (received == POLICY_RECEIVED && message.head.type == POLICY_MESSAGE_BUNDLE_ANSWER) {
            assert_int_equal(message.head.id, id);
            assert_true(message.body.length >= sizeof head);
            memcpy(&head, message.body.data, sizeof head);
            size_t length = message.body.length - sizeof head;
            memcpy(detail, message.body.data + sizeof head, length < 255 ? length : 255);
            detail[length < 255 ? length : 255] = '\0';
            *descriptor = message.descriptor;
            return head;
        }
        run_for(20);
    }
    fail_msg("no answer");
    return head;
}

static void test_answers(void **state)
{
    char detail[256];
    int descriptor;
    (void)state;
    ask(7, SLICE_LITERAL("client\0\0"));
    struct bundle_link_answer head = answer(7, &descriptor, detail);
    assert_int_equal(head.status, 503);
    assert_int_equal(descriptor, -1);
    assert_string_equal(detail, "policy repo was not found");
    bundle_service_set_head(service, repository.folder, repository.head);
    /* The client, the base, then the paths; each with a NUL behind it. */
    ask(8, SLICE_LITERAL("client\0\0a.rego/..\0"));
    head = answer(8, &descriptor, detail);
    assert_int_equal(head.status, 404);
    assert_string_equal(detail, "requested path a.rego/.. was not found in the policy repo!");
    for (uint64_t id = 9; id < 11; id++) {
        ask(id, SLICE_LITERAL("client\0\0"));
        head = answer(id, &descriptor, detail);
        assert_int_equal(head.status, 200);
        assert_string_equal(head.head, repository.head);
        assert_int_equal(strlen(head.tag), BUNDLE_LINK_TAG_BYTES - 1);
        char *body = mmap(NULL, head.json_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
        assert_ptr_not_equal(body, MAP_FAILED);
        assert_memory_equal(body, "{\"manifest\":[\"a.rego\"],", 23);
        munmap(body, head.json_bytes);
        close(descriptor);
    }
    assert_int_equal(counter_read(policy.segment, 0, COUNTER_BUNDLES_BUILT), 1);
    assert_int_equal(counter_read(policy.segment, 0, COUNTER_BUNDLES_SHARED), 1);
}

/* No worker sends such a body; it is no reason to fall over or to answer. */
static void test_a_body_without_an_end(void **state)
{
    char detail[256];
    int descriptor;
    (void)state;
    bundle_service_set_head(service, repository.folder, repository.head);
    ask(1, SLICE_LITERAL("base"));
    ask(2, SLICE_LITERAL("client\0"));
    ask(3, SLICE_LITERAL("client\0\0"));
    struct bundle_link_answer head = answer(3, &descriptor, detail);
    assert_int_equal(head.status, 200);
    close(descriptor);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--as-bundle-builder") == 0) {
        const struct config builders = config_of();
        return bundle_child_main(&builders);
    }
    /* The builder gets this process's arguments with the first one replaced. */
    if (argc == 1) {
        char *again[] = {argv[0], (char[]){"--as-policy"}, NULL};
        execv("/proc/self/exe", again);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_answers, begin, end),
        cmocka_unit_test_setup_teardown(test_a_body_without_an_end, begin, end)};
    return cmocka_run_group_tests_name("server/policy/bundle_service", tests, NULL, NULL);
}
