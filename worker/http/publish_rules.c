#include "worker/http/publish_rules.h"

#include "shm/link/policy_link.h"

bool publish_rules_reserve(const struct config *config, struct slice topic)
{
    return config->publish_peer_types.count > 0 && slice_equals_string(topic, POLICY_WEBHOOK_TOPIC);
}

bool publish_rules_admit(const struct config *config, const struct token_claims *claims)
{
    const struct config_list *types = &config->publish_peer_types;
    if (types->count == 0 || !claims)
        return true;
    uint32_t claim = token_claim(claims, "peer_type");
    if (claim == JSON_ABSENT || claims->document.tokens[claim].type != JSON_STRING)
        return false;
    for (size_t i = 0; i < types->count; i++)
        if (json_string_equals(&claims->document, claim, slice_from_string(types->items[i])))
            return true;
    return false;
}
