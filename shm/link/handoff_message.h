/*
 * What crosses the SOCK_SEQPACKET pairs between the processes of a host: accepted connections, questions and their answers, which come as a
 * sealed memfd. The writer may be a worker gone mad: a receiver checks what it gets.
 */
#ifndef OPALD_SHM_LINK_HANDOFF_MESSAGE_H
#define OPALD_SHM_LINK_HANDOFF_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/text.h"

enum handoff_kind {
    HANDOFF_CONNECTION,  /* one byte alone; with a socket */
    HANDOFF_ASK_CLIENTS, /* who is connected to you? `slot` asks */
    HANDOFF_CLIENTS,     /* the answer of `slot`, a list (worker/client/client_list.h) in a memfd */
    HANDOFF_STATISTICS,  /* the master's answer, JSON in a memfd */
    HANDOFF_KINDS,
};

struct handoff_message {
    uint8_t kind;
    uint8_t failed; /* of an answer: there is none, because it would be too large or for want of memory */
    uint16_t slot;
    uint32_t number; /* of the question */
};

/* Without waiting. `fd` -1: none; it stays the caller's. False when the receiver's buffer is full or it is gone. Async-signal-safe. */
bool handoff_message_send(int socket, const struct handoff_message *message, int fd);
/* False: nothing there. `*fd` -1: the message came without one (or none was free for it: the kernel has closed it then). */
bool handoff_message_receive(int socket, struct handoff_message *message, int *fd);

/* A memfd with these bytes, sealed; -1 with errno. */
int handoff_memory_make(struct slice bytes);
/* Appends what is in a memfd, by reading and not by mapping, so that nobody can pull it away. False: not readable, or above `most`. Closes it. */
bool handoff_memory_take(int fd, uint64_t most, struct text *out);

#endif
