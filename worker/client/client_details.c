#include "worker/client/client_details.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/client/peer_address.h"

#define ANNOUNCED_BYTES_MAX 256 /* of one rpc_id; the clients' are 32 */

struct client_details {
    struct text query;
    /* NULL: the peer's */
    char *host;
    /* rpc ids as JSON strings, one a line */
    struct text announced;
    /* of them */
    unsigned count;
};

static struct client_details *details_of(struct connection *connection)
{
    if (!connection->details)
        connection->details = memory_allocate(sizeof *connection->details);
    return connection->details;
}

void client_details_set_query(struct connection *connection, struct slice query)
{
    if (query.length > 0)
        text_append_slice(&details_of(connection)->query, query);
}

struct slice client_details_query(const struct connection *connection)
{
    return connection->details ? text_slice(&connection->details->query) : (struct slice){0};
}

void client_details_set_host(struct connection *connection, const char *host)
{
    struct client_details *details = details_of(connection);
    free(details->host);
    details->host = memory_copy_string(host);
}

const char *client_details_host(const struct connection *connection, char out[CLIENT_HOST_TEXT])
{
    _Static_assert(CLIENT_HOST_TEXT >= NETWORK_ADDRESS_TEXT, "the peer's address fits");
    if (!connection->details || !connection->details->host)
        return peer_address_host(connection, out);
    snprintf(out, CLIENT_HOST_TEXT, "%s", connection->details->host);
    return out;
}

const char *client_details_label(const struct connection *connection, char out[CLIENT_LABEL_TEXT])
{
    if (connection->details && connection->details->host)
        snprintf(out, CLIENT_LABEL_TEXT, "port %u of %s", connection->port, connection->details->host);
    else
        snprintf(out, CLIENT_LABEL_TEXT, "port %u", connection->port);
    return out;
}

void client_details_free(struct connection *connection)
{
    if (!connection->details)
        return;
    text_free(&connection->details->query);
    free(connection->details->host);
    text_free(&connection->details->announced);
    free(connection->details);
    connection->details = NULL;
}

void client_details_greeting(struct text *out)
{
    char call_id[IDENTITY_HEX + 1] = {0};
    struct identity identity = identity_make_fast();
    identity_format(&identity, call_id);
    text_append_format(out,
        "{\"request\": {\"method\": \"_get_channel_id_\", \"arguments\": {}, \"call_id\": \"%s\"}, "
        "\"response\": null}",
        call_id);
}

bool client_details_announce(struct connection *connection, const struct json_document *document,
    uint32_t data, uint64_t announcements_max)
{
    if (data == JSON_ABSENT || document->tokens[data].type != JSON_OBJECT)
        return true; /* announces nobody; the master says so in the log */
    uint32_t id = json_member(document, data, "rpc_id");
    if (id == JSON_ABSENT || document->tokens[id].type != JSON_STRING)
        return true;
    struct slice raw = json_raw(document, id);
    struct client_details *details = details_of(connection);
    if (raw.length > ANNOUNCED_BYTES_MAX || details->count >= announcements_max)
        return false;
    text_append_slice(&details->announced, raw);
    text_append_char(&details->announced, '\n');
    details->count++;
    return true;
}

void client_details_withdraw(struct connection *connection, struct publisher *publisher, const char *topic)
{
    struct client_details *details = connection->details;
    const struct slice topics[] = {slice_from_string(topic)};
    if (!details || details->count == 0)
        return;
    const char *at = details->announced.data, *end = at + details->announced.length;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        const struct publish_request request = {
            .topics = topics,
            .topic_count = 1,
            .data = {at, (size_t)(line_end - at)},
        };
        log_write(LOG_INFO, LOGGER_STATISTICS, "Publish rpc_id=%.*s to be removed from statistics",
            (int)request.data.length - 2, at + 1);
        (void)!publisher_publish(publisher, &request, NULL); /* a refusal is counted and logged there */
        at = line_end + 1;
    }
    details->count = 0;
    text_clear(&details->announced);
}
