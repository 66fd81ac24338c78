/* From the ring to the clients. Worker's loop only; the design is told in fanout.c. */
#ifndef OPALD_WORKER_FANOUT_FANOUT_H
#define OPALD_WORKER_FANOUT_FANOUT_H

#include <stdint.h>

#define FANOUT_NONE UINT32_MAX

struct fanout;
struct worker;

/* Opens this worker's reader of the ring and starts reading. */
struct fanout *fanout_open(struct worker *worker);
void fanout_close(struct fanout *fanout);
/* A client's queue has run empty: who waits for that goes on. */
void fanout_client_caught_up(struct fanout *fanout);

#endif
