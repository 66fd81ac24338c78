#include "broadcast/net/resolver.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/common/signals.h"

#define RESOLVER_MAGIC       0x7265736fu
#define RESOLVER_JOB_MAGIC   0x72736a62u
#define RESOLVER_STACK_BYTES (512 * 1024)

/* Shared by the loop and the thread, freed by whoever lets go last. The thread writes the result, then the
 * eventfd; the loop reads the eventfd, then the result: the reference count's release (thread) and acquire
 * (loop: `threads_done`) order the two. */
struct resolver_job {
    uint32_t magic;
    atomic_int references;
    /* store-release by the thread after the result, load-acquire by the loop */
    atomic_int threads_done;
    int signal;
    char host[NI_MAXHOST];
    char service[16];
    /* of getaddrinfo */
    int status;
    size_t count;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
};

struct resolver {
    uint32_t magic;
    struct resolver_job *job;
    struct event *event;
    resolver_done done;
    void *context;
    /* found at the start */
    char failure[128];
};

static void job_release(struct resolver_job *job)
{
    if (atomic_fetch_sub_explicit(&job->references, 1, memory_order_acq_rel) != 1)
        return;
    if (job->signal >= 0)
        close(job->signal);
    job->magic = 0;
    free(job);
}

static void job_lookup(struct resolver_job *job, int flags)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    job->status = getaddrinfo(job->host, job->service, &hints, &list);
    if (job->status != 0)
        return;
    for (struct addrinfo *at = list; at && job->count < RESOLVER_ADDRESSES_MAX; at = at->ai_next) {
        if (at->ai_addrlen > sizeof job->addresses[0].address)
            continue;
        memcpy(&job->addresses[job->count].address, at->ai_addr, at->ai_addrlen);
        job->addresses[job->count++].length = at->ai_addrlen;
    }
    freeaddrinfo(list);
}

static void job_finish(struct resolver_job *job)
{
    uint64_t one = 1;
    atomic_store_explicit(&job->threads_done, 1, memory_order_release);
    while (write(job->signal, &one, sizeof one) < 0)
        ;
}

static void *job_thread(void *context)
{
    struct resolver_job *job = object_cast(struct resolver_job, RESOLVER_JOB_MAGIC, context);
    job_lookup(job, 0);
    job_finish(job);
    job_release(job);
    return NULL;
}

static int job_start_thread(struct resolver_job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t before;
    int status;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, RESOLVER_STACK_BYTES);
    /* Signals belong to the main thread. */
    signals_hold(&before);
    atomic_fetch_add_explicit(&job->references, 1, memory_order_relaxed);
    status = pthread_create(&thread, &attributes, job_thread, job);
    signals_release(&before);
    pthread_attr_destroy(&attributes);
    if (status != 0)
        job_release(job);
    return status;
}

static void resolver_free(struct resolver *resolver)
{
    if (resolver->event)
        event_free(resolver->event);
    if (resolver->job)
        job_release(resolver->job);
    resolver->magic = 0;
    free(resolver);
}

static void resolver_on_done(evutil_socket_t descriptor, short what, void *context)
{
    struct resolver *resolver = object_cast(struct resolver, RESOLVER_MAGIC, context);
    struct resolver_job *job = resolver->job;
    char failure[256];
    (void)descriptor;
    (void)what;
    if (!resolver->failure[0] && !atomic_load_explicit(&job->threads_done, memory_order_acquire))
        return;
    /* The callback may start the next lookup: this one is out of the way by then, except for its result. */
    if (resolver->failure[0])
        snprintf(failure, sizeof failure, "%s", resolver->failure);
    else if (job->status != 0)
        snprintf(failure, sizeof failure, "%s", gai_strerror(job->status));
    else if (!job->count)
        snprintf(failure, sizeof failure, "the name has no address");
    else
        failure[0] = '\0';
    if (failure[0])
        resolver->done(resolver->context, NULL, 0, failure);
    else
        resolver->done(resolver->context, job->addresses, job->count, NULL);
    resolver_free(resolver);
}

struct resolver *resolver_start(
    struct event_base *base, const char *host, int port, resolver_done done, void *context)
{
    struct resolver *resolver = memory_allocate(sizeof *resolver);
    struct resolver_job *job = memory_allocate(sizeof *job);
    resolver->magic = RESOLVER_MAGIC;
    job->magic = RESOLVER_JOB_MAGIC;
    resolver->job = job;
    resolver->done = done;
    resolver->context = context;
    atomic_init(&job->references, 1);
    job->signal = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    snprintf(job->service, sizeof job->service, "%d", port);
    int length = snprintf(job->host, sizeof job->host, "%s", host);
    resolver->event =
        event_new(base, job->signal, job->signal >= 0 ? EV_READ : 0, resolver_on_done, resolver);
    if (job->signal < 0 || length >= (int)sizeof job->host) {
        snprintf(resolver->failure, sizeof resolver->failure, "%s",
            job->signal < 0 ? "no descriptor for the lookup" : "the name is too long");
        event_active(resolver->event, EV_TIMEOUT, 0);
        return resolver;
    }
    event_add(resolver->event, NULL);
    job_lookup(job, AI_NUMERICHOST);
    if (job->status == 0) {
        job_finish(job);
        return resolver;
    }
    job->status = 0;
    int status = job_start_thread(job);
    if (status != 0) {
        snprintf(
            resolver->failure, sizeof resolver->failure, "no thread for the lookup: %s", strerror(status));
        event_active(resolver->event, EV_TIMEOUT, 0);
    }
    return resolver;
}

void resolver_cancel(struct resolver *resolver)
{
    if (resolver)
        resolver_free(resolver);
}
