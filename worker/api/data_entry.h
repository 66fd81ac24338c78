/*
 * DataSourceEntry, the part that data updates, reports and the static configuration have in common:
 *   url, config, topics, dst_path, save_method, data
 * A run that uses it has a struct data_entry_reader as its state.
 */
#ifndef OPALD_WORKER_API_DATA_ENTRY_H
#define OPALD_WORKER_API_DATA_ENTRY_H

#include "worker/api/model.h"

struct data_entry_reader {
    /* Takes one topic of the entry that is read; NULL: topics are written as they are. Else it writes what stands for the topic, with
     * separators (`first` says whether something stands in the list already). False: stop, `failed` is set. */
    bool (*topic)(void *context, struct model_run *run, struct slice topic, bool *first, struct text *out);
    void *context;

    /* of the entry read last */
    struct text url;
    struct text dst_path;
    struct text save_method;
    struct text topics; /* as a Python list, unexpanded */
    size_t topic_count;
    bool has_data; /* not null */
};

void data_entry_reader_free(struct data_entry_reader *reader);
/* Converts one entry; argument: NULL. */
model_converter data_entry_convert;
/* The same with `periodic_update_interval` at the end. */
model_converter data_entry_convert_polled;

#endif
