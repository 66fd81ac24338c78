/* What the handlers of worker/api use besides http_services; one per worker, read-only afterwards. */
#ifndef OPALD_WORKER_API_API_SERVICES_H
#define OPALD_WORKER_API_API_SERVICES_H

struct data_sources;
struct http_docs;
struct http_exchange;
struct inquiry;
struct rate_limits;

enum inquiry_question { INQUIRY_CLIENTS, INQUIRY_STATISTICS, INQUIRY_STATS, INQUIRY_COUNT };

struct api_services {
    /* From data_sources_load; NULL: read from the configuration at each request. */
    const struct data_sources *data_sources;
    /* NULL: no limits */
    const struct rate_limits *load_limits;
    const struct http_docs *docs;
    /*
     * Asks the host's other processes (worker/client/inquiry.h); a pointer, so that the routes need no
     * sockets. Calls exchange->finished later. NULL: there is nobody to ask.
     */
    void (*ask)(struct inquiry *inquiry, struct http_exchange *exchange, enum inquiry_question question);
    struct inquiry *inquiry;
};

#endif
