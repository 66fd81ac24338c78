/*
 * Statistics mode: the master's part in it. Listens to the announcements on the ring and the backbone,
 * tells the other servers of this one (by the reference's topics and messages, so that servers of both
 * kinds see each other's clients), and answers the workers.
 *
 *   __opal_stats_add               a client announces itself (published by the client)
 *   __opal_stats_rm                it is gone (its server, or the master for clients of a dead worker)
 *   __opal_stats_wakeup            a server has started, or missed something: asks for the others' state
 *   __opal_stats_state_sync        the answer, by the first of those that wait a random time
 *   __opal_stats_server_keepalive  twice in the timeout by each server; once for each worker, as the
 *                                  reference's workers do: its /stats divides by their number
 *
 * Master only.
 */
#ifndef OPALD_SERVER_STATISTICS_STATISTICS_SERVICE_H
#define OPALD_SERVER_STATISTICS_STATISTICS_SERVICE_H

#include <event2/event.h>
#include "server/router/router.h"
#include "shm/common/config.h"
#include "shm/segment.h"

struct statistics_service;

/* `router` is for what the service publishes. `handoff` gives the send end to a worker's pair of sockets,
 * or -1. All must outlive the service. Sends nothing before the loop runs. */
struct statistics_service *statistics_service_open(struct event_base *base, const struct config *config,
    struct segment *segment, struct router *router, int (*handoff)(void *context, unsigned slot),
    void *context);
/* Sends what waits, as far as the ring has room: before router_close. */
void statistics_service_flush(struct statistics_service *service);
/* NULL is allowed. */
void statistics_service_close(struct statistics_service *service);

/* ---- what the router reports (struct router_hooks in server/router/router.h) ---- */
void statistics_service_event(struct statistics_service *service, const struct router_event *event);
void statistics_service_asked(struct statistics_service *service, unsigned slot, uint32_t number, bool brief);
void statistics_service_worker_gone(struct statistics_service *service, unsigned slot);
void statistics_service_missed(struct statistics_service *service);

#endif
