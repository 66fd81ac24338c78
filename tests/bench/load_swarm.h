/*
 * The clients: many websockets in one process that subscribe, receive, reply and check, as many
 * opal-clients would. An event carries a mark in its payload, "opalbench:SEQUENCE:TIME:" (16 hex digits
 * each); sequence numbers start at 0 and event s goes to the clients of group s % groups, so each client
 * knows which number must come next.
 */
#ifndef OPALD_BENCH_LOAD_SWARM_H
#define OPALD_BENCH_LOAD_SWARM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "tests/bench/load_histogram.h"

#define SWARM_MARK       "opalbench:"
#define SWARM_MARK_BYTES 44 /* with both numbers and their colons */

enum swarm_dialect {
    DIALECT_OPAL,
    /* nats-server's own protocol in websocket frames */
    DIALECT_NATS,
    /* nchan: the address says the topic, a message is the payload; one topic a client */
    DIALECT_NCHAN,
};

struct swarm_settings {
    struct sockaddr_in server;
    enum swarm_dialect dialect;
    unsigned clients;
    /* each client's; events come on the first */
    unsigned topics;
    /* the others are each client's own; otherwise all have the same */
    bool own_topics;
    /* 1: all clients subscribe `topic`; more: client i subscribes "topic-(i % groups)" */
    unsigned groups;
    const char *topic;
    /* bearer token or NULL */
    const char *token;
    /* connections being opened at once */
    unsigned window;
    /* connections opened a second; 0: as fast as the window lets */
    double rate;
    /* answer each notify, as the RPC library of the real client does */
    bool reply;
    /* keep the answers until swarm_release */
    bool hold;
    /* of the clients, the last so many read slowly: no event waits for them, none of theirs is checked */
    unsigned slow;
    /* of the clients, the last so many subscribe only topics that no event is for (not together with slow) */
    unsigned elsewhere;
    /* bytes a second that each of those reads */
    double slow_rate;
    /* ... by a write(2) each; otherwise what one read(2) brought is answered by one write */
    bool reply_each;
};

/* What came in since the last swarm_reset. */
struct swarm_tally {
    uint64_t deliveries;
    /* received, websocket frames whole */
    uint64_t bytes;
    /* read(2) calls that brought something */
    uint64_t reads;
    /* events that every client due has (or will never get) */
    uint64_t completed;
    /* numbers that were skipped */
    uint64_t lost;
    /* numbers that came again or too late */
    uint64_t repeated;
    /* a number of another group, or a notify without a mark */
    uint64_t misplaced;
    /* connections that the server ended */
    uint64_t closed;
    /* ... of slow clients, which it may */
    uint64_t slow_closed;
    /* that slow clients read */
    uint64_t slow_bytes;
    /* publish to the read(2) that brought it, every delivery */
    struct histogram each;
    /* publish to the last client's read, every event */
    struct histogram last;
    /* publish to the kernel's stamp on arrival at the client's socket, when swarm_stamp is on: without the
     * time that this one process takes to read all its clients */
    struct histogram arrival;
};

struct swarm;

/* `loop` outlives the swarm; `settings` is copied. Clients are opened by swarm_open_more. */
struct swarm *swarm_create(int loop, const struct swarm_settings *settings);
/* Opens what the window and the rate allow now. */
void swarm_open_more(struct swarm *swarm);
unsigned swarm_ready(const struct swarm *swarm);  /* subscribed */
unsigned swarm_failed(const struct swarm *swarm); /* refused, reset or closed before that */
/* Event `sequence` is about to be published: sequences must be announced in order, without gaps. */
void swarm_expect(struct swarm *swarm, uint64_t sequence);
const struct swarm_tally *swarm_tally(const struct swarm *swarm);
void swarm_reset(struct swarm *swarm);
/* Has the kernel stamp what arrives, or not. Costs some tens of nanoseconds a delivery, in the sender's
 * CPU time. */
void swarm_stamp(struct swarm *swarm, bool on);
/* Slow clients read what is due to them by now. Called often. */
void swarm_slow_turn(struct swarm *swarm);
/* Sends the answers that were kept (settings.hold). */
void swarm_release(struct swarm *swarm);
/* Of the events since the last reset, those that the client which was most often the last to get one was
 * last for. */
unsigned swarm_last_most(const struct swarm *swarm);
/* Events announced that some client still waits for, and deliveries due in all of them. */
uint64_t swarm_events_open(const struct swarm *swarm);
uint64_t swarm_deliveries_open(const struct swarm *swarm);

#endif
