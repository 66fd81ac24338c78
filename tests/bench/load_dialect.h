/* What a client says to each kind of server, as pure functions: the texts of handshake, subscription and
 * reply. */
#ifndef OPALD_BENCH_LOAD_DIALECT_H
#define OPALD_BENCH_LOAD_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include "tests/bench/load_swarm.h"

/* The websocket handshake of client `index`, into `out`; returns its length. */
size_t dialect_upgrade(const struct swarm_settings *settings, unsigned index, char *out, size_t room);
/* What subscribes it, in memory that the caller frees; NULL when the handshake has already. `opcode` is
 * the frame's. */
char *dialect_subscribe(
    const struct swarm_settings *settings, unsigned index, size_t *length, unsigned *opcode);
/* True when this message says that the subscription stands. `refused` when it says that it does not. */
bool dialect_subscribed(enum swarm_dialect dialect, const unsigned char *text, size_t length, bool *refused);

#define DIALECT_REPLY_MAX 256
/* OPAL: the answer to a notify; 0 when its call id is not found. `out` has room for DIALECT_REPLY_MAX. */
size_t dialect_reply(const unsigned char *notify, size_t length, char *out);

/* Finds an event's mark and reads its two numbers. */
bool dialect_mark(const unsigned char *text, size_t length, uint64_t *sequence, uint64_t *sent);

#endif
