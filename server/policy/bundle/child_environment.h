/* Which variables of this process's environment git, ssh and what they start get: those on a list, no others.
 * */
#ifndef OPALD_SERVER_POLICY_BUNDLE_CHILD_ENVIRONMENT_H
#define OPALD_SERVER_POLICY_BUNDLE_CHILD_ENVIRONMENT_H

#include <stdbool.h>

/* Whether the child gets `variable` ("NAME=value"). `more`: NULL, or a struct config_list of names that the
 * operator adds, NAME or BEGINNING*. For child_make_environment. Pure. */
bool child_environment_keeps(const char *variable, const void *more);

#endif
