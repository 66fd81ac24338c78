/*
 * What the two kinds of source (policy_source_internal.h) have in common: the folder with its lock, the
 * repository in it, what is left over there, one job at a time, one change at a time, the pause before the
 * next attempt, and a check that comes while another one is under way.
 *
 *   LOCKING -> (a repository is there: OPENING) or (none: the kind's load, CLONING or FETCHING)
 *           -> IDLE <-> FETCHING -> CHANGING -> IDLE
 *
 * A kind embeds it and moves the state on; this file does what is the same in both. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_SOURCE_BASE_H
#define OPALD_SERVER_POLICY_SOURCE_SOURCE_BASE_H

#include <stdbool.h>
#include "shm/common/log.h"
#include "shm/common/object.h"
#include "server/policy/source/clone_folder.h"
#include "server/policy/source/job.h"
#include "server/policy/source/policy_source_internal.h"

enum source_state {
    SOURCE_LOCKING,
    SOURCE_OPENING,
    SOURCE_CLONING,
    SOURCE_IDLE,
    SOURCE_FETCHING,
    SOURCE_CHANGING
};

/* What a kind does; `source` is the context. */
struct source_steps {
    /* The folder is locked, and base.repository is there: can it be used? State: OPENING. */
    void (*open)(void *source);
    /* There is none: get one. */
    void (*load)(void *source);
    /* Look for changes. */
    void (*fetch)(void *source);
    /* The pause is over, and no job and no change of the base runs. */
    void (*retry)(void *source);
    /* source_base_change is done. True: `head` is what was fetched; false: the repository is damaged. */
    void (*changed)(void *source, bool ok);
};

struct change;

struct source_base {
    uint32_t magic;
    struct policy *policy;
    struct source_hooks hooks;
    const struct source_steps *steps;
    void *context;
    struct clone_folder *folder;
    enum source_state state;
    /* What source_base_git runs for the kind, which sets it to NULL when it is done. */
    struct job *job;
    struct change *change;
    struct event *retry;
    /* Where it is; NULL: none, or not known. */
    char *repository;
    /* The folder of one that is being made. */
    char *work;
    /* What clients know. */
    char head[POLICY_HASH_LENGTH + 1];
    char fetched[POLICY_HASH_LENGTH + 1];
    /* Folders that are being removed. */
    char **leftovers;
    /* Another check is wanted when this one is done. */
    bool again;
    /* Polling has begun. */
    bool ready;
    struct log_limiter limit_lock;
};

/* Begins, from the loop. The caller zeroes `base`. */
void source_base_open(struct source_base *base, struct policy *policy, const struct source_hooks *hooks,
    const struct source_steps *steps, void *context);
/* Kills what runs; frees what `base` holds. */
void source_base_close(struct source_base *base);

/* Runs git in `repository` on local things, as base->job. `done` gets base->context. */
void source_base_git(struct source_base *base, const char *repository, const char *const *arguments,
    void (*done)(void *context, const struct job_result *result));
void source_base_retry_after(struct source_base *base, double seconds);
/* The repository is not used any more; what is served from it still is. */
void source_base_forget(struct source_base *base);
/* A new `base->work`, a folder that is not there yet. */
void source_base_new_work(struct source_base *base);
/* `base->work` is whole and becomes the repository at `place` (taken over, also on failure). -1 with `err`.
 * */
MUST_CHECK int source_base_settle(struct source_base *base, char *place, struct error *err);
/* `hash` is served from now on, and nothing is published. */
void source_base_serve(struct source_base *base, const char *hash);
/* From `head` to what was fetched: change.h. State: CHANGING. */
void source_base_change(struct source_base *base, const char *branch);
/* Done for now. The first time: polling begins. When another check is wanted, it begins. */
void source_base_idle(struct source_base *base);
/* A check is wanted: now, or again when this one is done. */
void source_base_check(struct source_base *base);
/* Removes all in the folder that is not used, by a child. */
void source_base_remove_leftovers(struct source_base *base);

#endif
