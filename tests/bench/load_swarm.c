/*
 * One client is a non-blocking socket and a few numbers. A read takes what is there into one buffer shared
 * by all clients; only a frame that is not whole yet is copied to a buffer of the client's own, and given
 * back once it is whole.
 */
#include "tests/bench/load_swarm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/bench/load_client.h"
#include "tests/bench/load_dialect.h"
#include "tests/bench/load_frame.h"
#include "tests/bench/load_loop.h"

static void client_ready(struct source *source, uint32_t events);

/* ---- accounting ---- */

static void event_settle(struct client *client, uint64_t sequence, uint64_t sent, uint64_t now)
{
    struct swarm *swarm = client->swarm;
    if (sequence >= swarm->announced || swarm->remaining[sequence] == 0) {
        return;
    }
    swarm->deliveries_open--;
    if (--swarm->remaining[sequence] == 0) {
        swarm->events_open--;
        swarm->tally.completed++;
        if (sent != NOTHING) {
            client->last_count++;
            histogram_add(&swarm->tally.last, now - sent);
        }
    }
}

void client_end(struct client *client)
{
    struct swarm *swarm = client->swarm;
    if (client->state == CLIENT_GONE) {
        return;
    }
    if (client->state == CLIENT_READY && client->slow) {
        swarm->tally.slow_closed++;
        swarm->ready--;
    } else if (client->state == CLIENT_READY && client->elsewhere) {
        swarm->tally.closed++;
        swarm->ready--;
    } else if (client->state == CLIENT_READY) {
        swarm->tally.closed++;
        swarm->ready--;
        swarm->group_size[client->index % swarm->settings.groups]--;
        for (; client->next < swarm->announced; client->next += swarm->settings.groups) {
            event_settle(client, client->next, NOTHING, 0);
        }
    } else {
        swarm->failed++;
    }
    client->state = CLIENT_GONE;
    close(client->descriptor);
    free(client->partial);
    free(client->unsent);
    client->partial = client->unsent = NULL;
    client->partial_length = client->unsent_length = 0;
}

/* ---- sending ---- */

static void client_keep_unsent(struct client *client, const unsigned char *bytes, size_t length)
{
    unsigned char *grown = realloc(client->unsent, client->unsent_length + length);
    if (grown == NULL) {
        load_fail("realloc");
    }
    memcpy(grown + client->unsent_length, bytes, length);
    client->unsent = grown;
    client->unsent_length += length;
}

static void client_send(struct client *client, const unsigned char *bytes, size_t length)
{
    if (client->unsent_length == 0) {
        const ssize_t sent = send(client->descriptor, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            client_end(client);
            return;
        }
        if (sent > 0) {
            bytes += sent;
            length -= (size_t)sent;
        }
    }
    if (length == 0) {
        return;
    }
    client_keep_unsent(client, bytes, length);
    loop_set(client->swarm->loop, EPOLL_CTL_MOD, client->descriptor, &client->source, EPOLLIN | EPOLLOUT);
}

static void client_send_text(struct client *client, unsigned opcode, const char *text, size_t length)
{
    unsigned char *frame = malloc(length + FRAME_HEADER_MAX);
    if (frame == NULL) {
        load_fail("malloc");
    }
    client_send(client, frame, frame_write(frame, opcode, text, length));
    free(frame);
}

static void client_flush(struct client *client)
{
    const ssize_t sent =
        send(client->descriptor, client->unsent, client->unsent_length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
        client_end(client);
        return;
    }
    if (sent > 0) {
        client->unsent_length -= (size_t)sent;
        memmove(client->unsent, client->unsent + sent, client->unsent_length);
    }
    if (client->unsent_length == 0) {
        free(client->unsent);
        client->unsent = NULL;
        loop_set(client->swarm->loop, EPOLL_CTL_MOD, client->descriptor, &client->source, EPOLLIN);
    }
}

static void replies_flush(struct client *client)
{
    struct swarm *swarm = client->swarm;
    const size_t length = swarm->output_length;
    swarm->output_length = 0;
    if (length != 0 && client->state != CLIENT_GONE && swarm->settings.hold) {
        client_keep_unsent(client, swarm->output, length);
    } else if (length != 0 && client->state != CLIENT_GONE) {
        client_send(client, swarm->output, length);
    }
}

static void client_reply(struct client *client, const unsigned char *text, size_t length)
{
    struct swarm *swarm = client->swarm;
    char reply[DIALECT_REPLY_MAX];
    const size_t size = dialect_reply(text, length, reply);
    if (size == 0) {
        swarm->tally.misplaced++;
        return;
    }
    if (swarm->output_length + size + FRAME_HEADER_MAX > swarm->output_room) {
        replies_flush(client);
    }
    swarm->output_length += frame_write(swarm->output + swarm->output_length, FRAME_TEXT, reply, size);
    if (swarm->settings.reply_each) {
        replies_flush(client);
    }
}

