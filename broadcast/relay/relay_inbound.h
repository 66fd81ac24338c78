/*
 * Messages of the backbone on their way in: decoded, own ones and control messages sorted out, events offered
 * to the server. What the server can't take now, or what waits for a row (Postgres), waits in the inbox, in
 * order, and reading stops when that is full. Master's main thread only.
 */
#ifndef OPALD_BROADCAST_RELAY_RELAY_INBOUND_H
#define OPALD_BROADCAST_RELAY_RELAY_INBOUND_H

#include <stdbool.h>
#include <stdint.h>
#include "broadcast/backend/backend.h"

#define RELAY_CONTROL_KEY_HEARTBEAT "opald_heartbeat"
#define RELAY_CONTROL_KEY_ROW       "opald_row"

struct relay_inbound;

struct relay_inbound_hooks {
    /* A message came through: the way from the backbone works. `heartbeat`: it was one of ours. */
    void (*came_through)(void *context, bool heartbeat);
    /* Something was missed: clients have to refetch. */
    void (*resync_wanted)(void *context, const char *why);
    /* Stop or go on delivering messages. */
    void (*read)(void *context, bool on);
    /* Rows can be asked for (relay_inbound_next_row). NULL: the backend has no rows. */
    void (*rows_wanted)(void *context);
};

/* Copies what it needs of `settings`; the rest must outlive it. `callbacks` get `callbacks_context`, `hooks`
 * get `context`. */
struct relay_inbound *relay_inbound_make(const struct broadcast_settings *settings, const char *logger,
    const struct broadcast_callbacks *callbacks, void *callbacks_context,
    const struct relay_inbound_hooks *hooks, void *context);
void relay_inbound_free(struct relay_inbound *inbound);

/* One message of the channel. True: go on; false: stop reading until hooks.read(true). It is taken in either
 * case. */
MUST_CHECK bool relay_inbound_received(struct relay_inbound *inbound, struct slice message);
/* After the messages of one read. */
void relay_inbound_batch_end(struct relay_inbound *inbound);
/* The server can take events again. */
void relay_inbound_resume(struct relay_inbound *inbound);
/* Messages are being read: the server takes events, the inbox has room. */
bool relay_inbound_reading(const struct relay_inbound *inbound);

/* The next row to ask for; its content (an absent slice: there is none). */
MUST_CHECK bool relay_inbound_next_row(struct relay_inbound *inbound, uint64_t *row);
void relay_inbound_row(struct relay_inbound *inbound, uint64_t row, struct slice message);
/* The connection on which rows were asked for is gone. */
void relay_inbound_ask_again(struct relay_inbound *inbound);

#endif
