#include "server/policy/policy_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/link/policy_socket.h"
#include "shm/worker_table.h"

#define POLICY_SERVER_MAGIC UINT32_C(0x706c7376)
#define PEER_MAGIC          UINT32_C(0x70656572)
/* Answers that wait for a worker's socket. Each is small: the bundle itself is behind the descriptor. */
#define WAITING_MAX 4096
/* Messages of one worker before the others have their turn. */
#define RECEIVE_TURN 64
/* Without accepting, when no descriptor is left: the listener stays readable all the time. */
#define ACCEPT_PAUSE_MS 100

struct waiting {
    STAILQ_ENTRY(waiting) link;
    enum policy_message_type type;
    uint64_t id;
    int descriptor;
    /* Owned. */
    struct slice body;
};

struct peer {
    uint32_t magic;
    TAILQ_ENTRY(peer) link;
    struct policy_server *server;
    policy_peer name;
    int socket;
    struct event *readable;
    /* Pending while something waits. */
    struct event *writable;
    STAILQ_HEAD(waiting_list, waiting) waiting;
    unsigned waiting_count;
};

struct policy_server {
    uint32_t magic;
    struct event_base *base;
    const struct segment *segment;
    struct policy_server_hooks hooks;
    int listener;
    struct event *accepting;
    /* Pending while it pauses. */
    struct event *resume;
    TAILQ_HEAD(peer_list, peer) peers;
    policy_peer next_name;
    struct policy_head head;
    void *buffer;
    struct log_limiter limit_stranger;
    struct log_limiter limit_slow;
    struct log_limiter limit_accept;
};

static void peer_close(struct peer *peer)
{
    struct policy_server *server = peer->server;
    struct waiting *waiting;
    server->hooks.peer_gone(server->hooks.context, peer->name);
    TAILQ_REMOVE(&server->peers, peer, link);
    while ((waiting = STAILQ_FIRST(&peer->waiting))) {
        STAILQ_REMOVE_HEAD(&peer->waiting, link);
        if (waiting->descriptor >= 0)
            close(waiting->descriptor);
        free((char *)(uintptr_t)waiting->body.data);
        free(waiting);
    }
    event_free(peer->readable);
    event_free(peer->writable);
    close(peer->socket);
    peer->magic = 0;
    free(peer);
}

/* False: the peer can't be used any more. Its next event closes it. */
static bool peer_send(
    struct peer *peer, enum policy_message_type type, uint64_t id, struct slice body, int descriptor)
{
    enum policy_sent sent = STAILQ_EMPTY(&peer->waiting)
                                ? policy_socket_send(peer->socket, type, id, body, descriptor)
                                : POLICY_SEND_LATER;
    if (sent == POLICY_SENT)
        return true;
    if (sent == POLICY_SEND_LATER && peer->waiting_count < WAITING_MAX) {
        struct waiting *waiting = memory_allocate(sizeof *waiting);
        waiting->type = type;
        waiting->id = id;
        waiting->descriptor = descriptor < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
        waiting->body = (struct slice){memory_copy(body.data ? body.data : "", body.length), body.length};
        STAILQ_INSERT_TAIL(&peer->waiting, waiting, link);
        peer->waiting_count++;
        event_add(peer->writable, NULL);
        if (descriptor < 0 || waiting->descriptor >= 0)
            return true;
    }
    log_write_limited(&peer->server->limit_slow, LOG_WARNING, LOGGER_POLICY,
        "a worker does not take its answers (%u wait): its connection is closed, it makes another",
        peer->waiting_count);
    shutdown(peer->socket, SHUT_RDWR); /* the event that follows closes it */
    return false;
}

static void peer_on_writable(evutil_socket_t descriptor, short what, void *context)
{
    struct peer *peer = object_cast(struct peer, PEER_MAGIC, context);
    struct waiting *waiting;
    (void)descriptor;
    (void)what;
    while ((waiting = STAILQ_FIRST(&peer->waiting))) {
        enum policy_sent sent =
            policy_socket_send(peer->socket, waiting->type, waiting->id, waiting->body, waiting->descriptor);
        if (sent == POLICY_SEND_LATER) {
            event_add(peer->writable, NULL);
            return;
        }
        if (sent == POLICY_SEND_FAILED) {
            peer_close(peer);
            return;
        }
        STAILQ_REMOVE_HEAD(&peer->waiting, link);
        peer->waiting_count--;
        if (waiting->descriptor >= 0)
            close(waiting->descriptor);
        free((char *)(uintptr_t)waiting->body.data);
        free(waiting);
    }
}