/* ---- opening ---- */

static void client_upgrade(struct client *client)
{
    char request[2560];
    const size_t length = dialect_upgrade(&client->swarm->settings, client->index, request, sizeof request);
    client->state = CLIENT_SHAKING;
    client_send(client, (unsigned char *)request, length);
}

static void client_subscribed(struct client *client)
{
    struct swarm *swarm = client->swarm;
    const unsigned groups = swarm->settings.groups;
    client->state = CLIENT_READY;
    swarm->ready++;
    if (client->slow) {
        /* the loop still tells when the connection ends */
        loop_set(swarm->loop, EPOLL_CTL_MOD, client->descriptor, &client->source, 0);
        client->slow_since = load_now();
        return;
    }
    if (client->elsewhere) {
        return;
    }
    client->next = swarm->announced - swarm->announced % groups + client->index % groups;
    if (client->next < swarm->announced) {
        client->next += groups;
    }
    swarm->group_size[client->index % groups]++;
}

static void client_subscribe(struct client *client)
{
    size_t length;
    unsigned opcode;
    char *text = dialect_subscribe(&client->swarm->settings, client->index, &length, &opcode);
    if (text == NULL) {
        client_subscribed(client);
        return;
    }
    client->state = CLIENT_SUBSCRIBING;
    client_send_text(client, opcode, text, length);
    free(text);
}

