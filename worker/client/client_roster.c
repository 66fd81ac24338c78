#include "worker/client/client_roster.h"

#include <stdlib.h>
#include <unistd.h>
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "worker/client/client_details.h"
#include "worker/client/client_list.h"

#define CLIENT_ROSTER_MAGIC UINT32_C(0xc11e2705)

struct client_roster {
    uint32_t magic;
    struct client_roster_settings settings;
    struct log_limiter limit_unsent;
};

void client_roster_list(const struct connections *connections, struct text *list)
{
    for (const struct connection *at = connections_first(connections); at; at = at->next) {
        char host[CLIENT_HOST_TEXT];
        if (!at->is_open)
            continue;
        const struct client_row row = {
            .host = slice_from_string(client_details_host(at, host)),
            .port = at->port,
            .connected_us = at->opened_us,
            .query = client_details_query(at),
        };
        size_t begun = client_list_begin(list, &row);
        for (const struct subscription *one = at->subscriptions.first; one; one = one->next_of_owner)
            client_list_topic(list, begun, topic_name(one->topic));
        client_list_end(list, begun);
    }
}

static void roster_asked(void *context, const struct handoff_message *question, int fd)
{
    struct client_roster *roster = object_cast(struct client_roster, CLIENT_ROSTER_MAGIC, context);
    struct handoff_message answer = {
        .kind = HANDOFF_CLIENTS, .slot = (uint16_t)roster->settings.slot, .number = question->number};
    struct text list = {0};
    if (fd >= 0)
        close(fd); /* a question has none */
    client_roster_list(roster->settings.connections, &list);
    int memory = -1;
    if (list.length <= roster->settings.answer_max_bytes)
        memory = handoff_memory_make(text_slice(&list));
    answer.failed = memory < 0;
    if (!peers_send(roster->settings.peers, question->slot, &answer, memory))
        log_write_limited(&roster->limit_unsent, LOG_WARNING, LOGGER_HTTP,
            "worker %u does not take the list of this worker's clients: it will answer 503", question->slot);
    if (memory >= 0)
        close(memory);
    text_free(&list);
}

struct client_roster *client_roster_open(const struct client_roster_settings *settings)
{
    struct client_roster *roster = memory_allocate(sizeof *roster);
    roster->magic = CLIENT_ROSTER_MAGIC;
    roster->settings = *settings;
    peers_register(settings->peers, HANDOFF_ASK_CLIENTS, roster_asked, roster);
    return roster;
}

void client_roster_close(struct client_roster *roster)
{
    if (!roster)
        return;
    peers_register(roster->settings.peers, HANDOFF_ASK_CLIENTS, NULL, NULL);
    roster->magic = 0;
    free(roster);
}
