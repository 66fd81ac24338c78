/* The names under which opald logs: the second column of a log line. One name per part of the program;
 * opal.statistics is a name that OPAL's documentation tells users to look for. */
#ifndef OPALD_SHM_COMMON_LOGGERS_H
#define OPALD_SHM_COMMON_LOGGERS_H

#define LOGGER_STATISTICS "opal.statistics"
#define LOGGER_BROADCAST  "opald.broadcast"
#define LOGGER_POSTGRES   "opald.broadcast.postgres"
#define LOGGER_REDIS      "opald.broadcast.redis"
#define LOGGER_HTTP       "opald.http"
#define LOGGER_MASTER     "opald.master"
#define LOGGER_LOG        "opald.log"
#define LOGGER_OPTIONS    "opald.options"
#define LOGGER_POLICY     "opald.policy"
#define LOGGER_BUNDLE     "opald.policy.bundle"
#define LOGGER_MANIFEST   "opald.policy.manifest"
#define LOGGER_PUBLISHER  "opald.publisher"
#define LOGGER_ROUTER     "opald.router"
#define LOGGER_STATSD     "opald.statsd"
#define LOGGER_WORKER     "opald.worker"

#endif