static void client_open(struct swarm *swarm, unsigned index)
{
    struct client *client = &swarm->clients[index];
    struct sockaddr_in own = {.sin_family = AF_INET};
    const int yes = 1;
    *client =
        (struct client){.source.ready = client_ready, .magic = CLIENT_MAGIC, .swarm = swarm, .index = index};
    client->next = index % swarm->settings.groups;
    client->elsewhere = index >= swarm->settings.clients - swarm->settings.elsewhere;
    client->slow = index >= swarm->settings.clients - swarm->settings.slow;
    client->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->descriptor < 0) {
        load_fail("socket");
    }
    /* One address has some 28,000 ports; the port is chosen at connect, when the whole 4-tuple is known. */
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / CLIENTS_PER_ADDRESS);
    setsockopt(client->descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(client->descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &yes, sizeof yes);
    if (client->slow) {
        const int room = SLOW_ROOM;
        setsockopt(client->descriptor, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    }
    if ((ntohl(swarm->settings.server.sin_addr.s_addr) >> 24) == 127 &&
        bind(client->descriptor, (struct sockaddr *)&own, sizeof own) != 0) {
        load_fail("bind");
    }
    loop_set(swarm->loop, EPOLL_CTL_ADD, client->descriptor, &client->source, EPOLLIN | EPOLLOUT);
    if (connect(client->descriptor, (struct sockaddr *)&swarm->settings.server,
            sizeof swarm->settings.server) != 0 &&
        errno != EINPROGRESS) {
        client_end(client);
    }
}

void swarm_open_more(struct swarm *swarm)
{
    const uint64_t now = load_now();
    if (swarm->opened == 0) {
        swarm->opened_first = now;
    }
    const double due = (double)(now - swarm->opened_first) * 1e-9 * swarm->settings.rate;
    while (swarm->opened < swarm->settings.clients &&
           swarm->opened - swarm->ready - swarm->failed - swarm->tally.closed < swarm->settings.window &&
           (swarm->settings.rate <= 0 || (double)swarm->opened <= due)) {
        client_open(swarm, swarm->opened++);
    }
}

/* ---- receiving ---- */

static void client_deliver(struct client *client, const unsigned char *text, size_t length, uint64_t now)
{
    struct swarm *swarm = client->swarm;
    const unsigned groups = swarm->settings.groups;
    uint64_t sequence;
    uint64_t sent;
    if (client->elsewhere || !dialect_mark(text, length, &sequence, &sent) ||
        sequence % groups != client->index % groups) {
        swarm->tally.misplaced++;
    } else if (sequence < client->next) {
        swarm->tally.repeated++;
    } else {
        for (; client->next < sequence; client->next += groups) {
            swarm->tally.lost++;
            event_settle(client, client->next, NOTHING, 0);
        }
        client->next += groups;
        swarm->tally.deliveries++;
        histogram_add(&swarm->tally.each, now - sent);
        if (swarm->arrived > sent) {
            histogram_add(&swarm->tally.arrival, swarm->arrived - sent);
        }
        event_settle(client, sequence, sent, now);
    }
    if (swarm->settings.reply) {
        client_reply(client, text, length);
    }
}

/* NATS: a frame carries what was to be sent: several messages, and lines that are none. */
static void client_lines(struct client *client, const unsigned char *text, size_t length, uint64_t now)
{
    if (length >= 6 && memcmp(text, "PING\r\n", 6) == 0) {
        client_send_text(client, FRAME_BINARY, "PONG\r\n", 6);
    }
    for (const unsigned char *at = text, *mark;
         (mark = memmem(at, (size_t)(text + length - at), SWARM_MARK, sizeof SWARM_MARK - 1)) != NULL;
         at = mark + sizeof SWARM_MARK - 1) {
        client_deliver(client, mark, (size_t)(text + length - mark), now);
    }
}

static void client_message(
    struct client *client, const struct frame *frame, const unsigned char *payload, uint64_t now)
{
    static const char request[] = "{\"request\": {";
    const enum swarm_dialect dialect = client->swarm->settings.dialect;
    bool refused;
    if (frame->opcode == FRAME_PING) {
        client_send_text(client, FRAME_PONG, (const char *)payload, frame->length);
    } else if (frame->opcode == FRAME_PONG) {
        return;
    } else if (frame->opcode != (dialect == DIALECT_NATS ? FRAME_BINARY : FRAME_TEXT) || !frame->final) {
        client_end(client);
    } else if (client->state == CLIENT_READY && dialect == DIALECT_NATS) {
        client_lines(client, payload, frame->length, now);
    } else if (dialect == DIALECT_NCHAN ||
               (frame->length > sizeof request && memcmp(payload, request, sizeof request - 1) == 0)) {
        client_deliver(client, payload, frame->length, now);
    } else if (client->state == CLIENT_SUBSCRIBING) {
        if (dialect_subscribed(dialect, payload, frame->length, &refused)) {
            client_subscribed(client);
        } else if (refused) {
            client_end(client);
        }
    }
}

/* Takes whole frames off the front; returns the bytes taken. */
static size_t client_take(struct client *client, const unsigned char *bytes, size_t length, uint64_t now)
{
    size_t taken = 0;
    if (client->state == CLIENT_SHAKING) {
        const unsigned char *end = memmem(bytes, length, "\r\n\r\n", 4);
        if (end == NULL) {
            return 0;
        }
        if (memcmp(bytes, "HTTP/1.1 101", 12) != 0) {
            client_end(client);
            return length;
        }
        taken = (size_t)(end - bytes) + 4;
        client_subscribe(client);
    }
    struct frame frame;
    while (client->state != CLIENT_GONE && !(client->slow && client->state == CLIENT_READY) &&
           frame_parse(bytes + taken, length - taken, &frame) &&
           length - taken - frame.header >= frame.length) {
        client_message(client, &frame, bytes + taken + frame.header, now);
        taken += frame.header + frame.length;
    }
    return taken;
}

static void client_keep(struct client *client, const unsigned char *bytes, size_t length)
{
    unsigned char *kept = NULL;
    if (length != 0) {
        kept = malloc(length);
        if (kept == NULL) {
            load_fail("malloc");
        }
        memcpy(kept, bytes, length);
    }
    free(client->partial);
    client->partial = kept;
    client->partial_length = length;
}

static ssize_t receive(struct swarm *swarm, int descriptor)
{
    if (!swarm->stamp) {
        swarm->arrived = 0;
        return recv(descriptor, swarm->input, READ_BYTES, MSG_DONTWAIT);
    }
    _Alignas(struct cmsghdr) char control[256];
    struct iovec part = {.iov_base = swarm->input, .iov_len = READ_BYTES};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t got = recvmsg(descriptor, &message, MSG_DONTWAIT);
    swarm->arrived = 0;
    for (struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL; header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
            swarm->arrived =
                (uint64_t)stamp.tv_sec * 1000000000U + (uint64_t)stamp.tv_nsec - swarm->stamp_offset;
        }
    }
    return got;
}

