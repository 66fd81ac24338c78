#include "broadcast/postgres/postgres_dial.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/net/resolver.h"
#include "broadcast/postgres/postgres_sql.h"
#include "shm/common/clock.h"
#include "shm/common/error.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"

#define POSTGRES_DIAL_MAGIC 0x70676469u

enum postgres_dial_state {
    POSTGRES_DIAL_STOPPED,
    /* from the loop */
    POSTGRES_DIAL_STARTING,
    POSTGRES_DIAL_RESOLVING,
    /* PQconnectPoll */
    POSTGRES_DIAL_CONNECTING,
    /* the handle is with the caller */
    POSTGRES_DIAL_CONNECTED,
};

struct postgres_dial {
    uint32_t magic;
    struct event_base *base;
    const struct postgres_uri *uri;
    struct postgres_dial_callbacks callbacks;
    void *context;
    enum postgres_dial_state state;
    /* being tried, and the one after it */
    size_t host;
    size_t host_next;
    PGconn *handle;
    struct event *socket;
    struct resolver *resolver;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;
    /* of one lookup, of one address */
    struct event *timer;
    struct error failure;
};

static void dial_drop_handle(struct postgres_dial *dial)
{
    /* The event goes first: libpq closes the descriptor. */
    if (dial->socket)
        event_free(dial->socket);
    dial->socket = NULL;
    if (dial->handle)
        PQfinish(dial->handle);
    dial->handle = NULL;
}

void postgres_dial_stop(struct postgres_dial *dial)
{
    dial->state = POSTGRES_DIAL_STOPPED;
    dial_drop_handle(dial);
    resolver_cancel(dial->resolver);
    dial->resolver = NULL;
    event_del(dial->timer);
}

static void dial_arm_timer(struct postgres_dial *dial)
{
    struct timeval after = clock_timeval_ns(dial->uri->connect_timeout_ns);
    event_add(dial->timer, &after);
}

/* ---- one address ---- */

static void dial_note_libpq(struct postgres_dial *dial)
{
    struct text message = {0};
    postgres_append_message(&message, dial->handle ? PQerrorMessage(dial->handle) : "out of memory");
    error_set(&dial->failure, -1, "%s", message.length ? message.data : "the connection was closed");
    text_free(&message);
}

static void dial_go_on(struct postgres_dial *dial);
static void dial_on_socket(evutil_socket_t descriptor, short what, void *context);

static void dial_await_socket(struct postgres_dial *dial, short what)
{
    dial->socket = event_new(dial->base, PQsocket(dial->handle), what, dial_on_socket, dial);
    event_add(dial->socket, NULL);
}

static void dial_connected(struct postgres_dial *dial)
{
    PGconn *handle = dial->handle;
    dial->handle = NULL;
    dial->state = POSTGRES_DIAL_CONNECTED;
    event_del(dial->timer);
    dial->callbacks.connected(dial->context, handle);
}

