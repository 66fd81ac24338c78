/* The two kinds of policy source. For policy_source.c, source_base.c and the kinds themselves. */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_INTERNAL_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_INTERNAL_H

#include "server/policy/source/policy_context.h"

/* What a kind reports. */
struct source_hooks {
    /* There is a commit to serve for the first time. */
    void (*ready)(void *context);
    /* It can't go on: the process ends, and the master starts another one. */
    void (*gave_up)(void *context);
    void *context;
};

struct source_kind {
    /* `hooks` is copied. Returns the source, for the other two. */
    void *(*open)(struct policy *policy, const struct source_hooks *hooks);
    void (*close)(void *source);
    /* Looks for changes. During a look: looks again when that one is done. */
    void (*check)(void *source);
};

extern const struct source_kind git_source_kind;
extern const struct source_kind api_source_kind;

#endif
