/*
 * The statistics as documents, read and written by cJSON: an announcement of a client, the answer of
 * /statistics, and the state that servers send to each other (as the reference does, in messages of a
 * bounded size). Pure.
 */
#ifndef OPALD_SERVER_STATISTICS_STATISTICS_DOCUMENT_H
#define OPALD_SERVER_STATISTICS_STATISTICS_DOCUMENT_H

#include "server/statistics/statistics.h"

/* A client's announcement, `data` of its event. `rpc_id` gets a copy of it, unless it is no announcement. */
MUST_CHECK enum statistics_verdict statistics_add(struct statistics *statistics, struct slice data,
    struct statistics_owner owner, uint64_t now_ns, struct text *rpc_id);
/* Another server's state: channels that are not known yet are added. `self`: our own id on the backbone,
 * whose channels are not taken from others. `requester` gets the id of who asked for it. -1: not a state. */
MUST_CHECK int statistics_merge(struct statistics *statistics, struct slice data, struct slice self,
    uint64_t now_ns, struct text *requester);
/* A string member of an object, as in {"worker_id": "..."}. False when there is none, or a longer one than
 * STATISTICS_NAME_MAX. */
MUST_CHECK bool statistics_read_member(struct slice data, const char *key, struct text *out);
/* A string alone. */
MUST_CHECK bool statistics_read_string(struct slice data, struct text *out);

/* "name":[{...},...],... of all clients, and "id",... of the workers of other servers: what is between the
 * braces and brackets. */
void statistics_write_clients(const struct statistics *statistics, struct text *out);
void statistics_write_servers(const struct statistics *statistics, bool after_other, struct text *out);
/* The state as messages of at most `part_max` bytes each; `part` is called for each. `self` owns what is
 * this host's. Returns how many channels were left out, because one alone is larger than a message. */
MUST_CHECK size_t statistics_write_state(const struct statistics *statistics, struct slice requester,
    struct slice self, size_t part_max, void (*part)(void *context, struct slice data), void *context);

#endif
