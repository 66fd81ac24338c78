#include "server/master/tls_reload.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/object.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "shm/common/signals.h"
#include "worker/net/tls_store.h"

#define TLS_RELOAD_MAGIC 0x746c7372u

struct tls_reload {
    uint32_t magic;
    const struct config *config;
    int store;
    /* eventfd: the thread has ended */
    int done;
    struct event *event;
    void (*reloaded)(void *context);
    void *context;
    pthread_t thread;
    bool running;
    bool again;
    /* the thread's, until it has ended */
    int result;
    struct error err;
};

static int load(const struct config *config, int store, struct error *err)
{
    struct tls_material material;
    if (tls_material_load(config, &material, err) < 0)
        return -1;
    int result = tls_store_write(store, &material, err);
    tls_material_free(&material);
    return result;
}

static void *reload_run(void *argument)
{
    struct tls_reload *reload = object_cast(struct tls_reload, TLS_RELOAD_MAGIC, argument);
    const uint64_t one = 1;
    reload->result = load(reload->config, reload->store, &reload->err);
    if (write(reload->done, &one, sizeof one) != (ssize_t)sizeof one)
        abort(); /* an eventfd takes it */
    return NULL;
}

static void reload_on_done(evutil_socket_t fd, short what, void *argument)
{
    struct tls_reload *reload = object_cast(struct tls_reload, TLS_RELOAD_MAGIC, argument);
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    pthread_join(reload->thread, NULL);
    reload->running = false;
    if (reload->result < 0) {
        log_write(LOG_ERROR, LOGGER_MASTER, "the new certificate is not usable, the old one stays: %s",
            reload->err.text);
    } else {
        log_write(LOG_INFO, LOGGER_MASTER, "the certificate is loaded anew from %s",
            reload->config->tls_certificate);
        reload->reloaded(reload->context);
    }
    if (reload->again) {
        reload->again = false;
        tls_reload_start(reload);
    }
}

void tls_reload_start(struct tls_reload *reload)
{
    sigset_t before;
    if (reload->running) {
        reload->again = true;
        return;
    }
    reload->err = (struct error){0};
    /* signals are the loop's */
    signals_hold(&before);
    int failure = pthread_create(&reload->thread, NULL, reload_run, reload);
    signals_release(&before);
    if (failure)
        log_write(LOG_ERROR, LOGGER_MASTER,
            "the certificate can't be read anew now (no thread), the old one stays");
    else
        reload->running = true;
}

struct tls_reload *tls_reload_open(struct event_base *base, const struct config *config,
    void (*reloaded)(void *context), void *context, struct error *err)
{
    int store = tls_store_open(err);
    if (store < 0)
        return NULL;
    int done = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (done < 0 || load(config, store, err) < 0) {
        if (done < 0)
            error_set_errno(err, errno, "eventfd");
        else
            close(done);
        close(store);
        return NULL;
    }
    struct tls_reload *reload = memory_allocate(sizeof *reload);
    reload->magic = TLS_RELOAD_MAGIC;
    reload->config = config;
    reload->store = store;
    reload->done = done;
    reload->reloaded = reloaded;
    reload->context = context;
    reload->event = event_new(base, done, EV_READ | EV_PERSIST, reload_on_done, reload);
    if (!reload->event || event_add(reload->event, NULL) < 0)
        abort(); /* only out of memory */
    return reload;
}

void tls_reload_close(struct tls_reload *reload)
{
    if (!reload)
        return;
    if (reload->running) { /* it may hang with its file system; it goes with the process */
        pthread_detach(reload->thread);
        return;
    }
    event_free(reload->event);
    close(reload->done);
    close(reload->store);
    reload->magic = 0;
    free(reload);
}

int tls_reload_store(const struct tls_reload *reload)
{
    return reload ? reload->store : -1;
}
