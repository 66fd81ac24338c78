/*
 * The baseline: what the kernel alone costs. Pre-forked workers accept the same websockets as a real
 * server (the handshake is a fixed text, the subscription is not looked at), write the same bytes to every
 * client by write(2) and read and drop the same replies. An event comes to each worker as one packet on a
 * Unix socket, so no process stands between: no routing, no checking, one frame for all clients. Below
 * this a server can only get by making fewer system calls.
 *
 *   bare --port P [--workers N] [--topic T] [--coalesce]
 *
 * Without --coalesce each event is one write(2) a client; with it all events that wait are joined and go
 * out in one. Ends on SIGTERM.
 */
#include "tests/bench/bare.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENT_MAX   (1U << 20)
#define BATCH_MAX   (4U << 20)
#define DESCRIPTORS 65536U

enum client_state { CLIENT_NONE, CLIENT_NEW, CLIENT_SHAKEN, CLIENT_SUBSCRIBED };

struct worker {
    int loop;
    int listener;
    int packets_listener;
    /* the publisher's connection */
    int packets;
    bool coalesce;
    const char *topic;
    /* enum client_state by descriptor */
    unsigned char state[DESCRIPTORS];
    /* those that are subscribed, dense */
    int clients[DESCRIPTORS];
    /* of a descriptor in clients */
    int place[DESCRIPTORS];
    int client_count;
    unsigned char batch[BATCH_MAX + EVENT_MAX + 1024];
    size_t batch_length;
    unsigned char event[EVENT_MAX];
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(const struct worker *worker, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(worker->loop, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        fail("epoll_ctl");
    }
}

static int listen_tcp(unsigned port)
{
    const int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) != 0 ||
        setsockopt(listener, IPPROTO_TCP, 1 /* TCP_NODELAY, inherited */, &yes, sizeof yes) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
        fail("listen");
    }
    return listener;
}

static int listen_packets(unsigned port, unsigned index)
{
    struct sockaddr_un address;
    const socklen_t size = bare_address(&address, port, index);
    const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0) {
        fail("listen for packets");
    }
    return listener;
}

static void client_close(struct worker *worker, int client)
{
    if (worker->state[client] == CLIENT_SUBSCRIBED) {
        const int last = worker->clients[--worker->client_count];
        worker->clients[worker->place[client]] = last;
        worker->place[last] = worker->place[client];
    }
    worker->state[client] = CLIENT_NONE;
    close(client);
}

static void client_accept(struct worker *worker)
{
    for (;;) {
        const int client = accept4(worker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            return;
        }
        if ((unsigned)client >= DESCRIPTORS) {
            close(client);
            continue;
        }
        worker->state[client] = CLIENT_NEW;
        watch(worker, client);
    }
}

/* False when the client is gone. Waits for a full socket: a baseline has no queues. */
static bool client_write(int client, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length != 0) {
        const ssize_t sent = send(client, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            return false;
        }
        if (sent < 0) {
            struct pollfd wait = {.fd = client, .events = POLLOUT};
            poll(&wait, 1, 1000);
            continue;
        }
        at += sent;
        length -= (size_t)sent;
    }
    return true;
}

static void client_read(struct worker *worker, int client)
{
    static const char shaken[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nserver: bare\r\n\r\n";
    static const char subscribed[] = "\x81\x5f{\"request\": null, \"response\": {\"result\": true, "
                                     "\"result_type\": \"bool\", \"call_id\": "
                                     "\"subscribed\"}}";
    static char scrap[65536];
    const ssize_t got = recv(client, scrap, sizeof scrap, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            client_close(worker, client);
        }
    } else if (worker->state[client] == CLIENT_NEW) {
        worker->state[client] = CLIENT_SHAKEN;
        client_write(client, shaken, sizeof shaken - 1);
    } else if (worker->state[client] == CLIENT_SHAKEN) {
        worker->state[client] = CLIENT_SUBSCRIBED;
        worker->place[client] = worker->client_count;
        worker->clients[worker->client_count++] = client;
        client_write(client, subscribed, sizeof subscribed - 1);
    }
}

