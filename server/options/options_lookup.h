/* Where the value of an option comes from: flag, else environment; a secret one also from a file that
 * either names. */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_LOOKUP_H
#define OPALD_SERVER_OPTIONS_OPTIONS_LOOKUP_H

#include "server/options/options_arguments.h"
#include "server/options/options_table.h"
#include "server/options/problems.h"

/* Fills `value->given` and `value->source`; both stay NULL when the option is not given, or given empty. */
void option_look_up(const struct option *option, const struct option_flags *flags, struct option_value *value,
    struct problems *problems);

#endif
