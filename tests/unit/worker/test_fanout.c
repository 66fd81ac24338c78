/* The fan-out of one worker: addresses, order, sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/worker/fixture_client.h"

/* The ids of a notify whose data is `data`; the rest is checked. */
struct notify_ids {
    char subscription[33], channel[33], call[33];
};

static struct notify_ids read_notify(struct fixture *fixture, int fd, const char *topic, const char *data)
{
    struct text got = {0}, end = {0};
    struct notify_ids ids = {0};
    assert_int_equal(client_read(fixture, fd, &got, 3000), 1);
    int read = sscanf(got.data,
        "{\"request\": {\"method\": \"notify\", \"arguments\": {\"subscription\": {\"id\": \"%32[0-9a-f]\", "
        "\"subscriber_id\": \"%32[0-9a-f]\"",
        ids.subscription, ids.channel);
    assert_int_equal(read, 2);
    const char *call = strstr(got.data, "}, \"call_id\": \"");
    assert_non_null(call);
    snprintf(ids.call, sizeof(ids.call), "%.32s", call + 15);
    text_append_format(&end,
        ", \"topic\": \"%s\", \"notifier_id\": null}, \"data\": %s}, \"call_id\": \"%s\"}, \"response\": "
        "null}",
        topic, data, ids.call);
    assert_string_equal(strstr(got.data, ", \"topic\""), end.data);
    text_free(&got);
    text_free(&end);
    return ids;
}

/* One batch with runs of a topic, changes of topic, sizes on both sides of every threshold: each client
 * gets its events in order, with its own ids and a call id that nobody else has; two subscriptions of a
 * client get an event before either gets the next. */
static void test_batch_addresses(void **state)
{
    (void)state;
    enum { CLIENTS = 5, EVENTS = 60 };
    static const size_t sizes[] = {10, 200, 256, 257, 4095, 4096, 4097, 20000};
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 64 << 20;
    fixture_start(&fixture);
    int clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(&fixture);
        client_subscribe(&fixture, clients[i], i == 2 ? "[\"t\"]" : "[\"t\",\"u\"]");
        if (i == 3)
            client_subscribe(&fixture, clients[i], "[\"t\"]");
    }
    struct text data[EVENTS];
    const char *topics[EVENTS];
    for (int i = 0; i < EVENTS; i++) {
        topics[i] = i % 20 < 14 ? "t" : "u";
        data[i] = filler(sizes[i % 8]);
        int length = snprintf(data[i].data + 1, 8, "%03d", i);
        data[i].data[1 + length] = 'z';
        fixture_event_quiet(&fixture, topics[i], NULL, text_slice(&data[i]));
    }
    ring_writer_wake(fixture.ring);
    struct notify_ids all[CLIENTS * EVENTS * 2];
    size_t count = 0;
    for (int i = 0; i < CLIENTS; i++) {
        size_t first = count;
        for (int e = 0; e < EVENTS; e++) {
            bool u = topics[e][0] == 'u';
            if (u && i == 2)
                continue;
            for (int more = i == 3 && !u ? 2 : 1; more > 0; more--) {
                all[count] = read_notify(&fixture, clients[i], topics[e], data[e].data);
                assert_string_equal(all[count].channel, all[first].channel);
                count++;
            }
            if (i == 3 && !u)
                assert_string_not_equal(all[count - 1].subscription, all[count - 2].subscription);
        }
        unsigned ids = 0, ids_wanted = i == 2 ? 1 : i == 3 ? 3 : 2;
        for (size_t a = first; a < count; a++) {
            size_t b = first;
            while (strcmp(all[a].subscription, all[b].subscription) != 0)
                b++;
            ids += a == b;
        }
        assert_int_equal(ids, ids_wanted);
        for (size_t other = 0; other < first; other++) {
            assert_string_not_equal(all[other].channel, all[first].channel);
            assert_string_not_equal(all[other].subscription, all[first].subscription);
        }
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(all[i].call, all[j].call);
    assert_int_equal(fixture_counter(&fixture, COUNTER_DELIVERIES), count);
    for (int i = 0; i < EVENTS; i++)
        text_free(&data[i]);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    fixture_stop(&fixture);
}

