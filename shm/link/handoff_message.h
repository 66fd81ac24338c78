/*
 * What crosses the SOCK_SEQPACKET pairs between the processes of a host: accepted connections, questions and
 * their answers, which come as a sealed memfd. The writer may be a worker gone mad: a receiver checks what it
 * gets.
 */
#ifndef OPALD_SHM_LINK_HANDOFF_MESSAGE_H
#define OPALD_SHM_LINK_HANDOFF_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

enum handoff_kind {
    /* one byte alone; with a socket */
    HANDOFF_CONNECTION,
    /* who is connected to you? `slot` asks */
    HANDOFF_ASK_CLIENTS,
    /* the answer of `slot`, a list (worker/client/client_list.h) in a memfd */
    HANDOFF_CLIENTS,
    /* the master's answer, JSON in a memfd */
    HANDOFF_STATISTICS,
    HANDOFF_KINDS,
};

struct handoff_message {
    uint8_t kind;
    /* of an answer: there is none, because it would be too large or for want of memory */
    uint8_t failed;
    uint16_t slot;
    /* of the question */
    uint32_t number;
};

/* Without waiting. `fd` -1: none; it stays the caller's. False when the receiver's buffer is full or it is
 * gone. Async-signal-safe. */
bool handoff_message_send(int socket, const struct handoff_message *message, int fd);
/* False: nothing there. `*fd` -1: the message came without one (or none was free for it: the kernel has
 * closed it then). */
MUST_CHECK bool handoff_message_receive(int socket, struct handoff_message *message, int *fd);

/* A memfd with these bytes, sealed; -1 with errno. */
MUST_CHECK int handoff_memory_make(struct slice bytes);
/* Appends what is in a memfd, by reading and not by mapping, so that nobody can pull it away. False: not
 * readable, or above `most`. Closes it. */
MUST_CHECK bool handoff_memory_take(int fd, uint64_t most, struct text *out);

#endif
