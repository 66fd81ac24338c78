/*
 * The load generator's event loop: epoll and nothing else. What is registered embeds a `struct source` as
 * its first member and is called with the ready events; it may remove itself by closing its descriptor,
 * but must stay allocated until the turn ends.
 */
#ifndef OPALD_BENCH_LOAD_LOOP_H
#define OPALD_BENCH_LOAD_LOOP_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

struct source {
    void (*ready)(struct source *source, uint32_t events);
};

/* Ends the program: a load generator that can't measure has nothing to clean up. */
__attribute__((noreturn)) static inline void load_fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline uint64_t load_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static inline int loop_open(void)
{
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0) {
        load_fail("epoll_create1");
    }
    return loop;
}

static inline void loop_set(int loop, int operation, int descriptor, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop, operation, descriptor, &event) != 0) {
        load_fail("epoll_ctl");
    }
}

static inline void loop_turn(int loop, int timeout_ms)
{
    struct epoll_event events[512];
    const int count = epoll_wait(loop, events, 512, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
}

#endif