/* Half of a message of this many bytes, behind its head with a mask of zeros. */
static void say_half(int fd, size_t length)
{
    struct text half = {0};
    uint8_t head[14] = {0x81, 0x80 | 127};
    for (unsigned i = 0; i < 8; i++)
        head[2 + i] = (uint8_t)((uint64_t)length >> (56 - 8 * i));
    text_append(&half, head, sizeof(head));
    for (size_t i = 0; i < length / 2; i++)
        text_append_char(&half, ' ');
    client_write(fd, half.data, half.length);
    text_free(&half);
}

static void wait_for_over_memory(struct fixture *fixture)
{
    for (int i = 0; i < 1000 && fixture_counter(fixture, COUNTER_CLIENTS_OVER_MEMORY) == 0; i++)
        usleep(5000);
    assert_true(fixture_counter(fixture, COUNTER_CLIENTS_OVER_MEMORY) > 0);
}

/* Reads all there is; true when it is closed. Who reads its rest too slowly does not see the close frame. */
static bool is_closed_busy(struct fixture *fixture, int fd)
{
    struct text got = {0};
    int opcode;
    while ((opcode = client_read(fixture, fd, &got, 300)) == 1)
        continue;
    if (opcode == 8)
        assert_memory_equal(got.data, "\x03\xf5server busy", 13);
    text_free(&got);
    return opcode != -2;
}

/* Each is within its own limit, all together are not: the greatest goes, the others are not touched. */
static void test_unfinished_messages(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.websocket_message_max_bytes = 8 << 20;
    fixture.config.client_queue_max_bytes = 1 << 20;
    fixture.config.clients_memory_max_bytes = 6 << 20;
    fixture_start(&fixture);
    int quiet = client_open(&fixture), small = client_open(&fixture), large[4];
    client_subscribe(&fixture, quiet, "[\"t\"]");
    client_subscribe(&fixture, small, "[\"t\"]");
    say_half(small, 200000);
    for (int i = 0; i < 4; i++) {
        large[i] = client_open(&fixture);
        say_half(large[i], (size_t)(3000000 + 100000 * i));
    }
    wait_for_over_memory(&fixture);
    fixture_event(&fixture, "t", NULL, SLICE_LITERAL("1"));
    read_notify(&fixture, quiet, "t", "1");
    read_notify(&fixture, small, "t", "1");
    assert_in_range(fixture_counter(&fixture, COUNTER_CLIENTS_OVER_MEMORY), 1, 4);
    unsigned closed = 0;
    for (int i = 0; i < 4; i++) {
        if (client_byte(&fixture, large[i], 200) != -2)
            closed++;
        close(large[i]);
    }
    assert_int_equal(closed, fixture_counter(&fixture, COUNTER_CLIENTS_OVER_MEMORY));
    close(quiet);
    close(small);
    fixture_stop(&fixture);
}

static void test_unread_output(void **state)
{
    (void)state;
    enum { SLOW = 6 };
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 1 << 20;
    fixture.config.clients_memory_max_bytes = 3 << 20;
    fixture_start(&fixture);
    int slow[SLOW], quick = client_open(&fixture);
    client_subscribe(&fixture, quick, "[\"t\"]");
    for (int i = 0; i < SLOW; i++) {
        slow[i] = client_open_buffer(&fixture, 4096);
        client_subscribe(&fixture, slow[i], "[\"t\"]");
    }
    struct text data = filler(250); /* so small that each client's queue has its own copy */
    for (int i = 0; i < 40000 && fixture_counter(&fixture, COUNTER_CLIENTS_OVER_MEMORY) == 0; i += 50) {
        for (int j = 0; j < 50; j++)
            fixture_event_quiet(&fixture, "t", NULL, text_slice(&data));
        ring_writer_wake(fixture.ring);
        for (int j = 0; j < 50; j++)
            read_notify(&fixture, quick, "t", data.data);
    }
    wait_for_over_memory(&fixture);
    assert_int_equal(fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW), 0);
    fixture_event(&fixture, "t", NULL, SLICE_LITERAL("2"));
    read_notify(&fixture, quick, "t", "2");
    unsigned closed = 0;
    for (int i = 0; i < SLOW; i++) {
        closed += is_closed_busy(&fixture, slow[i]);
        close(slow[i]);
    }
    assert_int_equal(closed, fixture_counter(&fixture, COUNTER_CLIENTS_OVER_MEMORY));
    assert_true(closed < SLOW);
    assert_true(fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED) > 0);
    text_free(&data);
    close(quick);
    fixture_stop(&fixture);
}

