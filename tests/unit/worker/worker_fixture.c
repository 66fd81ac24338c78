#include "tests/unit/worker/worker_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/uplink.h"
#include "worker/worker.h"

/* There with SAN=address and SAN=coverage only: the worker's process ends by _exit, so its leaks are looked
 * for, and its counts are written, here. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
extern void __gcov_dump(void) __attribute__((weak));

void fixture_config(struct fixture *fixture)
{
    *fixture = (struct fixture){
        .config =
            {
                .grace_seconds = 5,
                .limits.event_max_bytes = 4 << 20,
                .limits.json_max_depth = 100,
                .limits.json_max_tokens = 100000,
                .limits.topics_max = 64,
                .limits.topic_max_bytes = 200,
                .http_header_max_bytes = 65536,
                .http_header_max_count = 100,
                .http_body_max_bytes = 1 << 20,
                .http_header_timeout = 5,
                .http_body_timeout = 5,
                .http_keepalive_timeout = 5,
                .data_config_route = "/data/config",
                .all_data_route = "/policy-data",
                .all_data_topic = "policy_data",
                .all_data_url = "http://localhost:7002/policy-data",
                .data_callback_default_route = "/data/callback_report",
                .auth_jwks_url = "/.well-known/jwks.json",
                .connections_max = 1000,
                .websocket_message_max_bytes = 16 << 20,
                .subscriptions_max = 100,
                .client_queue_max_bytes = 1 << 20,
                .clients_memory_max_bytes = 1 << 30,
                .client_queue_max_seconds = 30,
                .websocket_ping_interval = 20,
                .websocket_ping_timeout = 20,
                .drain_batch_records = 64,
                .drain_batch_bytes = 4 << 20,
                .limits.purge_channel = "__opal_scope_purge__",
            },
    };
}

void fixture_launch(struct fixture *fixture)
{
    struct segment_settings settings = {.ring_bytes = 16 << 20, .uplink_bytes = 1 << 20, .slots = 2};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    struct log_settings quiet = {.level = LOG_CRITICAL};
    struct error err = {0};
    if (getenv("OPALD_TEST_LOG"))
        quiet.level = LOG_DEBUG;
    log_configure(&quiet);
    fixture->segment = segment_create(&settings, &err);
    assert_non_null(fixture->segment);
    assert_int_equal(uplink_prepare(fixture->segment, 0, &err), 0);
    event_limit_write(fixture->segment, fixture->config.limits.event_max_bytes);
    worker_table_next_incarnation(fixture->segment, 0);
    fixture->ring = ring_writer_open(fixture->segment);
    ring_writer_activate(fixture->ring, 0);
    fixture->uplink = uplink_open(fixture->segment, 0);
    fixture->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fixture->listener, 128), 0);
    getsockname(fixture->listener, (struct sockaddr *)&address, &length);
    fixture->port = ntohs(address.sin_port);
    assert_int_equal(pipe(fixture->lifeline), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fixture->pairs[i]), 0);
    fixture->pid = fork();
    if (fixture->pid == 0) {
        close(fixture->lifeline[1]);
        struct worker_descriptors descriptors = {
            .segment = segment_descriptors(fixture->segment, 0),
            .slot = 0,
            .listeners = {fixture->listener},
            .listener_count = 1,
            .lifeline = fixture->lifeline[0],
            .tls_store = -1,
            .handoff_receive = fixture->pairs[0][0],
            .handoff_send = {fixture->pairs[0][1], fixture->pairs[1][1]},
            .slot_count = 2,
        };
        int status = worker_main(&fixture->config, &descriptors);
        if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0)
            status = 99;
        if (__gcov_dump)
            __gcov_dump();
        _exit(status);
    }
    close(fixture->lifeline[0]);
}

void fixture_start(struct fixture *fixture)
{
    fixture_launch(fixture);
    while (worker_table_state(fixture->segment, 0) != WORKER_READY)
        usleep(1000);
}

int fixture_wait(struct fixture *fixture, int milliseconds)
{
    int status;
    for (; milliseconds > 0; milliseconds -= 5) {
        if (waitpid(fixture->pid, &status, WNOHANG) == fixture->pid) {
            fixture->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        usleep(5000);
    }
    return -1;
}

void fixture_stop(struct fixture *fixture)
{
    if (fixture->pid > 0) {
        kill(fixture->pid, SIGINT);
        assert_int_equal(fixture_wait(fixture, 5000), 0);
    }
    if (fixture->lifeline[1] >= 0)
        close(fixture->lifeline[1]);
    for (int i = 0; i < 2; i++) {
        close(fixture->pairs[i][0]);
        close(fixture->pairs[i][1]);
    }
    close(fixture->listener);
    uplink_close(fixture->uplink);
    ring_writer_close(fixture->ring);
    segment_close(fixture->segment);
}

uint64_t fixture_counter(const struct fixture *fixture, enum counter counter)
{
    return counter_read(fixture->segment, 0, counter);
}

void *fixture_reserve(struct fixture *fixture, enum ring_type type, uint32_t length)
{
    void *body;
    for (int tries = 0; (body = ring_writer_reserve(fixture->ring, type, length)) == NULL; tries++) {
        assert_true(tries < 5000);
        usleep(1000);
    }
    return body;
}

void fixture_pump(struct fixture *fixture)
{
    struct uplink_record record;
    bool corrupt = false;
    while (!fixture->hold && uplink_next(fixture->uplink, &record, &corrupt)) {
        struct ring_event event;
        assert_true(ring_event_decode(record.body, record.length, &event));
        fixture->acknowledgement = (struct ring_acknowledgement){
            .ticket = event.ticket, .origin = event.origin, .incarnation = event.incarnation, .ok = 1};
        fixture->flags = event.flags;
        if (fixture->refuse) {
            struct ring_refusal refusal = {.ticket = event.ticket,
                .origin = event.origin,
                .incarnation = event.incarnation,
                .reason = RING_REFUSED_BACKBONE};
            memcpy(fixture_reserve(fixture, RING_REFUSED, sizeof(refusal)), &refusal, sizeof(refusal));
        } else {
            memcpy(fixture_reserve(fixture, RING_EVENT, record.length), record.body, record.length);
        }
        ring_writer_commit(fixture->ring);
        uplink_release(fixture->uplink);
    }
    assert_false(corrupt);
    ring_writer_wake(fixture->ring);
}

struct text filler(size_t length)
{
    struct text data = {0};
    text_append_char(&data, '"');
    while (data.length < length - 1)
        text_append_char(&data, (char)('a' + data.length % 23));
    text_append_char(&data, '"');
    return data;
}

void fixture_event_quiet(struct fixture *fixture, const char *topic, const char *notifier, struct slice data)
{
    struct slice name = slice_from_string(topic);
    struct ring_event event = {
        .origin = RING_EVENT_NO_WORKER, .entered_ns = clock_monotonic_ns(), .topic_count = 1, .data = data};
    if (notifier && identity_parse(slice_from_string(notifier), &event.notifier))
        event.flags |= RING_EVENT_HAS_NOTIFIER;
    ring_event_encode(
        fixture_reserve(fixture, RING_EVENT, ring_event_encoded_size(&name, 1, data)), &event, &name);
    ring_writer_commit(fixture->ring);
}

void fixture_event(struct fixture *fixture, const char *topic, const char *notifier, struct slice data)
{
    fixture_event_quiet(fixture, topic, notifier, data);
    ring_writer_wake(fixture->ring);
}
