/*
 * The configuration of one process. Strings belong to it and live as long as it. Sizes are in bytes, times
 * in seconds. Read-only after loading.
 *
 * What is not there: a string that is NULL is not set; a number that is 0 means none (no limit, no timeout,
 * no interval), where its option allows 0. No other value has such a meaning. What is set by default or
 * found out at the start (the number of workers) is filled in.
 */
#ifndef OPALD_SHM_COMMON_CONFIG_H
#define OPALD_SHM_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/log.h"

struct config_list {
    char **items;
    size_t count;
};

/* What a publish or subscribe call may be. */
struct event_limits {
    /* the largest notify frame with its envelope */
    size_t event_max_bytes;
    /* of JSON from clients */
    unsigned json_max_depth;
    size_t json_max_tokens;
    /* in one call */
    size_t topics_max;
    size_t topic_max_bytes;
    /* what one event with several topics may become on the backbone, a message for each */
    size_t backbone_max_bytes;
    /* a topic that clients may neither subscribe to nor publish */
    const char *purge_channel;
};

/* The shared memory (shm/segment.h). */
struct segment_settings {
    /* rounded up to a power of two; at least 64 KiB */
    size_t ring_bytes;
    /* per slot, rounded up to a power of two */
    size_t uplink_bytes;
    /* the most workers there can ever be and one for the policy process, 1..SEGMENT_SLOTS_MAX */
    unsigned slots;
};

/* Who is connected, on all servers. */
struct statistics_settings {
    bool enabled;
    /* the master's memory for the clients of all servers */
    size_t max_bytes;
    /* of one client id */
    size_t max_channels;
    /* a server that is silent for longer is gone, and its clients */
    int64_t keepalive_timeout;
    /* topics */
    const char *wakeup_channel;
    const char *state_sync_channel;
    const char *server_keepalive_channel;
    const char *add_client_channel;
    const char *remove_client_channel;
};

/* The backbone. */
struct broadcast_settings {
    /* kafka://h1:9092,h2:9092 | kafka+mock:// | redis://host:6379 | postgresql://host:5432/database;
     * NULL: no backbone */
    const char *uri;
    /* Kafka topic, Redis or Postgres channel */
    const char *channel;
    /* limits of the messages that wait for an acknowledgement */
    size_t queue_max_bytes;
    size_t queue_max_messages;
    double reconnect_backoff_min;
    double reconnect_backoff_max;
    /* failed attempts in a row after which to give up */
    int64_t reconnect_max_retries;

    /* Redis and Postgres, which keep nothing for a server that is away (broadcast/relay/relay.h). */

    /* false: a lost backbone stays lost */
    bool reconnect_enabled;
    /* messages kept while away; 0 keeps none */
    size_t replay_buffer_size;
    /* from the return to the replay, and again to the resync */
    double settle_seconds;
    /* the longest a deaf connection may go unnoticed; above 0 */
    double heartbeat_deadline;
    /* where Postgres keeps large events */
    const char *postgres_schema;

    /* Kafka. */

    /* the operator's settings of librdkafka, one "key=value" per line, applied after ours */
    const char *kafka_config;
    /* create a missing topic */
    bool kafka_create_topic;

    /* The server's part. */
    int64_t keepalive_interval;
    const char *keepalive_topic;
    /* GET /healthcheck answers 503 once the backbone is lost for good */
    bool healthcheck_enabled;
    /* before clients are taken */
    double start_wait_seconds;
    /* in a gap, drop what is published over HTTP */
    bool freeze_on_disconnect;
    /* after a gap, have the clients refetch: this many per second on the whole host */
    bool resync_on_reconnect;
    unsigned resync_closes_per_second;

    /* No options: who opens the backbone sets them. */
    const struct event_limits *limits;
    /* this server's, 32 hex digits */
    const char *notifier_id;
};

struct config {
    /* process */
    const char *host;
    int port;
    /* resolved: at least 1 */
    unsigned workers;
    /* slots in shared memory (TTIN can go up to this) */
    unsigned workers_max;
    /* of each worker, when none has ever started; then the server ends with status 1 */
    unsigned worker_start_attempts;
    /* false: no process leaves one, because it would hold keys and tokens */
    bool core_dumps;
    /* from TERM to the end */
    double grace_seconds;
    int listen_backlog;

    struct broadcast_settings broadcast;
    /* for the backbone, when the publisher asks for an acknowledgement */
    double publish_wait_seconds;

    /* shared memory */
    struct segment_settings memory;
    /* a reader that holds up a full ring longer than this is killed */
    double ring_stall_seconds;
    /* a worker without a heartbeat for this long is killed */
    double worker_hang_seconds;
    /* /readyz is 503 when the master has not run for this long */
    double master_hang_seconds;

    struct event_limits limits;

    /* HTTP */
    size_t http_header_max_bytes;
    size_t http_header_max_count;
    size_t http_body_max_bytes;
    /* first byte to end of head */
    double http_header_timeout;
    double http_body_timeout;
    /* idle between requests; the reference's 5 */
    double http_keepalive_timeout;
    const char *data_config_route;
    const char *all_data_route;
    const char *all_data_topic;
    const char *all_data_url;
    const char *data_callback_default_route;
    /* JSON text or NULL */
    const char *data_config_sources;
    struct config_list allowed_origins;
    /* "/opal" before every path; empty: none */
    const char *root_path;
    /* for shm/common/network.h */
    struct config_list forwarded_allow_ips;
    /* in the X-Forwarded-For of a request */
    size_t forwarded_max_addresses;
    /* of a body that is compressed for who asks; 0: never */
    size_t http_gzip_min_bytes;
    /* NULL: /loadlimit always has room */
    const char *client_load_limit_notation;

