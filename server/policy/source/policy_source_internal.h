/* The two kinds of source, for policy_source.c and themselves. */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_INTERNAL_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_INTERNAL_H

#include "server/policy/source/policy_context.h"

struct source_kind {
    void *(*open)(struct policy *policy);
    void (*close)(void *source);
    /* Look for changes, or once more when that is under way. */
    void (*check)(void *source);
};

extern const struct source_kind git_source_kind;
extern const struct source_kind api_source_kind;

/* A kind says: there is a commit to serve for the first time; polling begins. */
void policy_source_ready(struct policy *policy);
/* A kind says: it can't go on; the process ends, and the master starts another. */
void policy_source_give_up(struct policy *policy);
/* Seconds to wait after so many failures in a row: doubling from `first` to `most`, between half of
 * that and all of it. */
double policy_source_backoff(unsigned failures, double first, double most);

#endif
