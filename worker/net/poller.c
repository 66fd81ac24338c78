#include "worker/net/poller.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

#define POLLER_BATCH 512 /* of one wake-up; then timers and events get their turn */

#define POLLER_MAGIC 0x0b011e70u

struct poller {
    uint32_t magic;
    int epoll;
    struct event *event;
    poller_ready *ready;
    struct log_limiter failed;
    uint64_t turn;
    struct epoll_event batch[POLLER_BATCH];
};

static void poller_on_event(evutil_socket_t fd, short what, void *argument)
{
    struct poller *poller = object_cast(struct poller, POLLER_MAGIC, argument);
    (void)what;
    poller->turn++;
    int count = epoll_wait(fd, poller->batch, POLLER_BATCH, 0);
    for (int i = 0; i < count; i++) {
        uint32_t events = poller->batch[i].events;
        bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
        if (i + 2 < count)
            __builtin_prefetch(poller->batch[i + 2].data.ptr);
        poller->ready(poller->batch[i].data.ptr, broken || (events & EPOLLIN), broken || (events & EPOLLOUT));
    }
}

struct poller *poller_open(struct event_base *base, poller_ready *ready, struct error *err)
{
    struct poller *poller = memory_allocate(sizeof *poller);
    poller->magic = POLLER_MAGIC;
    poller->ready = ready;
    poller->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (poller->epoll < 0) {
        error_set_errno(err, errno, "no epoll");
        free(poller);
        return NULL;
    }
    poller->event = event_new(base, poller->epoll, EV_READ | EV_PERSIST, poller_on_event, poller);
    if (!poller->event || event_add(poller->event, NULL) < 0)
        abort(); /* only out of memory */
    return poller;
}

uint64_t poller_turn(const struct poller *poller)
{
    return poller->turn;
}

void poller_close(struct poller *poller)
{
    event_free(poller->event);
    close(poller->epoll);
    poller->magic = 0;
    free(poller);
}

void poller_change(
    struct poller *poller, int fd, void *owner, struct poller_wants was, struct poller_wants now)
{
    bool before = was.read || was.write, after = now.read || now.write;
    if (was.read == now.read && was.write == now.write)
        return;
    struct epoll_event event = {
        .events = (now.read ? EPOLLIN : 0u) | (now.write ? EPOLLOUT : 0u),
        .data.ptr = owner,
    };
    int operation = !before ? EPOLL_CTL_ADD : after ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    /* Fails only when the kernel has no memory or watches left (fs.epoll.max_user_watches); the connection's
     * deadlines end it then. */
    if (epoll_ctl(poller->epoll, operation, fd, &event) < 0)
        log_write_limited(&poller->failed, LOG_ERROR, LOGGER_WORKER,
            "A connection's socket can't be watched: error %d", errno);
}
