/*
 * DataUpdate, the body of POST /data/config: checked, coerced, its topics expanded, and written as the event
 * that clients get (websocket spacing, every key there):
 *   {"id": null, "entries": [{"url": "u", "config": null, "topics": ["o", "o/p"], "dst_path": "",
 *    "save_method": "PUT", "data": null}], "reason": null, "callback": {"callbacks": []}}
 * `config` and `data` are the bytes the publisher sent, except JSON patch actions, which get all four keys.
 * Pure: no I/O.
 */
#ifndef OPALD_WORKER_API_DATA_UPDATE_H
#define OPALD_WORKER_API_DATA_UPDATE_H

#include <stdint.h>
#include "shm/common/config.h"
#include "worker/api/data_entry.h"
#include "worker/jose/token.h"
#include "worker/topics/topic_set.h"

enum data_update_outcome {
    DATA_UPDATE_OK,
    /* see the validation */
    DATA_UPDATE_INVALID,
    DATA_UPDATE_TOO_LARGE,
    DATA_UPDATE_TOO_MANY_TOPICS,
    DATA_UPDATE_TOPIC_TOO_LONG,
};

/* Zero-initialise; data_update_free when done. */
struct data_update {
    uint32_t magic;
    /* the event */
    struct text data;
    /* where it goes: the union of all entries' expanded topics */
    struct topic_set topics;
    /* as Python writes it: None or 'text' */
    struct text reason;
    /* likewise: the list for the log, cut after some KiB */
    struct text entries;
    /* urls of entries with an empty list of topics, a NUL after each; cut likewise */
    struct text without_topics;
    /* places start with "body" */
    struct validation validation;

    /*
     * Before the conversion: the token whose permitted_topics count; NULL: all topics are permitted.
     * Afterwards `forbidden` has the topics, unexpanded, of the first entry with a topic that is not
     * permitted.
     */
    const struct token_claims *claims;
    struct topic_set forbidden;
    size_t forbidden_entry;

    /* ---- private ---- */
    const struct event_limits *limits;
    struct data_entry_reader reader;
    enum data_update_outcome failed;
    size_t entry_count;
};

MUST_CHECK enum data_update_outcome data_update_convert(
    struct data_update *update, const struct json_document *document, const struct event_limits *limits);
void data_update_free(struct data_update *update);

#endif
