/* What of this process's environment goes to git and to the programs that it starts. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_CHILD_ENVIRONMENT_H
#define OPALD_SERVER_POLICY_BUNDLE_CHILD_ENVIRONMENT_H

#include <stdbool.h>

/* False for what would point git elsewhere, and for everything that is this server's own (tokens, keys). `variable`: NAME=value. */
bool child_environment_keeps(const char *variable);
#endif
