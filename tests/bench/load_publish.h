/*
 * The ways an event gets into a server. All take the same event: a sequence number; what subscribers
 * receive as `data` is either {"bench": "<mark><padding>"} of exactly the wanted size, or that same value
 * as the data of a one-entry DataUpdate (HTTP).
 */
#ifndef OPALD_BENCH_LOAD_PUBLISH_H
#define OPALD_BENCH_LOAD_PUBLISH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/bench/load_histogram.h"

enum publish_way {
    /* the `publish` call, "sync": false */
    PUBLISH_WEBSOCKET,
    /* POST /data/config, requests pipelined on one connection */
    PUBLISH_HTTP,
    /* straight to the workers of tests/bench/bare.c: they send what they are given */
    PUBLISH_BARE,
    /* a record as another server would write it */
    PUBLISH_KAFKA,
    /* PUB on a plain connection to nats-server; nothing is answered */
    PUBLISH_NATS,
    /* POST /pub/TOPIC, requests pipelined on one connection; the body is what subscribers get */
    PUBLISH_NCHAN,
};

struct publish_settings {
    enum publish_way way;
    struct sockaddr_in server;
    const char *topic;
    /* as in load_swarm.h */
    unsigned groups;
    /* bytes of {"bench": ...}; at least PUBLISH_PAYLOAD_MIN */
    size_t payload;
    /* or NULL */
    const char *token;
    unsigned bare_workers;
    /* Kafka's bootstrap list */
    const char *brokers;
    const char *kafka_topic;
};

#define PUBLISH_PAYLOAD_MIN 64

struct publish_tally {
    /* answered with 200 or true, or acknowledged by the broker */
    uint64_t accepted;
    uint64_t refused;
    /* from the publish to that answer */
    struct histogram answer;
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

/* load_kafka.c: `answered` is called from the loop when the broker has acknowledged what was produced at
 * `sent`. */
struct load_kafka;
typedef void load_kafka_answered(void *context, uint64_t sent, int accepted);
struct load_kafka *load_kafka_open(
    int loop, const char *brokers, const char *topic, load_kafka_answered *answered, void *context);
void load_kafka_produce(struct load_kafka *kafka, const void *bytes, size_t length, uint64_t sent);

#endif