static void frame_append(struct worker *worker, size_t length)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    char head[512];
    char tail[128];
    const size_t head_length = (size_t)snprintf(head, sizeof head,
        "{\"request\": {\"method\": \"notify\", \"arguments\": {\"subscription\": {\"id\": \"%s\", "
        "\"subscriber_id\": "
        "\"%s\", \"topic\": \"%s\", \"notifier_id\": null}, \"data\": ",
        id, id, worker->topic);
    const size_t tail_length =
        (size_t)snprintf(tail, sizeof tail, "}, \"call_id\": \"%s\"}, \"response\": null}", id);
    const size_t payload = head_length + length + tail_length;
    unsigned char *out = worker->batch + worker->batch_length;
    *out++ = 0x81;
    if (payload < 65536) {
        *out++ = 126;
        *out++ = (unsigned char)(payload >> 8);
        *out++ = (unsigned char)payload;
    } else {
        *out++ = 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            *out++ = (unsigned char)((uint64_t)payload >> shift);
        }
    }
    memcpy(out, head, head_length);
    memcpy(out + head_length, worker->event, length);
    memcpy(out + head_length + length, tail, tail_length);
    worker->batch_length = (size_t)(out - worker->batch) + payload;
}

static void events_send(struct worker *worker)
{
    do {
        const ssize_t got = recv(worker->packets, worker->event, sizeof worker->event, MSG_DONTWAIT);
        if (got == 0) {
            close(worker->packets);
        }
        if (got <= 0) {
            break;
        }
        frame_append(worker, (size_t)got);
    } while (worker->coalesce && worker->batch_length < BATCH_MAX);
    for (int i = worker->client_count - 1; worker->batch_length != 0 && i >= 0; i--) {
        const int client = worker->clients[i];
        if (!client_write(client, worker->batch, worker->batch_length)) {
            client_close(worker, client);
        }
    }
    worker->batch_length = 0;
}

static void worker_run(struct worker *worker)
{
    struct epoll_event events[512];
    worker->loop = epoll_create1(EPOLL_CLOEXEC);
    worker->packets = -1;
    watch(worker, worker->listener);
    watch(worker, worker->packets_listener);
    for (;;) {
        const int count = epoll_wait(worker->loop, events, 512, -1);
        for (int i = 0; i < count; i++) {
            const int descriptor = events[i].data.fd;
            if (descriptor == worker->listener) {
                client_accept(worker);
            } else if (descriptor == worker->packets_listener) {
                worker->packets = accept4(descriptor, NULL, NULL, SOCK_CLOEXEC);
                watch(worker, worker->packets);
            } else if (descriptor == worker->packets) {
                events_send(worker);
            } else {
                client_read(worker, descriptor);
            }
        }
    }
}

int main(int argc, char **argv)
{
    static struct worker worker = {.topic = "policy_data"};
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
        {"workers", required_argument, NULL, 'w'}, {"topic", required_argument, NULL, 't'},
        {"coalesce", no_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
    const struct rlimit descriptors = {DESCRIPTORS, DESCRIPTORS};
    unsigned port = 0;
    unsigned workers = 2;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            port = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            workers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            worker.topic = optarg;
            break;
        case 'c':
            worker.coalesce = true;
            break;
        default:
            return 2;
        }
    }
    setrlimit(RLIMIT_NOFILE, &descriptors);
    for (unsigned i = 0; i < workers; i++) {
        worker.listener = listen_tcp(port);
        worker.packets_listener = listen_packets(port, i);
        const pid_t child = fork();
        if (child < 0) {
            fail("fork");
        }
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            worker_run(&worker);
        }
        close(worker.listener);
        close(worker.packets_listener);
    }
    printf("ready\n");
    fflush(stdout);
    while (wait(NULL) > 0 || errno == EINTR) {
    }
    return 0;
}