    /* TLS on the listener: on when there is a certificate */

    /* file with the chain, PEM; NULL: plain */
    const char *tls_certificate;
    /* NULL: in the certificate's file */
    const char *tls_key;
    const char *tls_key_password;
    /* "1.2" or "1.3" */
    const char *tls_min_version;
    /* of TLS 1.2; NULL: OpenSSL's default */
    const char *tls_ciphers;
    double tls_handshake_timeout;

    /* behind a load balancer: a list for shm/common/network.h */
    struct config_list proxy_protocol_from;

    /* who is connected */

    /* of the answer to /pubsub_client_info and /statistics */
    size_t client_info_max_bytes;
    /* of a websocket's query parameters that is remembered */
    size_t client_query_max_bytes;
    struct statistics_settings statistics;

    /* clients */

    /* for the whole host */
    size_t connections_max;
    /* 16 MiB as the reference */
    size_t websocket_message_max_bytes;
    /* per client */
    size_t subscriptions_max;
    /* what a client may leave unread */
    size_t client_queue_max_bytes;
    /* what the kernel keeps for it beside what is on its way to it */
    int client_unsent_max_bytes;
    /* what all of a worker's clients together may make it hold */
    size_t clients_memory_max_bytes;
    /* ... and for how long nothing may drain */
    double client_queue_max_seconds;
    /* 20 */
    double websocket_ping_interval;
    /* 20 */
    double websocket_ping_timeout;
    /* a worker's budget per turn of its loop */
    size_t drain_batch_records;
    size_t drain_batch_bytes;

    /* policy: where it comes from */
    bool repo_watcher_enabled;
    /* "GIT" or "API" */
    const char *policy_source_type;
    /* NULL: none */
    const char *policy_repo_url;
    const char *policy_repo_main_branch;
    const char *policy_repo_ssh_key;
    /* NULL: ~/.ssh/opal_repo_ssh_key */
    const char *git_ssh_key_file;
    /* further variables for git and ssh: NAME or BEGINNING* */
    struct config_list policy_repo_environment;
    /* "accept-new", "strict" or "accept-any" */
    const char *policy_repo_ssh_host_keys;
    /* 0: none */
    int64_t policy_repo_polling_interval;
    /* 0: none */
    int64_t policy_repo_clone_timeout;
    double policy_repo_stall_seconds;
    /* of the clone; 0: no limit */
    size_t policy_repo_max_bytes;
    /* NULL: <working directory>/regoclone */
    const char *policy_repo_clone_path;
    const char *policy_repo_clone_folder_prefix;
    bool policy_repo_reuse_clone_path;
    const char *policy_repo_webhook_secret;
    /* JSON text; NULL: GitHub's */
    const char *policy_repo_webhook_params;
    bool policy_repo_webhook_enforce_branch;
    const char *policy_bundle_url;
    /* "HTTP" or "AWS-S3" */
    const char *policy_bundle_server_type;
    const char *policy_bundle_server_token;
    const char *policy_bundle_server_token_id;
    const char *policy_bundle_server_aws_region;
    const char *policy_bundle_git_add_pattern;
    size_t policy_bundle_max_bytes;
    size_t policy_bundle_unpacked_max_bytes;
    size_t policy_bundle_max_files;

    /* policy: what GET /policy gives */
    struct config_list filter_file_extensions;
    struct config_list policy_extensions;
    struct config_list bundle_ignore;
    /* NULL: the root of the repository */
    const char *policy_manifest_path;
    /* of a bundle's JSON */
    size_t bundle_max_bytes;
    /* files and directories of the repository */
    size_t bundle_files_max;
    /* `path` parameters of one request */
    size_t bundle_paths_max;
    /* of one of them, of a path in the repository, and of base_hash */
    size_t bundle_path_max_bytes;
    /* from the question to the answer */
    double bundle_build_seconds;
    /* built bundles that are kept */
    size_t bundle_cache_bytes;
    /* bundles waiting to be built */
    size_t bundle_waiting_max;

    struct log_settings log;

    /* authentication: on when both keys are there (worker/auth/auth.h) */

    /* the key or its file's path */
    const char *auth_private_key;
    const char *auth_private_key_format;
    const char *auth_private_key_passphrase;
    const char *auth_public_key;
    const char *auth_public_key_format;
    const char *auth_jwt_algorithm;
    const char *auth_jwt_audience;
    const char *auth_jwt_issuer;
    /* the route */
    const char *auth_jwks_url;
    /* NULL: the document is served only */
    const char *auth_jwks_static_dir;
    const char *auth_master_token;
    /* the reference's way: tokens for everybody */
    bool auth_token_without_master;
    /* a websocket ends with its token */
    bool auth_close_expired;
    /* that may publish over a websocket: "client", "datasource", "listener"; empty: all */
    struct config_list publish_peer_types;
    size_t auth_token_max_bytes;
    /* for handshakes of an address that was refused often; 0: never */
    double auth_refusal_delay;
    bool enable_metrics;
    const char *statsd_host;
    int statsd_port;
    /* seconds */
    double statsd_interval;
};

#endif
