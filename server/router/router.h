/*
 * The one place where events get their order. In: the uplinks of the workers, and the backbone. Out: the
 * ring (every worker of this host) and the backbone (every other server). Master, main thread.
 *
 *   worker's uplink --+                  +--> ring --> all workers
 *                     |--> router -------|
 *   backbone ---------+                  +--> backbone (events of this host only)
 *
 * A publisher that asked for an acknowledgement is answered by the ring as well, once the backbone has
 * reported on every message of its event (server/router/acknowledgement.h). While the backbone is away,
 * publishes may be frozen (server/router/freeze.h): those do not reach the ring.
 *
 * When the ring is full because of a slow worker, the router stops taking in: uplinks fill up (publishers
 * wait, then are refused with a clear answer), the backbone is paused. It goes on by itself once there is
 * room. Nothing is dropped for want of room here.
 */
#ifndef OPALD_SERVER_ROUTER_ROUTER_H
#define OPALD_SERVER_ROUTER_ROUTER_H

#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/segment.h"

struct router;

/* A topic's event that has gone to the ring. */
struct router_event {
    struct slice topic;
    struct slice data;
    /* the worker slot that published it, or -1: another server */
    int slot;
    /* of that worker */
    uint32_t incarnation;
    /* slot -1: the other server's id on the backbone */
    struct slice source;
};

struct router_hooks {
    /* A worker has held up the full ring for longer than config->ring_stall_seconds, or wrote nonsense into
     * its uplink: it has to go. `why` is for the log. */
    void (*worker_stuck)(void *context, unsigned slot, const char *why);
    /* An event on the webhook topic has passed, and its publisher has not told the policy process itself. */
    void (*webhook)(void *context);
    /* The backbone is lost, and config->broadcast.reconnect_max_retries attempts have failed: the server
     * has to restart. At most once. */
    void (*backbone_given_up)(void *context);

    /* For the statistics; all four are NULL when nobody keeps any. They may be called in the middle of an
     * event: they must not call the router. */
    void (*event)(void *context, const struct router_event *event);
    /* The worker of `slot` asks, with its own `number` for the question; `brief`: for the short answer. */
    void (*asked)(void *context, unsigned slot, uint32_t number, bool brief);
    void (*worker_gone)(void *context, unsigned slot);
    /* Events of other servers may have been lost. */
    void (*missed)(void *context);

    void *context;
};

/* Opens the ring for writing and, when the configuration names one, the backbone. `config` and `segment`
 * must outlive the router. NULL with `err` when the backbone's settings can't work. */
MUST_CHECK struct router *router_open(struct event_base *base, const struct config *config,
    struct segment *segment, const struct router_hooks *hooks, struct error *err);
/* All workers and the policy process have ended: takes in what they had committed before their end,
 * whatever its size. */
void router_take_rest(struct router *router);
/* Sends what is queued for the backbone, for at most `grace_ms`, and frees everything. */
void router_close(struct router *router, int grace_ms);

/* Workers take clients from now on. When the backbone comes up for the first time only after this, what
 * other servers published meanwhile was not heard, and the clients are asked to refetch. */
void router_serving(struct router *router);
/* This server's id on the backbone: 32 hex digits. */
struct slice router_id(const struct router *router);
/* A worker is about to start in `slot` (its uplink is prepared): it sees every event from now on. */
void router_attach_worker(struct router *router, unsigned slot);
/* The worker of `slot` has ended: the ring no longer waits for it. Takes in what it had committed. */
void router_detach_worker(struct router *router, unsigned slot);
/* The policy process in `slot` (its uplink is prepared), which publishes and reads no events / has ended. */
void router_attach_publisher(struct router *router, unsigned slot);
void router_detach_publisher(struct router *router, unsigned slot);
/* An event of the master's own: to the workers and to the backbone. -1 when the ring is full just now. One
 * that the ring can never take is logged and dropped. */
MUST_CHECK int router_publish(struct router *router, struct slice topic, struct slice data);

#endif
