#include "worker/client/token_timer.h"

#include <stdlib.h>
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define TOKEN_TIMER_MAGIC UINT32_C(0x70ce27e2)
#define TOKEN_LOOK_US     (INT64_C(3600) * 1000000)
/* The shortest wait: the timer's grain lets it fire a little early. */
#define TOKEN_WAIT_US 1000

struct token_timer {
    uint32_t magic;
    int64_t expires_us;
    struct event *event;
    void (*expired)(void *context);
    void *context;
};

static void token_timer_arm(struct token_timer *timer, int64_t left_us)
{
    int64_t wait = left_us + TOKEN_WAIT_US;
    if (wait > TOKEN_LOOK_US)
        wait = TOKEN_LOOK_US;
    event_add(timer->event, &(const struct timeval){.tv_sec = wait / 1000000, .tv_usec = wait % 1000000});
}

static void token_timer_on_time(evutil_socket_t fd, short what, void *argument)
{
    struct token_timer *timer = object_cast(struct token_timer, TOKEN_TIMER_MAGIC, argument);
    int64_t left_us = timer->expires_us - (int64_t)clock_realtime_us();
    (void)fd;
    (void)what;
    if (left_us > 0)
        token_timer_arm(timer, left_us);
    else
        timer->expired(timer->context);
}

struct token_timer *token_timer_open(
    struct event_base *base, int64_t expires, void (*expired)(void *context), void *context)
{
    struct token_timer *timer = memory_allocate(sizeof *timer);
    timer->magic = TOKEN_TIMER_MAGIC;
    timer->expires_us = expires < INT64_MAX / 1000000 ? expires * 1000000 : INT64_MAX;
    timer->expired = expired;
    timer->context = context;
    timer->event = event_new(base, -1, 0, token_timer_on_time, timer);
    if (!timer->event)
        abort(); /* only out of memory */
    int64_t left_us = timer->expires_us - (int64_t)clock_realtime_us();
    token_timer_arm(timer, left_us > 0 ? left_us : 0);
    return timer;
}

void token_timer_close(struct token_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    timer->magic = 0;
    free(timer);
}
