/* The certificate and key in the master: read and checked at the start, again on HUP. The files are read by
 * a thread of its own then, since they may lie on a file system that hangs. */
#ifndef OPALD_SERVER_MASTER_TLS_RELOAD_H
#define OPALD_SERVER_MASTER_TLS_RELOAD_H

#include <event2/event.h>
#include "shm/common/error.h"
#include "shm/common/config.h"
#include "shm/common/object.h"

struct tls_reload;

/* `reloaded` is called from the loop when a new certificate is in the store. NULL with `err` when the files
 * are not usable. */
MUST_CHECK struct tls_reload *tls_reload_open(struct event_base *base, const struct config *config,
    void (*reloaded)(void *context), void *context, struct error *err);
void tls_reload_close(struct tls_reload *reload);
/* worker/net/tls_store.h; -1 for NULL */
int tls_reload_store(const struct tls_reload *reload);
/* HUP. A certificate that is not usable is logged, and the old one stays. One that comes while another is
 * being read is read after it. */
void tls_reload_start(struct tls_reload *reload);

#endif
