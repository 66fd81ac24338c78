#include "server/policy/bundle/bundle_builder_process.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"

#define BUILDER_IDLE_SECONDS 60

#define BUILDER_PROCESS_MAGIC UINT32_C(0x62707263)
#define ENDED_BUILDER_MAGIC   UINT32_C(0x62656e64)

struct bundle_builder_process {
    uint32_t magic;
    struct event_base *base;
    struct bundle_builder_hooks hooks;
    /* -1: none is running. */
    int socket;
    /* A pidfd: a signal can't reach another process that got the number. */
    int process;
    bool busy;
    struct event *readable;
    struct event *idle;
    struct text buffer;
    struct ended_builder *ended;
};

static void on_readable(evutil_socket_t socket, short what, void *argument);

/* ---- ended builders: each is reaped through its pidfd, independent of SIGCHLD ---- */

struct ended_builder {
    uint32_t magic;
    struct ended_builder *next;
    struct bundle_builder_process *owner;
    int process;
    struct event *event;
};

static void ended_free(struct bundle_builder_process *owner, struct ended_builder *ended)
{
    struct ended_builder **at = &owner->ended;
    while (*at != ended)
        at = &(*at)->next;
    *at = ended->next;
    event_free(ended->event);
    close(ended->process);
    ended->magic = 0;
    free(ended);
}

static void on_ended(evutil_socket_t process, short what, void *argument)
{
    struct ended_builder *ended = object_cast(struct ended_builder, ENDED_BUILDER_MAGIC, argument);
    siginfo_t info;
    (void)what;
    waitid(P_PIDFD, (id_t)process, &info, WEXITED | WNOHANG);
    ended_free(ended->owner, ended);
}

static void reap_later(struct bundle_builder_process *process)
{
    struct ended_builder *ended = memory_allocate(sizeof *ended);
    ended->magic = ENDED_BUILDER_MAGIC;
    ended->owner = process;
    ended->process = process->process;
    ended->event = event_new(process->base, ended->process, EV_READ, on_ended, ended);
    ended->next = process->ended;
    process->ended = ended;
    event_add(ended->event, NULL);
}

/* ---- start and end ---- */

MUST_CHECK static int builder_start(struct bundle_builder_process *process, struct error *err)
{
    int ends[2];
    if (bundle_wire_pair(ends, err) < 0)
        return -1;
    int pid = process->hooks.start(ends[1], err);
    close(ends[1]);
    process->process = pid < 0 ? -1 : pidfd_open(pid, 0);
    if (process->process < 0) {
        if (pid >= 0) /* no descriptor was left: it ends by itself when its socket closes */
            error_set_errno(err, errno, "cannot watch the bundle builder");
        close(ends[0]);
        return -1;
    }
    process->socket = ends[0];
    process->readable = event_new(process->base, ends[0], EV_READ | EV_PERSIST, on_readable, process);
    event_add(process->readable, NULL);
    return 0;
}

/* The builder ends by itself at the end of its socket; in the middle of a build it has to be killed. */
static void builder_end(struct bundle_builder_process *process)
{
    if (process->socket < 0)
        return;
    if (process->busy)
        pidfd_send_signal(process->process, SIGKILL, NULL, 0);
    process->busy = false;
    event_free(process->readable);
    close(process->socket);
    process->socket = -1;
    reap_later(process);
    event_del(process->idle);
}

static void on_idle(evutil_socket_t socket, short what, void *argument)
{
    struct bundle_builder_process *process =
        object_cast(struct bundle_builder_process, BUILDER_PROCESS_MAGIC, argument);
    (void)socket;
    (void)what;
    if (!process->busy)
        builder_end(process);
}

struct bundle_builder_process *bundle_builder_process_open(
    struct event_base *base, const struct bundle_builder_hooks *hooks)
{
    struct bundle_builder_process *process = memory_allocate(sizeof *process);
    process->magic = BUILDER_PROCESS_MAGIC;
    process->base = base;
    process->hooks = *hooks;
    process->socket = -1;
    process->idle = event_new(base, -1, 0, on_idle, process);
    return process;
}

void bundle_builder_process_close(struct bundle_builder_process *process)
{
    builder_end(process);
    while (process->ended)
        ended_free(process, process->ended);
    event_free(process->idle);
    text_free(&process->buffer);
    process->magic = 0;
    free(process);
}

void bundle_builder_process_kill(struct bundle_builder_process *process)
{
    builder_end(process);
}

/* ---- work ---- */

MUST_CHECK static int send_request(
    struct bundle_builder_process *process, const struct bundle_request *request)
{
    struct text message = {0};
    bundle_wire_request_write(request, &message);
    int result = bundle_wire_send(process->socket, text_slice(&message), -1);
    text_free(&message);
    return result;
}

int bundle_builder_process_ask(
    struct bundle_builder_process *process, const struct bundle_request *request, struct error *err)
{
    if (process->socket >= 0 && send_request(process, request) < 0)
        builder_end(process); /* it died while it was idle, perhaps: another one is started */
    else if (process->socket >= 0)
        process->busy = true;
    if (!process->busy) {
        if (builder_start(process, err) < 0)
            return -1;
        if (send_request(process, request) < 0) {
            error_set_errno(err, errno, "cannot ask the bundle builder");
            builder_end(process);
            return -1;
        }
        process->busy = true;
    }
    event_del(process->idle);
    return 0;
}

static void on_readable(evutil_socket_t socket, short what, void *argument)
{
    const struct timeval idle = {BUILDER_IDLE_SECONDS, 0};
    struct bundle_builder_process *process =
        object_cast(struct bundle_builder_process, BUILDER_PROCESS_MAGIC, argument);
    struct bundle_reply reply = {.descriptor = -1};
    int descriptor;
    (void)what;
    ssize_t length = bundle_wire_receive(socket, &process->buffer, &descriptor);
    bool good = length > 0 && bundle_wire_reply_read(text_slice(&process->buffer), descriptor, &reply) == 0;
    bool busy = process->busy;
    if (!good) {
        builder_end(process);
        if (busy)
            process->hooks.lost(process->hooks.context);
        return;
    }
    process->busy = false;
    event_add(process->idle, &idle);
    if (busy)
        process->hooks.reply(process->hooks.context, &reply);
    else if (reply.descriptor >= 0)
        close(reply.descriptor);
}
