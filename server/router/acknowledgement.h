/*
 * Events whose publisher waits for the backbone. The router begins an entry, hands the event's messages to the backbone under the entry's
 * token, and each message reports back once; when all have, the entry's answer is due and goes to the worker by the ring.
 *
 *   begin --expect...--> waiting --done x messages + 1 (the router's own, once all are handed over)--> due --> answered, freed
 *
 * Nothing is kept for ever: an entry ends with its last message, when its publisher can't wait any more (`deadline_ns`), or with its worker.
 * Tokens of ended entries are ignored. Bounded. Pure: no I/O, no clock. Master's main thread.
 */
#ifndef OPALD_SERVER_ROUTER_ACKNOWLEDGEMENT_H
#define OPALD_SERVER_ROUTER_ACKNOWLEDGEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/event.h"

struct certainty;

struct certainty *certainty_make(size_t entries_max);
void certainty_free(struct certainty *certainty);

/* An entry for the event's publisher (its ticket, origin and incarnation); its token, never 0. 0 when there are entries_max already: the publisher then
 * waits in vain until its own deadline. Entries past their deadline at `now_ns` are ended first. */
uint64_t certainty_begin(
    struct certainty *certainty, const struct event *event, uint64_t now_ns, uint64_t deadline_ns);
/* One more message is about to be handed over. */
void certainty_expect(struct certainty *certainty, uint64_t token);
/* One is done: acknowledged, or given up. Also for the router's own share once all are handed over. True when an answer has become due. */
bool certainty_done(struct certainty *certainty, uint64_t token, bool ok);
/* The oldest answer that is due; it stays until certainty_answered. */
bool certainty_due(const struct certainty *certainty, struct event_acknowledgement *answer);
void certainty_answered(struct certainty *certainty);
/* The worker of that slot is gone: nobody waits there. */
void certainty_forget_worker(struct certainty *certainty, uint32_t origin);
/* Entries, waiting or due. */
size_t certainty_count(const struct certainty *certainty);

#endif
