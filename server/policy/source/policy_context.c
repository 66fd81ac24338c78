#include "server/policy/source/policy_context.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

void policy_set_head(struct policy *policy, const char *repository, const char *hash)
{
    /* `repository` may be the string that is there already. */
    char *previous = policy->repository;
    policy->repository = memory_copy_string(repository);
    free(previous);
    policy->head = (struct policy_head){.state = POLICY_READY};
    memcpy(policy->head.hash, hash, strnlen(hash, POLICY_HASH_LENGTH));
    policy->head_changed(policy->context);
}
