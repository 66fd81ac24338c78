#include "broadcast/net/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broadcast/net/resolver.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define DIAL_MAGIC 0x6469616cu
/* Keepalive probes as the reference's Postgres defaults have them: noticed after 30 + 3 * 10 seconds of
 * silence. */
#define DIAL_KEEPALIVE_IDLE     30
#define DIAL_KEEPALIVE_INTERVAL 10
#define DIAL_KEEPALIVE_COUNT    3

struct dial {
    uint32_t magic;
    struct event_base *base;
    struct dial_callbacks callbacks;
    void *context;
    const struct dial_target *target;
    struct resolver *resolver;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;
    /* -1: none */
    int descriptor;
    struct event *writable;
    /* of the lookup, of one address */
    struct event *timer;
    /* of the last address that failed */
    struct error failure;
};

static struct dial *dial_from(void *context)
{
    return object_cast(struct dial, DIAL_MAGIC, context);
}

static void dial_drop_socket(struct dial *dial)
{
    if (dial->writable)
        event_free(dial->writable);
    dial->writable = NULL;
    if (dial->descriptor >= 0)
        close(dial->descriptor);
    dial->descriptor = -1;
}

void dial_stop(struct dial *dial)
{
    dial_drop_socket(dial);
    resolver_cancel(dial->resolver);
    dial->resolver = NULL;
    event_del(dial->timer);
}

static void dial_arm_timer(struct dial *dial)
{
    struct timeval after = clock_timeval_ns(dial->target->connect_timeout_ns);
    event_add(dial->timer, &after);
}

static void dial_set_options(const struct dial *dial)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, DIAL_KEEPALIVE_IDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL, DIAL_KEEPALIVE_INTERVAL},
        {IPPROTO_TCP, TCP_KEEPCNT, DIAL_KEEPALIVE_COUNT},
    };
    unsigned user_timeout = (unsigned)(dial->target->user_timeout_ns / CLOCK_MILLISECOND);
    /* Each is a help, none is needed: failures are of no interest. */
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(dial->descriptor, options[i].level, options[i].name, &options[i].value, sizeof(int));
    if (user_timeout)
        setsockopt(dial->descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
}

/* "cannot connect to cache.example:6379 (10.0.0.3): Connection refused" */
static void dial_note_failure(struct dial *dial, const char *why)
{
    const struct resolver_address *address = &dial->addresses[dial->address_next - 1];
    char numeric[NI_MAXHOST] = "";
    getnameinfo((const struct sockaddr *)&address->address, address->length, numeric, sizeof numeric, NULL, 0,
        NI_NUMERICHOST);
    bool named = numeric[0] && strcmp(numeric, dial->target->host) != 0;
    error_set(&dial->failure, -1, "cannot connect to %s:%d%s%s%s: %s", dial->target->host, dial->target->port,
        named ? " (" : "", named ? numeric : "", named ? ")" : "", why);
}

static void dial_go_on(struct dial *dial);

static void dial_on_writable(evutil_socket_t descriptor, short what, void *context)
{
    struct dial *dial = dial_from(context);
    int failure = 0;
    socklen_t length = sizeof failure;
    (void)what;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &length) < 0)
        failure = errno;
    if (failure) {
        dial_note_failure(dial, strerror(failure));
        dial_go_on(dial);
        return;
    }
    dial->descriptor = -1; /* the callee's */
    dial_drop_socket(dial);
    event_del(dial->timer);
    dial->callbacks.connected(dial->context, descriptor);
}

/* False: this one is no good. */
static bool dial_try_address(struct dial *dial)
{
    const struct resolver_address *address = &dial->addresses[dial->address_next++];
    dial->descriptor =
        socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (dial->descriptor < 0) {
        error_set_errno(&dial->failure, errno, "cannot make a socket");
        return false;
    }
    dial_set_options(dial);
    if (connect(dial->descriptor, (const struct sockaddr *)&address->address, address->length) < 0 &&
        errno != EINPROGRESS) {
        dial_note_failure(dial, strerror(errno));
        dial_drop_socket(dial);
        return false;
    }
    dial->writable = event_new(dial->base, dial->descriptor, EV_WRITE, dial_on_writable, dial);
    event_add(dial->writable, NULL);
    dial_arm_timer(dial);
    return true;
}

static void dial_go_on(struct dial *dial)
{
    dial_drop_socket(dial);
    event_del(dial->timer);
    while (dial->address_next < dial->address_count)
        if (dial_try_address(dial))
            return;
    struct error copy = dial->failure;
    dial->callbacks.failed(dial->context, copy.text);
}

static void dial_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct dial *dial = dial_from(context);
    (void)descriptor;
    (void)what;
    if (dial->resolver) {
        error_set(&dial->failure, -1, "cannot resolve '%s': no answer from the name service in time",
            dial->target->host);
        resolver_cancel(dial->resolver);
        dial->resolver = NULL;
    } else {
        dial_note_failure(dial, "no answer in time");
    }
    dial_go_on(dial);
}

static void dial_on_resolved(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure)
{
    struct dial *dial = dial_from(context);
    dial->resolver = NULL; /* frees itself */
    dial->address_count = count;
    if (failure)
        error_set(&dial->failure, -1, "cannot resolve '%s': %s", dial->target->host, failure);
    else
        memcpy(dial->addresses, addresses, count * sizeof *addresses);
    dial_go_on(dial);
}

void dial_start(struct dial *dial, const struct dial_target *target)
{
    dial_stop(dial);
    dial->target = target;
    dial->address_count = dial->address_next = 0;
    dial->failure = (struct error){0};
    dial_arm_timer(dial);
    dial->resolver = resolver_start(dial->base, target->host, target->port, dial_on_resolved, dial);
}

void dial_next(struct dial *dial, const char *why)
{
    error_set(&dial->failure, -1, "%s", why);
    dial_go_on(dial);
}

struct dial *dial_make(struct event_base *base, const struct dial_callbacks *callbacks, void *context)
{
    struct dial *dial = memory_allocate(sizeof *dial);
    dial->magic = DIAL_MAGIC;
    dial->base = base;
    dial->callbacks = *callbacks;
    dial->context = context;
    dial->descriptor = -1;
    dial->timer = event_new(base, -1, 0, dial_on_timer, dial);
    return dial;
}

void dial_free(struct dial *dial)
{
    if (!dial)
        return;
    dial_stop(dial);
    event_free(dial->timer);
    dial->magic = 0;
    free(dial);
}
