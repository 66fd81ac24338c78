/*
 * Which reader holds up the full ring, and whether it is stuck. Pure: the state and the time go in, the
 * decision comes out. Master, main thread.
 *
 *   stall_begin (the ring is full) --> stall_look, at each poll --> stall_end (nothing waits for room)
 *
 * A reader that does not move for the limit is stuck, whatever the reason. One that moves, however slowly,
 * is not.
 */
#ifndef OPALD_SERVER_ROUTER_STALL_H
#define OPALD_SERVER_ROUTER_STALL_H

#include <stdbool.h>
#include <stdint.h>

struct stall {
    /* since when that reader has stood where it stands; 0: the ring is not full */
    uint64_t since_ns;
    uint64_t looked_ns;
    uint64_t cursor;
    unsigned slot;
};

bool stall_running(const struct stall *stall);
/* `slot` is the slowest reader, `cursor` its position in the ring. */
void stall_begin(struct stall *stall, unsigned slot, uint64_t cursor, uint64_t now_ns);
/* True when the slowest reader, `slot` at `cursor`, has not moved for `limit_ns`. It then has this time
 * once more. */
bool stall_look(struct stall *stall, unsigned slot, uint64_t cursor, uint64_t now_ns, uint64_t limit_ns);
void stall_end(struct stall *stall);

#endif
