/*
 * Keeps the wanted number of workers alive. A slot is one place for a worker; its life:
 *
 *   EMPTY --start--> RUNNING --ends--> (wanted: BACKOFF --delay--> RUNNING | not wanted: EMPTY)
 *                       |--retire (TTOU, stop)--> RETIRING --ends--> EMPTY
 *
 * A worker's death is a normal transition: the ring stops waiting for it, what it had committed is taken
 * in, its counters stay, and another is started; at once when it had lived a while, after a growing delay
 * when it died young.
 */
#ifndef OPALD_SERVER_MASTER_SUPERVISOR_H
#define OPALD_SERVER_MASTER_SUPERVISOR_H

#include <sys/types.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "server/master/listener.h"
#include "server/router/router.h"
#include "shm/segment.h"

struct supervisor;

struct supervisor_settings {
    struct event_base *base;
    const struct config *config;
    struct segment *segment;
    struct router *router;
    const struct listeners *listeners;
    /* for the workers, of auth_keys_give; 0: none */
    int keys;
    /* -1: plain listeners */
    int tls_store;
    /* of the policy process; empty: none */
    const char *policy_address;
    char **argv;
    int argc;
    /* Called once, when the first `config->workers` workers all accept clients. */
    void (*ready)(void *context);
    /* No worker has ever accepted clients, and each has died at its start config->worker_start_attempts
     * times. At most once; may be called from within supervisor_open. */
    void (*failed)(void *context);
    /* Called when the last worker has ended after supervisor_stop. */
    void (*stopped)(void *context);
    void *context;
};

/* Starts the workers. NULL with `err` set when descriptors or memory can't be had. */
MUST_CHECK struct supervisor *supervisor_open(const struct supervisor_settings *settings, struct error *err);
void supervisor_close(struct supervisor *supervisor);
/* A process has ended; if it was a worker, it is replaced. */
void supervisor_ended(struct supervisor *supervisor, pid_t pid, int status);
/* TTIN (+1) and TTOU (-1): one worker more or fewer, within 1..config->workers_max. */
void supervisor_change(struct supervisor *supervisor, int by);
/* Kills the worker of slot `number` with SIGKILL; its replacement follows from its end. */
void supervisor_kill_stuck(struct supervisor *supervisor, unsigned number, const char *why);
/* Has the workers take the certificate that is in the store now. */
void supervisor_reload(struct supervisor *supervisor);
/* No more replacements; sends `signal_number` (TERM: drain, QUIT: quick) to all. */
void supervisor_stop(struct supervisor *supervisor, int signal_number);
/* SIGKILL to whoever is left. */
void supervisor_kill_all(struct supervisor *supervisor);
unsigned supervisor_wanted(const struct supervisor *supervisor);
/* The send end of the pair to the worker of `slot`; -1 when it has none. */
int supervisor_handoff(const struct supervisor *supervisor, unsigned slot);
unsigned supervisor_ready(const struct supervisor *supervisor);
/* All wanted workers are there and have beaten their heart within the hang limit. */
bool supervisor_healthy(const struct supervisor *supervisor);

#endif
