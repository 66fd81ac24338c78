/* The update that publish-data-update sends: from its flags to the request's body. Pure. */
#ifndef OPALD_SERVER_COMMAND_PUBLISH_UPDATE_H
#define OPALD_SERVER_COMMAND_PUBLISH_UPDATE_H

#include "shm/common/error.h"
#include "shm/common/text.h"
#include "shm/common/object.h"

/* As given on the command line; NULL where a flag was not given. Nothing is owned but the array of topics. */
struct publish_update {
    /* JSON array; used when there is no src_url */
    const char *entries;
    const char *src_url;
    const char *data;
    const char *src_config;
    const char *dst_path;
    const char *save_method;
    const char *reason;
    const char **topics;
    size_t topic_count;
};

/*
 * `body`: the DataUpdate with all its keys, values of --data, --src-config and --entries as the bytes they
 * were given as. `shown`: the line the reference prints, configuration, data and what is secret in URLs
 * left out. -1 with `err` when the flags make no update.
 */
MUST_CHECK int publish_update_build(
    const struct publish_update *update, struct text *body, struct text *shown, struct error *err);

#endif
