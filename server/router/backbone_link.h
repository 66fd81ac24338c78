/*
 * The link to the other servers: the backbone (broadcast/), what its state means for this host, and when
 * the clients of this host have to refetch. It knows nothing of the ring; the router acts on its callbacks.
 *
 * Clients have to refetch when
 *   - the backbone may have lost events of other servers,
 *   - it came up for the first time only after clients were taken,
 *   - an event of another server was too large for the ring,
 *   - publishes of this host were frozen in a gap (server/router/freeze.h).
 *
 * Master, main thread.
 */
#ifndef OPALD_SERVER_ROUTER_BACKBONE_LINK_H
#define OPALD_SERVER_ROUTER_BACKBONE_LINK_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "broadcast/broadcast.h"
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/ring_event.h"
#include "shm/segment.h"

struct backbone_link;

struct backbone_link_hooks {
    /* An event of another server. False when there is no room for it: it comes again after
     * backbone_link_resume. */
    bool (*event)(void *context, const struct notification *notification);
    /* after a batch of these */
    void (*batch_end)(void *context);
    /* What became of a message that was sent with a token. Never puts anything on the ring itself: it may
     * be called in the middle of backbone_link_send. */
    void (*acknowledged)(void *context, uint64_t token, bool ok);
    /* Events of other servers may have been lost. */
    void (*missed)(void *context);
    /* After `missed`, unless OPAL_BROADCAST_RESYNC_ON_RECONNECT is false: the clients of this host have to
     * refetch. */
    void (*resync)(void *context, const struct ring_resync *resync);
    /* The backbone is lost for good, although it was to be connected again: the server has to restart. At
     * most once. */
    void (*given_up)(void *context);
    void *context;
};

struct backbone_link_settings {
    struct event_base *base;
    const struct config *config;
    struct segment *segment;
    /* this server's id on the backbone, 32 hex digits */
    const char *notifier_id;
    /* the largest record that the ring takes, in bytes */
    uint32_t record_max;
};

/* Starts connecting. What `settings` points to must outlive the link. NULL with `err` when it can't work. */
MUST_CHECK struct backbone_link *backbone_link_open(const struct backbone_link_settings *settings,
    const struct backbone_link_hooks *hooks, struct error *err);
/* Sends what is queued, for at most `grace_ms`. Returns the number of messages that could not be sent. */
size_t backbone_link_close(struct backbone_link *link, int grace_ms);

/* The hook `event` returned false, and there may be room now. */
void backbone_link_resume(struct backbone_link *link);
/* One message; `token`: 0, or what `acknowledged` reports. False when it is not taken, which is logged and
 * counted. */
MUST_CHECK bool backbone_link_send(
    struct backbone_link *link, struct slice topic, struct slice data, uint64_t token);
/* Workers take clients from now on. */
void backbone_link_serving(struct backbone_link *link);
/* Whether this event of this host has to be dropped, because the backbone is away and publishes are frozen.
 * Then it is counted and logged. */
bool backbone_link_freezes(struct backbone_link *link, const struct ring_event *event);

#endif
