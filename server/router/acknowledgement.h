/*
 * Events whose publisher waits for the backbone. The router begins an entry and hands the event's messages
 * to the backbone under the entry's token. Each message reports back once. When all have, the entry's
 * answer is due; it goes to the worker by the ring.
 *
 *   begin --expect...--> waiting --done x (messages + 1)--> due --> answered, freed
 *
 * The one `done` more is the router's own share: it reports it once all messages are handed over.
 *
 * An entry ends with its last message, when its publisher can't wait any more (`deadline_ns`), or with its
 * worker. Tokens of ended entries are ignored. The number of entries is bounded. Pure: no I/O, no clock.
 * Master, main thread.
 */
#ifndef OPALD_SERVER_ROUTER_ACKNOWLEDGEMENT_H
#define OPALD_SERVER_ROUTER_ACKNOWLEDGEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/ring_event.h"

struct acknowledgements;

struct acknowledgements *acknowledgement_make(size_t entries_max);
void acknowledgement_free(struct acknowledgements *acknowledgements);

/* An entry for the event's publisher (its ticket, origin and incarnation). Returns its token, never 0.
 * Returns 0 when there are `entries_max` already: the publisher then waits until its own deadline. Entries
 * past their deadline at `now_ns` are ended first. */
uint64_t acknowledgement_begin(struct acknowledgements *acknowledgements, const struct ring_event *event,
    uint64_t now_ns, uint64_t deadline_ns);
/* One more message is about to be handed over. */
void acknowledgement_expect(struct acknowledgements *acknowledgements, uint64_t token);
/* One message is acknowledged (`ok`) or given up. Also for the router's own share. True when an answer is
 * due now. */
bool acknowledgement_done(struct acknowledgements *acknowledgements, uint64_t token, bool ok);
/* The oldest answer that is due; it stays until acknowledgement_answered. False when there is none. */
bool acknowledgement_due(
    const struct acknowledgements *acknowledgements, struct ring_acknowledgement *answer);
void acknowledgement_answered(struct acknowledgements *acknowledgements);
/* The worker of slot `origin` has ended: its entries end. */
void acknowledgement_forget_worker(struct acknowledgements *acknowledgements, uint32_t origin);
/* Entries, waiting or due. */
size_t acknowledgement_count(const struct acknowledgements *acknowledgements);

#endif
