/*
 * DataSourceEntry, the part that data updates, reports and the static configuration have in common:
 *   url, config, topics, dst_path, save_method, data
 * A run that uses it has a struct data_entry_reader as its state.
 */
#ifndef OPALD_WORKER_API_DATA_ENTRY_H
#define OPALD_WORKER_API_DATA_ENTRY_H

#include "worker/api/model.h"

#define DATA_ENTRY_READER_MAGIC UINT32_C(0x64656e74)

/* Initialise with the magic number; data_entry_reader_free when done. */
struct data_entry_reader {
    uint32_t magic;
    /*
     * Called for each topic of the entry; writes what stands for the topic, with separators (`first`: nothing
     * is in the list yet). False: the entry is refused; the callee has recorded why. NULL: topics are written
     * as they are.
     */
    bool (*topic)(void *context, struct model_run *run, struct slice topic, bool *first, struct text *out);
    void *context;

    /* ---- of the entry read last ---- */
    struct text url;
    struct text dst_path;
    struct text save_method;
    /* as a Python list, unexpanded */
    struct text topics;
    size_t topic_count;
    /* not null */
    bool has_data;
};

void data_entry_reader_free(struct data_entry_reader *reader);
/* Converts one entry; argument: NULL. */
MUST_CHECK model_converter data_entry_convert;
/* The same with `periodic_update_interval` at the end. */
MUST_CHECK model_converter data_entry_convert_polled;

#endif
