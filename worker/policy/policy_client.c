#include "worker/policy/policy_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/link/policy_socket.h"

#define POLICY_CLIENT_MAGIC UINT32_C(0x706c636c)
#define RETRY_MS            100
#define RECEIVE_TURN        64

struct policy_client {
    uint32_t magic;
    struct event_base *base;
    struct policy_client_hooks hooks;
    char address[POLICY_ADDRESS_MAX];
    /* -1: not connected */
    int socket;
    /* a hook may be on the stack */
    bool receiving;
    /* the head came: the other side has taken the connection */
    bool heard;
    struct event *readable;
    struct event *retry;
    struct policy_head head;
    void *buffer;
    struct log_limiter limit_stranger;
};

static void client_retry_later(struct policy_client *client)
{
    const struct timeval delay = {0, RETRY_MS * 1000};
    event_add(client->retry, &delay);
}

static void client_disconnect(struct policy_client *client)
{
    bool heard = client->heard;
    event_free(client->readable);
    client->readable = NULL;
    close(client->socket);
    client->socket = -1;
    client->heard = false;
    client_retry_later(client);
    if (heard && client->hooks.lost)
        client->hooks.lost(client->hooks.context);
}

static void client_take(struct policy_client *client, struct policy_message *message)
{
    if (message->head.type == POLICY_MESSAGE_BUNDLE_ANSWER && client->hooks.answered) {
        client->hooks.answered(client->hooks.context, message->head.id, message->body, message->descriptor);
        return;
    }
    if (message->descriptor >= 0)
        close(message->descriptor);
    if (message->head.type == POLICY_MESSAGE_HEAD && message->body.length == sizeof client->head) {
        memcpy(&client->head, message->body.data, sizeof client->head);
        client->head.hash[POLICY_HASH_LENGTH] = '\0';
        client->heard = true;
        if (client->hooks.head)
            client->hooks.head(client->hooks.context);
    }
}

static void client_on_readable(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_client *client = object_cast(struct policy_client, POLICY_CLIENT_MAGIC, context);
    struct policy_message message;
    (void)descriptor;
    (void)what;
    if (client->receiving)
        return; /* from a hook: the buffer is in use */
    client->receiving = true;
    for (unsigned i = 0; i < RECEIVE_TURN && client->socket >= 0; i++) {
        enum policy_received received = policy_socket_receive(client->socket, client->buffer, &message);
        if (received == POLICY_NOTHING_NOW)
            break;
        if (received == POLICY_CLOSED)
            client_disconnect(client);
        else
            client_take(client, &message);
    }
    client->receiving = false;
}

void policy_client_poll(struct policy_client *client)
{
    if (client->socket >= 0)
        client_on_readable(client->socket, 0, client);
}

static void client_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_client *client = object_cast(struct policy_client, POLICY_CLIENT_MAGIC, context);
    (void)descriptor;
    (void)what;
    client->socket = policy_socket_connect(client->address);
    if (client->socket < 0) {
        client_retry_later(client);
        return;
    }
    /* The socket is the master's (it listens), whoever accepts on it. */
    if (policy_socket_peer(client->socket) != getppid()) {
        log_write_limited(&client->limit_stranger, LOG_WARNING, LOGGER_WORKER,
            "the socket of the policy process is not this server's own: not used");
        close(client->socket);
        client->socket = -1;
        client_retry_later(client);
        return;
    }
    client->readable =
        event_new(client->base, client->socket, EV_READ | EV_PERSIST, client_on_readable, client);
    event_add(client->readable, NULL);
}

struct policy_client *policy_client_open(
    struct event_base *base, const char *address, const struct policy_client_hooks *hooks)
{
    struct policy_client *client = memory_allocate(sizeof *client);
    client->magic = POLICY_CLIENT_MAGIC;
    client->base = base;
    client->socket = -1;
    client->buffer = memory_allocate(POLICY_PACKET_MAX);
    if (hooks)
        client->hooks = *hooks;
    client->retry = event_new(base, -1, 0, client_on_retry, client);
    if (address[0] && strlen(address) < sizeof client->address) {
        memcpy(client->address, address, strlen(address) + 1);
        client_on_retry(-1, 0, client);
    }
    return client;
}

void policy_client_close(struct policy_client *client)
{
    if (client->readable)
        event_free(client->readable);
    event_free(client->retry);
    if (client->socket >= 0)
        close(client->socket);
    free(client->buffer);
    client->magic = 0;
    free(client);
}

const struct policy_head *policy_client_head(const struct policy_client *client)
{
    return &client->head;
}

static bool client_send(
    struct policy_client *client, enum policy_message_type type, uint64_t id, struct slice body)
{
    return client->heard && policy_socket_send(client->socket, type, id, body, -1) == POLICY_SENT;
}

bool policy_client_request_bundle(struct policy_client *client, uint64_t id, struct slice body)
{
    return client_send(client, POLICY_MESSAGE_BUNDLE_REQUEST, id, body);
}

bool policy_client_tell_webhook(struct policy_client *client)
{
    return client_send(client, POLICY_MESSAGE_WEBHOOK, 0, SLICE_LITERAL(""));
}
