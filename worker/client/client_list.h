/*
 * The list of a worker's websocket clients as it crosses processes, and the merge of several such lists into
 * the JSON of /pubsub_client_info. Pure.
 *
 *   a row:  |length u32|port u32|connected_us u64|host_length u32|query_length u32|topic_count u32|
 *           |reserved u32| host, query, then for each topic u32 length and its bytes; zeros up to a
 *           multiple of 8. `length` counts all of it.
 */
#ifndef OPALD_WORKER_CLIENT_CLIENT_LIST_H
#define OPALD_WORKER_CLIENT_CLIENT_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

#define CLIENT_LIST_PARAMETERS_MAX 256 /* of one client's query; what comes behind is not shown */

struct client_row {
    /* "127.0.0.1"; empty: not known */
    struct slice host;
    uint16_t port;
    /* CLOCK_REALTIME */
    uint64_t connected_us;
    /* raw, without '?' */
    struct slice query;
};

/* Begins a row; topics follow, then client_list_end with what this returned. */
size_t client_list_begin(struct text *list, const struct client_row *row);
void client_list_topic(struct text *list, size_t row, struct slice topic);
void client_list_end(struct text *list, size_t row);

/*
 * The JSON object, made in steps, because a hundred thousand clients take a worker's loop a quarter of a
 * second. Clients of the same id (the query's __opal_client_id, else host:<address>:<port>) are one: the
 * first one's data, the topics of all, `refcount` says how many they are.
 */
struct client_render;
enum client_render_state { CLIENT_RENDER_MORE, CLIENT_RENDER_DONE, CLIENT_RENDER_TOO_LARGE };
/* The lists must stay until the end. NULL: one of them makes no sense. */
MUST_CHECK struct client_render *client_render_begin(const struct slice *lists, size_t count, uint64_t most);
/* At most so many clients more. `json` is set when it is done, and valid until client_render_free. */
MUST_CHECK enum client_render_state client_render_step(
    struct client_render *render, size_t clients, struct slice *json);
/* NULL is allowed. */
void client_render_free(struct client_render *render);

#endif
