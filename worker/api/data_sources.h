/*
 * Where clients fetch their base data: OPAL_DATA_CONFIG_SOURCES, a JSON text with exactly one of
 *   {"config": {"entries": [...]}}            served as it is by GET /data/config
 *   {"external_source_url": "https://..."}    GET /data/config redirects there, with the caller's token
 * Without the option: one entry, all_data_url with the topic all_data_topic.
 */
#ifndef OPALD_WORKER_API_DATA_SOURCES_H
#define OPALD_WORKER_API_DATA_SOURCES_H

#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "worker/http/http_exchange.h"

struct data_sources;

/* Checks and reads the option. 0, or -1 with `err` set to one line that says what is wrong and where. */
MUST_CHECK int data_sources_load(const struct config *config, struct data_sources **out, struct error *err);
void data_sources_free(struct data_sources *sources);
/* The body of GET /data/config; absent when there is an external url instead. */
struct slice data_sources_body(const struct data_sources *sources);
/* The external url, absent when there is none. */
struct slice data_sources_url(const struct data_sources *sources);

/* GET /data/config */
http_handler data_sources_get;
/* GET /policy-data (OPAL_ALL_DATA_ROUTE) */
http_handler data_all_get;

#endif
