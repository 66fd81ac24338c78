/*
 * Questions to the other processes of the host, for the routes that tell of all of it: /pubsub_client_info
 * asks the other workers, /statistics and /stats ask the master, where the fleet's state is.
 *
 * Nothing is kept in shared memory for it: clients cost nothing for being listed, however many topics they
 * have, and a dead worker's clients are gone with it. The question goes through the handoff pairs (to
 * workers) or the uplink (to the master), the answer comes back as a memfd. Requests that come while a
 * question is under way are answered by the next one, so that each answer is younger than its request, and a
 * worker asks one question of a kind at a time however many ask it. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_INQUIRY_H
#define OPALD_WORKER_CLIENT_INQUIRY_H

#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/publisher.h"
#include "worker/api/api_services.h"
#include "worker/client/connections.h"
#include "worker/client/peers.h"
#include "worker/http/http_exchange.h"

struct inquiry;

/* Pointers must outlive it. */
struct inquiry_settings {
    struct event_base *base;
    const struct config *config;
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct connections *connections;
    struct publisher *publisher;
    struct peers *peers;
};

struct inquiry *inquiry_open(const struct inquiry_settings *settings);
/* NULL is allowed. */
void inquiry_close(struct inquiry *inquiry);

/* The exchange is pending from now on, and finished from the loop. */
void inquiry_ask(struct inquiry *inquiry, struct http_exchange *exchange, enum inquiry_question question);

#endif
