#include "broadcast/relay/relay_links.h"

void relay_links_init(struct relay_links *links, const struct broadcast_settings *settings)
{
    *links = (struct relay_links){.no_reconnect = !settings->reconnect_enabled,
        .max_retries = settings->reconnect_max_retries,
        .settle_seconds = settings->settle_seconds};
    for (int side = 0; side < RELAY_SIDES; side++)
        backoff_init(
            &links->sides[side].backoff, settings->reconnect_backoff_min, settings->reconnect_backoff_max);
}

bool relay_links_is_live(const struct relay_links *links, enum relay_side side)
{
    return links->sides[side].state == RELAY_LINK_LIVE;
}

void relay_links_opening(struct relay_links *links, enum relay_side side)
{
    links->sides[side].state = RELAY_LINK_OPENING;
}

bool relay_links_retry(struct relay_links *links, enum relay_side side)
{
    if (links->sides[side].state != RELAY_LINK_WAITING)
        return false;
    links->sides[side].state = RELAY_LINK_OPENING;
    return true;
}

/* From the first connect on: a server that returns later than the settle time after the others misses their
 * replay, so no wait between attempts is longer than that. */
static void links_limit_backoff(struct relay_links *links)
{
    for (int side = 0; side < RELAY_SIDES; side++) {
        struct backoff *backoff = &links->sides[side].backoff;
        if (links->settle_seconds > 0 && backoff->maximum > links->settle_seconds)
            backoff->maximum =
                links->settle_seconds > backoff->minimum ? links->settle_seconds : backoff->minimum;
    }
}

bool relay_links_listener_live(struct relay_links *links)
{
    links->sides[RELAY_LISTENER].state = RELAY_LINK_LIVE;
    links->listener_was_live = true;
    links_limit_backoff(links);
    return links->sides[RELAY_SENDER].state == RELAY_LINK_IDLE && !links->given_up;
}

void relay_links_sender_live(struct relay_links *links)
{
    links->sides[RELAY_SENDER].state = RELAY_LINK_LIVE;
}

static enum relay_lost_action links_after_loss(struct relay_links *links, enum relay_side side)
{
    if (links->given_up)
        return RELAY_LOST_FINAL;
    if (links->no_reconnect && links->listener_was_live)
        return RELAY_LOST_STAYS;
    if (links->max_retries && (int64_t)links->sides[side].backoff.attempt >= links->max_retries)
        return RELAY_LOST_EXHAUSTED;
    if (side == RELAY_SENDER && !relay_links_is_live(links, RELAY_LISTENER))
        return RELAY_LOST_PARK;
    return RELAY_LOST_WAIT;
}

struct relay_lost relay_links_lost(struct relay_links *links, enum relay_side side, uint64_t random)
{
    struct relay_link *link = &links->sides[side];
    struct relay_link *sender = &links->sides[RELAY_SENDER];
    struct relay_lost lost = {.was_live = link->state == RELAY_LINK_LIVE};
    if (link->state != RELAY_LINK_LIVE && link->state != RELAY_LINK_OPENING)
        return lost;
    links->open = false;
    links->sender_proven = links->sender_proven && side != RELAY_SENDER;
    link->state = RELAY_LINK_IDLE;
    lost.delay_ns = backoff_fail(&link->backoff, random);
    lost.attempt = link->backoff.attempt;
    lost.action = links_after_loss(links, side);
    if (lost.action == RELAY_LOST_WAIT)
        link->state = RELAY_LINK_WAITING;
    else if (lost.action != RELAY_LOST_PARK)
        links->given_up = true;
    if (side == RELAY_LISTENER && sender->state == RELAY_LINK_WAITING) {
        sender->state = RELAY_LINK_IDLE;
        lost.parks_sender = true;
    }
    return lost;
}

void relay_links_proven(struct relay_links *links, enum relay_side side)
{
    backoff_reset(&links->sides[side].backoff);
}

void relay_links_came_back(struct relay_links *links)
{
    links->open = relay_links_is_live(links, RELAY_LISTENER) && relay_links_is_live(links, RELAY_SENDER);
    links->sender_proven = links->sender_proven || links->open;
    links->was_up = links->was_up || links->open;
}

bool relay_links_may_send(const struct relay_links *links)
{
    return relay_links_is_live(links, RELAY_SENDER) && links->sender_proven;
}

bool relay_links_is_open(const struct relay_links *links)
{
    return links->open;
}

enum backbone_state relay_links_state(const struct relay_links *links)
{
    if (links->given_up)
        return BACKBONE_LOST;
    if (links->open)
        return BACKBONE_UP;
    return links->was_up ? BACKBONE_GAP : BACKBONE_CONNECTING;
}
