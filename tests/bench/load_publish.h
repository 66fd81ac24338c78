/*
 * The ways an event gets into a server. All take the same event: a sequence number; what subscribers receive as `data` is either
 * {"bench": "<mark><padding>"} of exactly the wanted size, or that same value as the data of a one-entry DataUpdate (HTTP).
 */
#ifndef OPALD_BENCH_LOAD_PUBLISH_H
#define OPALD_BENCH_LOAD_PUBLISH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/bench/load_histogram.h"

enum publish_way {
    PUBLISH_WEBSOCKET, /* the `publish` call, "sync": false */
    PUBLISH_HTTP,      /* POST /data/config, requests pipelined on one connection */
    PUBLISH_BARE,      /* straight to the workers of tests/bench/bare.c: they send what they are given */
    PUBLISH_KAFKA,     /* a record as another server would write it */
    PUBLISH_NATS,      /* PUB on a plain connection to nats-server; nothing is answered */
    PUBLISH_NCHAN, /* POST /pub/TOPIC, requests pipelined on one connection; the body is what subscribers get */
};

struct publish_settings {
    enum publish_way way;
    struct sockaddr_in server;
    const char *topic;
    unsigned groups;   /* as in load_swarm.h */
    size_t payload;    /* bytes of {"bench": ...}; at least PUBLISH_PAYLOAD_MIN */
    const char *token; /* or NULL */
    unsigned bare_workers;
    const char *brokers; /* Kafka's bootstrap list */
    const char *kafka_topic;
};

#define PUBLISH_PAYLOAD_MIN 64

struct publish_tally {
    uint64_t accepted; /* answered with 200 or true, or acknowledged by the broker */
    uint64_t refused;
    struct histogram answer; /* from the publish to that answer */
};

struct publish;

/* Connects (blocking; ends the program when that fails). */
struct publish *publish_open(int loop, const struct publish_settings *settings);
/* Publishes event `sequence`, stamped with the time now. */
void publish_event(struct publish *publish, uint64_t sequence);
/* Publishes that wait for their answer. */
uint64_t publish_unanswered(const struct publish *publish);
const struct publish_tally *publish_tally(const struct publish *publish);
void publish_reset(struct publish *publish);

/* load_kafka.c: `answered` is called from the loop when the broker acknowledged what was produced at `sent`. */
struct load_kafka;
typedef void load_kafka_answered(void *context, uint64_t sent, int accepted);
struct load_kafka *load_kafka_open(
    int loop, const char *brokers, const char *topic, load_kafka_answered *answered, void *context);
void load_kafka_produce(struct load_kafka *kafka, const void *bytes, size_t length, uint64_t sent);

#endif
