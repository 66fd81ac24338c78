#include "worker/net/deadline.h"

#include <stdlib.h>
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

/* The timer is not set more finely than this, so that deadlines close together share one wake-up. */
#define DEADLINE_GRAIN_NS    (10 * CLOCK_MILLISECOND)
#define DEADLINE_MAX_SECONDS (366.0 * 86400.0)
#define DEADLINE_NEVER       UINT64_MAX
#define DEADLINES_MAGIC      UINT32_C(0xdead11e5)

struct deadline_list {
    struct deadline *first;
    struct deadline *last;
    uint64_t duration_ns;
};

struct deadlines {
    uint32_t magic;
    struct deadline_list lists[DEADLINE_CLASSES];
    struct event *timer;
    /* DEADLINE_NEVER while the timer is off */
    uint64_t timer_due_ns;
    deadline_expired *expired;
    void *context;
};

static void deadlines_arm(struct deadlines *deadlines, uint64_t due_ns, uint64_t now_ns)
{
    uint64_t wait = due_ns > now_ns ? due_ns - now_ns : 0;
    wait = (wait / DEADLINE_GRAIN_NS + 1) * DEADLINE_GRAIN_NS;
    struct timeval delay = clock_timeval_ns(wait);
    deadlines->timer_due_ns = now_ns + wait;
    event_add(deadlines->timer, &delay);
}

static void deadlines_sweep(evutil_socket_t fd, short what, void *argument)
{
    struct deadlines *deadlines = object_cast(struct deadlines, DEADLINES_MAGIC, argument);
    (void)fd;
    (void)what;
    uint64_t now = clock_monotonic_ns();
    deadlines->timer_due_ns =
        0; /* a deadline set by a callback below must not arm the timer: it is armed at the end */
    for (unsigned i = DEADLINE_NONE + 1; i < DEADLINE_CLASSES; i++) {
        struct deadline_list *list = &deadlines->lists[i];
        while (list->first && list->first->due_ns <= now) {
            struct deadline *deadline = list->first;
            deadline_clear(deadlines, deadline);
            deadlines->expired(deadlines->context, (enum deadline_class)i, deadline);
        }
    }
    uint64_t earliest = DEADLINE_NEVER;
    for (unsigned i = DEADLINE_NONE + 1; i < DEADLINE_CLASSES; i++)
        if (deadlines->lists[i].first && deadlines->lists[i].first->due_ns < earliest)
            earliest = deadlines->lists[i].first->due_ns;
    deadlines->timer_due_ns = DEADLINE_NEVER;
    if (earliest != DEADLINE_NEVER)
        deadlines_arm(deadlines, earliest, now);
}

struct deadlines *deadlines_open(struct event_base *base, deadline_expired *expired, void *context)
{
    struct deadlines *deadlines = memory_allocate(sizeof *deadlines);
    deadlines->magic = DEADLINES_MAGIC;
    deadlines->expired = expired;
    deadlines->context = context;
    deadlines->timer_due_ns = DEADLINE_NEVER;
    deadlines->timer = event_new(base, -1, 0, deadlines_sweep, deadlines);
    if (!deadlines->timer)
        abort(); /* only out of memory */
    return deadlines;
}

void deadlines_close(struct deadlines *deadlines)
{
    event_free(deadlines->timer);
    deadlines->magic = 0;
    free(deadlines);
}

void deadlines_set_duration(struct deadlines *deadlines, enum deadline_class which, double seconds)
{
    if (!(seconds > 0))
        seconds = 0;
    if (seconds > DEADLINE_MAX_SECONDS)
        seconds = DEADLINE_MAX_SECONDS;
    deadlines->lists[which].duration_ns = (uint64_t)(seconds * (double)CLOCK_SECOND);
}

void deadline_clear(struct deadlines *deadlines, struct deadline *deadline)
{
    if (deadline->which == DEADLINE_NONE)
        return;
    struct deadline_list *list = &deadlines->lists[deadline->which];
    if (deadline->previous)
        deadline->previous->next = deadline->next;
    else
        list->first = deadline->next;
    if (deadline->next)
        deadline->next->previous = deadline->previous;
    else
        list->last = deadline->previous;
    deadline->next = deadline->previous = NULL;
    deadline->which = DEADLINE_NONE;
}

void deadline_set(struct deadlines *deadlines, struct deadline *deadline, enum deadline_class which)
{
    deadline_clear(deadlines, deadline);
    if (which == DEADLINE_NONE)
        return;
    struct deadline_list *list = &deadlines->lists[which];
    uint64_t now = clock_monotonic_ns();
    deadline->due_ns = now + list->duration_ns;
    deadline->which = (uint8_t)which;
    deadline->next = NULL;
    deadline->previous = list->last;
    if (list->last)
        list->last->next = deadline;
    else
        list->first = deadline;
    list->last = deadline;
    if (deadline->due_ns < deadlines->timer_due_ns)
        deadlines_arm(deadlines, deadline->due_ns, now);
}
