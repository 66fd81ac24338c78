/* From the ring to the clients. Worker's loop only; the design is told in fanout.c. */
#ifndef OPALD_WORKER_FANOUT_FANOUT_H
#define OPALD_WORKER_FANOUT_FANOUT_H

#include <stdint.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/publisher.h"
#include "worker/client/connections.h"
#include "worker/client/paced_closing.h"
#include "worker/topics/subscriptions.h"

struct fanout;

/* Pointers must outlive it. */
struct fanout_settings {
    struct event_base *base;
    const struct config *config;
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct connections *connections;
    struct subscriptions *subscriptions;
    struct publisher *publisher;
    struct paced_closing *paced_closing;
};

/* Opens this worker's reader of the ring and starts reading. */
struct fanout *fanout_open(const struct fanout_settings *settings);
/* NULL is allowed. */
void fanout_close(struct fanout *fanout);
/* A client's queue has run empty: who waits for that goes on. */
void fanout_client_caught_up(struct fanout *fanout);

#endif