static void dial_on_socket(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_dial *dial = object_cast(struct postgres_dial, POSTGRES_DIAL_MAGIC, context);
    (void)descriptor;
    (void)what;
    /* libpq may close this socket and open another with the same number (sslmode=prefer): the event must be
     * gone before. */
    event_free(dial->socket);
    dial->socket = NULL;
    switch (PQconnectPoll(dial->handle)) {
    case PGRES_POLLING_OK:
        dial_connected(dial);
        break;
    case PGRES_POLLING_READING:
        dial_await_socket(dial, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        dial_await_socket(dial, EV_WRITE);
        break;
    default:
        dial_note_libpq(dial);
        dial_go_on(dial);
        break;
    }
}

static PGconn *dial_connect(const struct postgres_dial *dial, const char *address)
{
    const struct postgres_uri *uri = dial->uri;
    const struct postgres_host *host = &uri->hosts[dial->host];
    const char *keywords[POSTGRES_PARAMETERS_MAX + 5];
    const char *values[POSTGRES_PARAMETERS_MAX + 5];
    char port[16];
    size_t count = 0;
    for (size_t i = 0; i < uri->parameter_count; i++) {
        keywords[count] = uri->keywords[i];
        values[count++] = uri->values[i];
    }
    snprintf(port, sizeof port, "%d", host->port);
    const char *const own[][2] = {
        {"host", host->name}, {"hostaddr", address}, {"port", port}, {"client_encoding", "UTF8"}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (!own[i][1] || !*own[i][1])
            continue;
        keywords[count] = own[i][0];
        values[count++] = own[i][1];
    }
    keywords[count] = values[count] = NULL;
    return PQconnectStartParams(keywords, values, 0);
}

/* False: this one is no good. */
static bool dial_try_address(struct postgres_dial *dial)
{
    char numeric[NI_MAXHOST] = "";
    const struct resolver_address *address = &dial->addresses[dial->address_next++];
    if (address->length)
        getnameinfo((const struct sockaddr *)&address->address, address->length, numeric, sizeof numeric,
            NULL, 0, NI_NUMERICHOST);
    dial->state = POSTGRES_DIAL_CONNECTING;
    dial->handle = dial_connect(dial, numeric[0] ? numeric : dial->uri->hosts[dial->host].address);
    if (!dial->handle || PQstatus(dial->handle) == CONNECTION_BAD) {
        dial_note_libpq(dial);
        dial_drop_handle(dial);
        return false;
    }
    dial_arm_timer(dial);
    /* "as if the last PQconnectPoll had returned PGRES_POLLING_WRITING" */
    dial_await_socket(dial, EV_WRITE);
    return true;
}

/* ---- one host ---- */

static void dial_on_resolved(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure)
{
    struct postgres_dial *dial = object_cast(struct postgres_dial, POSTGRES_DIAL_MAGIC, context);
    dial->resolver = NULL; /* frees itself */
    dial->address_count = count;
    if (failure)
        error_set(&dial->failure, -1, "cannot resolve '%s': %s", dial->uri->hosts[dial->host].name, failure);
    else
        memcpy(dial->addresses, addresses, count * sizeof *addresses);
    dial_go_on(dial);
}

/* True: its name is being looked up. False: it has its address (a numeric one, a unix socket) already. */
static bool dial_try_host(struct postgres_dial *dial)
{
    const struct postgres_host *host = &dial->uri->hosts[dial->host];
    dial->address_next = 0;
    if (host->address || !*host->name || host->name[0] == '/' || host->name[0] == '@') {
        dial->address_count = 1;
        dial->addresses[0].length = 0;
        return false;
    }
    dial->address_count = 0;
    dial->state = POSTGRES_DIAL_RESOLVING;
    dial_arm_timer(dial);
    dial->resolver = resolver_start(dial->base, host->name, host->port, dial_on_resolved, dial);
    return true;
}

/* ---- one after the other ---- */

static void dial_go_on(struct postgres_dial *dial)
{
    bool waits = false;
    dial_drop_handle(dial);
    event_del(dial->timer);
    while (!waits) {
        if (dial->address_next < dial->address_count) {
            waits = dial_try_address(dial);
        } else if (dial->host_next < dial->uri->host_count) {
            dial->host = dial->host_next++;
            waits = dial_try_host(dial);
        } else {
            struct error copy = dial->failure;
            dial->state = POSTGRES_DIAL_STOPPED;
            dial->callbacks.failed(dial->context, copy.text);
            return;
        }
    }
}

static void dial_on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct postgres_dial *dial = object_cast(struct postgres_dial, POSTGRES_DIAL_MAGIC, context);
    (void)descriptor;
    (void)what;
    if (dial->state == POSTGRES_DIAL_RESOLVING || dial->state == POSTGRES_DIAL_CONNECTING) {
        const struct postgres_host *host = &dial->uri->hosts[dial->host];
        error_set(&dial->failure, -1, "%s %s:%d: no answer in time",
            dial->state == POSTGRES_DIAL_RESOLVING ? "looking up" : "connecting to", host->name, host->port);
        resolver_cancel(dial->resolver);
        dial->resolver = NULL;
    }
    dial_go_on(dial);
}

void postgres_dial_start(struct postgres_dial *dial)
{
    struct timeval now = {0, 0};
    postgres_dial_stop(dial);
    dial->state = POSTGRES_DIAL_STARTING;
    dial->failure = (struct error){0};
    dial->host_next = 0;
    dial->address_next = dial->address_count = 0;
    event_add(dial->timer, &now);
}

void postgres_dial_next(struct postgres_dial *dial, const char *why)
{
    error_set(&dial->failure, -1, "%s", why);
    dial_go_on(dial);
}

struct postgres_dial *postgres_dial_make(struct event_base *base, const struct postgres_uri *uri,
    const struct postgres_dial_callbacks *callbacks, void *context)
{
    struct postgres_dial *dial = memory_allocate(sizeof *dial);
    dial->magic = POSTGRES_DIAL_MAGIC;
    dial->base = base;
    dial->uri = uri;
    dial->callbacks = *callbacks;
    dial->context = context;
    dial->timer = event_new(base, -1, 0, dial_on_timer, dial);
    return dial;
}

void postgres_dial_free(struct postgres_dial *dial)
{
    if (!dial)
        return;
    postgres_dial_stop(dial);
    event_free(dial->timer);
    dial->magic = 0;
    free(dial);
}
