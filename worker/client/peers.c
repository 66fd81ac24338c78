#include "worker/client/peers.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "shm/segment.h"

#define PEERS_MAGIC UINT32_C(0x7065e125)
#define PEERS_BATCH 16 /* per wake-up, then the others get their turn */

struct peers_registration {
    /* NULL: nobody wants this kind */
    peers_receiver *receiver;
    void *context;
};

struct peers {
    uint32_t magic;
    unsigned slot_count;
    int send[SEGMENT_SLOTS_MAX];
    int receive;
    /* what one message with a descriptor takes of a socket's buffer, in the kernel's bytes */
    int message_cost;
    struct event *event;
    struct peers_registration kinds[HANDOFF_KINDS];
};

/* What the kernel counts for one message with a descriptor in it. */
static int measure_message_cost(void)
{
    const struct handoff_message message = {.kind = HANDOFF_CONNECTION};
    int pair[2], cost = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    if (!handoff_message_send(pair[0], &message, pair[1]) || ioctl(pair[0], SIOCOUTQ, &cost) < 0)
        cost = 0;
    close(pair[0]);
    close(pair[1]);
    return cost;
}

static void peers_on_message(evutil_socket_t from, short what, void *argument)
{
    struct peers *peers = object_cast(struct peers, PEERS_MAGIC, argument);
    (void)what;
    for (int i = 0; i < PEERS_BATCH; i++) {
        struct handoff_message message = {0};
        int fd;
        if (!handoff_message_receive(from, &message, &fd))
            return;
        const struct peers_registration *kind =
            message.kind < HANDOFF_KINDS ? &peers->kinds[message.kind] : NULL;
        if (kind && kind->receiver)
            kind->receiver(kind->context, &message, fd);
        else if (fd >= 0)
            close(fd);
    }
}

struct peers *peers_open(struct event_base *base, int receive, const int *send, unsigned slot_count)
{
    struct peers *peers = memory_allocate(sizeof *peers);
    peers->magic = PEERS_MAGIC;
    peers->receive = receive;
    peers->message_cost = measure_message_cost();
    peers->slot_count = slot_count;
    for (unsigned slot = 0; slot < slot_count; slot++)
        peers->send[slot] = send[slot];
    if (receive < 0)
        return peers;
    peers->event = event_new(base, receive, EV_READ | EV_PERSIST, peers_on_message, peers);
    if (!peers->event || event_add(peers->event, NULL) < 0)
        abort(); /* only out of memory */
    return peers;
}

void peers_close(struct peers *peers)
{
    if (!peers)
        return;
    if (peers->event) {
        event_free(peers->event);
        close(peers->receive);
    }
    for (unsigned slot = 0; slot < peers->slot_count; slot++)
        if (peers->send[slot] >= 0)
            close(peers->send[slot]);
    peers->magic = 0;
    free(peers);
}

void peers_register(struct peers *peers, enum handoff_kind kind, peers_receiver *receiver, void *context)
{
    peers->kinds[kind] = (struct peers_registration){.receiver = receiver, .context = context};
}

bool peers_has(const struct peers *peers, unsigned slot)
{
    return slot < peers->slot_count && peers->send[slot] >= 0;
}

bool peers_send(const struct peers *peers, unsigned slot, const struct handoff_message *message, int fd)
{
    return peers_has(peers, slot) && handoff_message_send(peers->send[slot], message, fd);
}

uint32_t peers_on_the_way(const struct peers *peers, unsigned slot)
{
    int bytes = 0;
    if (peers->message_cost <= 0 || !peers_has(peers, slot) ||
        ioctl(peers->send[slot], SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0;
    return (uint32_t)(bytes / peers->message_cost);
}
