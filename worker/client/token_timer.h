/*
 * Reports when a token has expired. The end of a token is wall-clock time, which may be set: the clock is
 * looked at again at least once an hour. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_TOKEN_TIMER_H
#define OPALD_WORKER_CLIENT_TOKEN_TIMER_H

#include <stdint.h>
#include <event2/event.h>

struct token_timer;

/* `expires`: seconds since 1970. `expired` is called once, from the loop; it may close the timer. */
struct token_timer *token_timer_open(
    struct event_base *base, int64_t expires, void (*expired)(void *context), void *context);
/* NULL is allowed. */
void token_timer_close(struct token_timer *timer);

#endif