/* Reads so many bytes, a megabyte at a time with a rest in between; 0 when they came. */
static int read_at_leisure(int fd, size_t wanted)
{
    static char buffer[1 << 20];
    size_t got = 0, rested = 0;
    while (got < wanted) {
        ssize_t length = recv(fd, buffer, sizeof(buffer), 0);
        if (length <= 0)
            return 1;
        got += (size_t)length;
        if (got - rested > sizeof(buffer)) {
            rested = got;
            usleep(10000);
        }
    }
    return 0;
}

/* Far more than a client's limit comes at once, as after an outage of the backbone: one that reads fast,
 * if slower than that, keeps its connection. One that does not read loses it all the same, and keeps
 * nobody waiting. */
static void test_flood(void **state)
{
    (void)state;
    enum { EVENTS = 60000 };
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 4 << 20;
    fixture_start(&fixture);
    int reader = client_open(&fixture), stuck = client_open_buffer(&fixture, 4096);
    client_subscribe(&fixture, reader, "[\"t\"]");
    client_subscribe(&fixture, stuck, "[\"t\"]");
    struct text data = filler(1000);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(read_at_leisure(reader, (size_t)EVENTS * data.length));
    for (int i = 0; i < EVENTS; i++) {
        fixture_event_quiet(&fixture, "t", NULL, text_slice(&data));
        if (i % 64 == 63)
            ring_writer_wake(fixture.ring);
    }
    ring_writer_wake(fixture.ring);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW), 1);
    text_free(&data);
    close(reader);
    close(stuck);
    fixture_stop(&fixture);
}

/* ---- whose turn it is ---- */

/* The socket that this program or its worker sent to last. In place of libc's, so that the worker's sends
 * are seen. */
static _Atomic int *last_sent;

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    if (last_sent)
        *last_sent = fd;
    return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (last_sent)
        *last_sent = fd;
    return syscall(SYS_sendmsg, fd, message, flags);
}

/* Bursts of as many events as there are subscribers: they take turns in being the last one that is served. */
static void test_turns_in_bursts(void **state)
{
    (void)state;
    enum { CLIENTS = 8, BURSTS = 2 * CLIENTS };
    struct fixture fixture;
    unsigned turns[1024] = {0}, clients_served = 0;
    int clients[CLIENTS];
    last_sent = mmap(NULL, sizeof(*last_sent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal((void *)last_sent, MAP_FAILED);
    fixture_config(&fixture);
    fixture_start(&fixture);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(&fixture);
        client_subscribe(&fixture, clients[i], "[\"t\"]");
    }
    for (unsigned burst = 1; burst <= BURSTS; burst++) {
        for (int i = 0; i < CLIENTS; i++)
            fixture_event_quiet(&fixture, "t", NULL, SLICE_LITERAL("1"));
        ring_writer_wake(fixture.ring);
        for (int tries = 0; fixture_counter(&fixture, COUNTER_DELIVERIES) < burst * CLIENTS * CLIENTS;
             tries++) {
            assert_true(tries < 5000);
            usleep(1000);
        }
        assert_true(*last_sent >= 0 && *last_sent < 1024);
        turns[*last_sent]++;
    }
    for (int fd = 0; fd < 1024; fd++) {
        clients_served += turns[fd] > 0;
        assert_true(turns[fd] <= BURSTS / 2); /* two each, when no burst was read in two parts */
    }
    assert_true(clients_served > CLIENTS / 2);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    fixture_stop(&fixture);
    munmap((void *)last_sent, sizeof(*last_sent));
    last_sent = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_in_bursts),
        cmocka_unit_test(test_batch_addresses),
        cmocka_unit_test(test_unfinished_messages),
        cmocka_unit_test(test_unread_output),
        cmocka_unit_test(test_flood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
