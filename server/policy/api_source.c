#include "server/policy/policy_source_internal.h"
const struct source_kind api_source_kind = {0};
