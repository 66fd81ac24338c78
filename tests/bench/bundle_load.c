/*
 * Clients that ask for a bundle: bundle_load PORT CLIENTS ROUNDS TARGET [HEADER]
 * All connect first; then each sends its request, reads the reply, and asks again until it has asked
 * ROUNDS times (1: everybody at once). A connection that the server closes after a reply is made anew.
 * Prints one JSON object: seconds from the first request to the last reply, replies of 200, others, bytes
 * of bodies, milliseconds a reply took.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 4096
#define STALL_MS 120000

struct client {
    int fd;
    unsigned asked;
    char head[HEAD_MAX + 1];
    size_t head_length;
    bool in_body;
    /* of the body */
    uint64_t left;
    double sent_at;
};

struct load {
    int port;
    unsigned rounds;
    char request[8192];
    size_t request_length;
    int poll;
    uint64_t good, bad, bytes;
    double *took;
    size_t took_count;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void client_connect(struct load *load, struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(load->poll, EPOLL_CTL_ADD, client->fd, &event);
}

static void client_ask(struct load *load, struct client *client)
{
    client->asked++;
    client->head_length = 0;
    client->in_body = false;
    client->sent_at = now();
    if (send(client->fd, load->request, load->request_length, MSG_NOSIGNAL) != (ssize_t)load->request_length)
        fail("send");
}

/* The reply is complete. False: this client has asked often enough. */
static bool client_replied(struct load *load, struct client *client)
{
    bool good = strncmp(client->head, "HTTP/1.1 200", 12) == 0;
    load->good += good;
    load->bad += !good;
    load->took[load->took_count++] = now() - client->sent_at;
    if (client->asked == load->rounds)
        return false;
    client_ask(load, client);
    return true;
}

static uint64_t content_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");
    return at ? strtoull(at + 17, NULL, 10) : 0;
}

/* What has arrived. False: this client is done. */
static bool client_take(struct load *load, struct client *client, const char *bytes, size_t length)
{
    while (length > 0) {
        if (!client->in_body) {
            size_t room = HEAD_MAX - client->head_length;
            size_t part = length < room ? length : room;
            memcpy(client->head + client->head_length, bytes, part);
            client->head[client->head_length + part] = '\0';
            char *end = strstr(client->head, "\r\n\r\n");
            if (!end && part == room)
                fail("a head too long");
            size_t used = end ? (size_t)(end + 4 - client->head) - client->head_length : part;
            client->head_length += used;
            bytes += used;
            length -= used;
            if (!end)
                return true;
            client->head[client->head_length] = '\0';
            client->in_body = true;
            client->left = content_length(client->head);
        }
        size_t part = length < client->left ? length : (size_t)client->left;
        client->left -= part;
        load->bytes += part;
        bytes += part;
        length -= part;
        if (client->left == 0 && !client_replied(load, client))
            return false;
    }
    return true;
}

/* False: done. */
static bool client_read(struct load *load, struct client *client)
{
    static char buffer[262144];
    for (;;) {
        ssize_t length = recv(client->fd, buffer, sizeof buffer, 0);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (length <= 0) { /* between two replies that is the server's right; what is lost is asked again */
            close(client->fd);
            client_connect(load, client);
            client->asked--;
            client_ask(load, client);
            return true;
        }
        if (!client_take(load, client, buffer, (size_t)length))
            return false;
    }
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void run(struct load *load, struct client *clients, size_t count)
{
    struct epoll_event events[256];
    size_t open = count;
    double start = now();
    for (size_t i = 0; i < count; i++)
        client_ask(load, &clients[i]);
    while (open > 0) {
        int ready = epoll_wait(load->poll, events, 256, STALL_MS);
        if (ready == 0) {
            fprintf(stderr, "nothing came for %d ms\n", STALL_MS);
            exit(1);
        }
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client_read(load, client))
                continue;
            close(client->fd);
            open--;
        }
    }
    double seconds = now() - start;
    size_t n = load->took_count;
    qsort(load->took, n, sizeof *load->took, compare);
    printf("{\"seconds\": %.4f, \"good\": %llu, \"bad\": %llu, \"bytes\": %llu, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"max_ms\": %.3f}\n",
        seconds, (unsigned long long)load->good, (unsigned long long)load->bad,
        (unsigned long long)load->bytes, load->took[n / 2] * 1e3, load->took[n * 99 / 100] * 1e3,
        load->took[n - 1] * 1e3);
}

int main(int argc, char **argv)
{
    struct load load = {0};
    struct rlimit files = {65536, 65536};
    if (argc < 5)
        return 2;
    load.port = atoi(argv[1]);
    size_t count = strtoul(argv[2], NULL, 10);
    load.rounds = (unsigned)strtoul(argv[3], NULL, 10);
    load.request_length =
        (size_t)snprintf(load.request, sizeof load.request, "GET %s HTTP/1.1\r\nhost: bench\r\n%s%s\r\n",
            argv[4], argc > 5 ? argv[5] : "", argc > 5 ? "\r\n" : "");
    setrlimit(RLIMIT_NOFILE, &files);
    load.poll = epoll_create1(EPOLL_CLOEXEC);
    load.took = calloc(count * load.rounds, sizeof *load.took);
    struct client *clients = calloc(count, sizeof *clients);
    if (!load.took || !clients)
        fail("memory");
    for (size_t i = 0; i < count; i++)
        client_connect(&load, &clients[i]);
    run(&load, clients, count);
    free(load.took);
    free(clients);
    return 0;
}
