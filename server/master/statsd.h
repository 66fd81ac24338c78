/*
 * The host's figures to a DogStatsD agent by UDP, when OPAL_ENABLE_METRICS is set: the reference's names
 * (permit.opal.startup, permit.opal.opal_server.broadcaster_reader_healthy) as it sends them, and what GET
 * /metrics shows, under permit.opal.opald. The master's loop only; a packet that the agent does not take is
 * not sent again, counters make up for it with the next one.
 */
#ifndef OPALD_SERVER_MASTER_STATSD_H
#define OPALD_SERVER_MASTER_STATSD_H

#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/segment.h"

struct statsd;

/* Never fails: an agent that can't be reached is a warning. `config` and `segment` must outlive it. */
struct statsd *statsd_open(
    struct event_base *base, const struct config *config, const struct segment *segment);
/* Sends what is left once more. NULL is allowed. */
void statsd_close(struct statsd *statsd);

#endif