static void client_read(struct client *client)
{
    struct swarm *swarm = client->swarm;
    const ssize_t got = receive(swarm, client->descriptor);
    const uint64_t now = load_now();
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            client_end(client);
        }
        return;
    }
    swarm->tally.reads++;
    swarm->tally.bytes += (uint64_t)got;
    const unsigned char *bytes = swarm->input;
    size_t length = (size_t)got;
    if (client->partial_length != 0) {
        unsigned char *joined = realloc(client->partial, client->partial_length + length);
        if (joined == NULL) {
            load_fail("realloc");
        }
        memcpy(joined + client->partial_length, swarm->input, length);
        client->partial = joined;
        length += client->partial_length;
        client->partial_length = length;
        bytes = joined;
    }
    const size_t taken = client_take(client, bytes, length, now);
    replies_flush(client);
    if (client->state != CLIENT_GONE && (taken != 0 || bytes == swarm->input) &&
        (taken != length || client->partial != NULL)) {
        client_keep(client, bytes + taken, length - taken);
    }
}

static void client_ready(struct source *source, uint32_t events)
{
    struct client *client = (struct client *)source;
    if (client->magic != CLIENT_MAGIC) {
        abort();
    }
    if (client->state == CLIENT_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            client_end(client);
            return;
        }
        loop_set(client->swarm->loop, EPOLL_CTL_MOD, client->descriptor, &client->source, EPOLLIN);
        client_upgrade(client);
        return;
    }
    if (client->slow && client->state == CLIENT_READY) {
        client_end(client);
        return;
    }
    if (client->unsent_length != 0 && (events & EPOLLOUT) != 0) {
        client_flush(client);
    }
    if (client->state != CLIENT_GONE && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
        client_read(client);
    }
}

/* ---- the whole ---- */

struct swarm *swarm_create(int loop, const struct swarm_settings *settings)
{
    struct swarm *swarm = calloc(1, sizeof *swarm);
    if (swarm == NULL) {
        load_fail("calloc");
    }
    swarm->settings = *settings;
    swarm->loop = loop;
    swarm->output_room = READ_BYTES;
    swarm->clients = calloc(settings->clients, sizeof *swarm->clients);
    swarm->group_size = calloc(settings->groups, sizeof *swarm->group_size);
    swarm->input = malloc(READ_BYTES);
    swarm->output = malloc(swarm->output_room);
    if (swarm->clients == NULL || swarm->group_size == NULL || swarm->input == NULL ||
        swarm->output == NULL) {
        load_fail("malloc");
    }
    return swarm;
}

unsigned swarm_ready(const struct swarm *swarm)
{
    return swarm->ready;
}

unsigned swarm_failed(const struct swarm *swarm)
{
    return swarm->failed;
}

void swarm_expect(struct swarm *swarm, uint64_t sequence)
{
    if (sequence != swarm->announced) {
        abort();
    }
    if (swarm->announced == swarm->announced_room) {
        swarm->announced_room = swarm->announced_room == 0 ? 4096 : swarm->announced_room * 2;
        swarm->remaining = realloc(swarm->remaining, swarm->announced_room * sizeof *swarm->remaining);
        if (swarm->remaining == NULL) {
            load_fail("realloc");
        }
    }
    const unsigned due = swarm->group_size[sequence % swarm->settings.groups];
    swarm->remaining[swarm->announced++] = due;
    swarm->deliveries_open += due;
    swarm->events_open += due != 0;
    swarm->tally.completed += due == 0;
}

const struct swarm_tally *swarm_tally(const struct swarm *swarm)
{
    return &swarm->tally;
}

void swarm_reset(struct swarm *swarm)
{
    memset(&swarm->tally, 0, sizeof swarm->tally);
    for (unsigned i = 0; i < swarm->opened; i++) {
        swarm->clients[i].last_count = 0;
    }
}

unsigned swarm_last_most(const struct swarm *swarm)
{
    unsigned most = 0;
    for (unsigned i = 0; i < swarm->opened; i++) {
        most = swarm->clients[i].last_count > most ? swarm->clients[i].last_count : most;
    }
    return most;
}

void swarm_release(struct swarm *swarm)
{
    for (unsigned i = 0; i < swarm->opened; i++) {
        if (swarm->clients[i].unsent_length != 0 && swarm->clients[i].state == CLIENT_READY) {
            client_flush(&swarm->clients[i]);
        }
    }
}

void swarm_stamp(struct swarm *swarm, bool on)
{
    const int value = on;
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    swarm->stamp_offset = (uint64_t)real.tv_sec * 1000000000U + (uint64_t)real.tv_nsec - load_now();
    swarm->stamp = on;
    for (unsigned i = 0; i < swarm->opened; i++) {
        if (swarm->clients[i].state == CLIENT_READY) {
            setsockopt(swarm->clients[i].descriptor, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof value);
        }
    }
}

uint64_t swarm_events_open(const struct swarm *swarm)
{
    return swarm->events_open;
}

uint64_t swarm_deliveries_open(const struct swarm *swarm)
{
    return swarm->deliveries_open;
}