static void peer_on_readable(evutil_socket_t descriptor, short what, void *context)
{
    struct peer *peer = object_cast(struct peer, PEER_MAGIC, context);
    struct policy_server *server = peer->server;
    struct policy_message message;
    (void)descriptor;
    (void)what;
    for (unsigned i = 0; i < RECEIVE_TURN; i++) {
        switch (policy_socket_receive(peer->socket, server->buffer, &message)) {
        case POLICY_NOTHING_NOW:
            return;
        case POLICY_CLOSED:
            peer_close(peer);
            return;
        case POLICY_RECEIVED:
            break;
        }
        if (message.descriptor >= 0)
            close(message.descriptor); /* workers have none to give */
        if (message.head.type == POLICY_MESSAGE_WEBHOOK)
            server->hooks.webhook(server->hooks.context);
        else if (message.head.type == POLICY_MESSAGE_BUNDLE_REQUEST)
            server->hooks.bundle_request(server->hooks.context, peer->name, message.head.id, message.body);
    }
}

static bool peer_is_worker(const struct policy_server *server, pid_t pid)
{
    for (unsigned slot = 0; pid > 0 && slot < segment_slot_count(server->segment); slot++)
        if (worker_table_pid(server->segment, slot) == (int32_t)pid)
            return true;
    return false;
}

/* Workers lose nothing: they are connected, and their requests wait in the socket. */
static void server_pause(struct policy_server *server)
{
    const struct timeval pause = {0, ACCEPT_PAUSE_MS * 1000};
    log_write_limited(&server->limit_accept, LOG_ERROR, LOGGER_POLICY,
        "cannot accept a worker's connection: %s", strerror(errno));
    event_del(server->accepting);
    event_add(server->resume, &pause);
}

static void server_on_resume(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_server *server = object_cast(struct policy_server, POLICY_SERVER_MAGIC, context);
    (void)descriptor;
    (void)what;
    event_add(server->accepting, NULL);
}

static void server_on_accept(evutil_socket_t listener, short what, void *context)
{
    struct policy_server *server = object_cast(struct policy_server, POLICY_SERVER_MAGIC, context);
    (void)what;
    for (;;) {
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (socket < 0) {
            if (errno != EAGAIN)
                server_pause(server);
            return;
        }
        pid_t pid = policy_socket_peer(socket);
        if (!peer_is_worker(server, pid)) {
            log_write_limited(&server->limit_stranger, LOG_WARNING, LOGGER_POLICY,
                "refused a connection: process %d is no worker of this server", (int)pid);
            close(socket);
            continue;
        }
        struct peer *peer = memory_allocate(sizeof *peer);
        peer->magic = PEER_MAGIC;
        peer->server = server;
        peer->name = server->next_name++;
        peer->socket = socket;
        STAILQ_INIT(&peer->waiting);
        peer->readable = event_new(server->base, socket, EV_READ | EV_PERSIST, peer_on_readable, peer);
        peer->writable = event_new(server->base, socket, EV_WRITE, peer_on_writable, peer);
        event_add(peer->readable, NULL);
        TAILQ_INSERT_TAIL(&server->peers, peer, link);
        peer_send(peer, POLICY_MESSAGE_HEAD, 0,
            (struct slice){(const char *)&server->head, sizeof server->head}, -1);
    }
}

struct policy_server *policy_server_open(struct event_base *base, int listener, const struct segment *segment,
    const struct policy_server_hooks *hooks)
{
    struct policy_server *server = memory_allocate(sizeof *server);
    server->magic = POLICY_SERVER_MAGIC;
    server->base = base;
    server->segment = segment;
    server->hooks = *hooks;
    server->listener = listener;
    server->next_name = 1;
    server->buffer = memory_allocate(POLICY_PACKET_MAX);
    TAILQ_INIT(&server->peers);
    server->accepting = event_new(base, listener, EV_READ | EV_PERSIST, server_on_accept, server);
    event_add(server->accepting, NULL);
    server->resume = event_new(base, -1, 0, server_on_resume, server);
    return server;
}

void policy_server_close(struct policy_server *server)
{
    struct peer *peer;
    while ((peer = TAILQ_FIRST(&server->peers)))
        peer_close(peer);
    event_free(server->accepting);
    event_free(server->resume);
    close(server->listener);
    free(server->buffer);
    server->magic = 0;
    free(server);
}

void policy_server_set_head(struct policy_server *server, const struct policy_head *head)
{
    struct peer *peer;
    server->head = *head;
    for (peer = TAILQ_FIRST(&server->peers); peer; peer = TAILQ_NEXT(peer, link))
        peer_send(peer, POLICY_MESSAGE_HEAD, 0,
            (struct slice){(const char *)&server->head, sizeof server->head}, -1);
}

void policy_server_answer(
    struct policy_server *server, policy_peer peer, uint64_t id, struct slice body, int descriptor)
{
    for (struct peer *at = TAILQ_FIRST(&server->peers); at; at = TAILQ_NEXT(at, link)) {
        if (at->name == peer) {
            peer_send(at, POLICY_MESSAGE_BUNDLE_ANSWER, id, body, descriptor);
            return;
        }
    }
}
