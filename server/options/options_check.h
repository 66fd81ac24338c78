/* What the values of a configuration have to do with each other (an event must fit the ring, ...), and what
 * this version refuses to run with. Pure. */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_CHECK_H
#define OPALD_SERVER_OPTIONS_OPTIONS_CHECK_H

#include "server/options/options.h"
#include "server/options/problems.h"

void options_check(const struct options *options, struct problems *problems);

#endif
