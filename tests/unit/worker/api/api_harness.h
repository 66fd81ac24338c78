/*
 * What the tests of worker/api share: a session with the server's routes, and a publisher (in place of
 * shm/link/publisher.c) that keeps what is published and decides when it is told to.
 */
#ifndef OPALD_TESTS_UNIT_WORKER_API_API_HARNESS_H
#define OPALD_TESTS_UNIT_WORKER_API_API_HARNESS_H

#include "shm/link/publisher.h"
#include "tests/unit/worker/http/http_harness.h"
#include "worker/api/api_services.h"
#include "worker/policy/policy_services.h"

struct publisher {
    /* of publisher_publish itself */
    enum publish_outcome answer;
    unsigned published;
    unsigned cancelled;
    bool wants_acknowledgement;
    /* one a line */
    struct text topics;
    struct text data;
    publish_done *done;
    void *context;
};

struct api_test {
    struct http_test http;
    struct api_services api;
    struct policy_services policy;
    struct publisher publisher;
};

void api_test_open(struct api_test *test);
void api_test_close(struct api_test *test);
/* Decides the publish that is under way. */
void publisher_decide(struct publisher *publisher, enum publish_outcome outcome);

#endif
