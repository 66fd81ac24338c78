#include "server/options/options_table.h"

#include "shm/segment.h"

/* Where a value goes; does not compile when the field has another type. */
#define AT(field)         (((struct config *)0)->field)
#define IS(kind, field)   __builtin_types_compatible_p(__typeof__(AT(field)), kind)
#define IS_INTEGER(field) (IS(int64_t, field) || IS(size_t, field) || IS(unsigned, field) || IS(int, field))
#define PLACE(field, fits) \
    .offset = offsetof(struct config, field) + 0 * sizeof(char[(fits) ? 1 : -1]), .width = sizeof AT(field)
#define TEXT_FIELD(field)  PLACE(field, IS(const char *, field))
#define INT_FIELD(field)   PLACE(field, IS_INTEGER(field))
#define FLOAT_FIELD(field) PLACE(field, IS(double, field))
#define BOOL_FIELD(field)  PLACE(field, IS(bool, field))
#define LIST_FIELD(field)  PLACE(field, IS(struct config_list, field))
#define LEVEL_FIELD(field) PLACE(field, IS(enum log_level, field))

#define KIB     1024.0
#define MIB     (1024.0 * KIB)
#define GIB     (1024.0 * MIB)
#define ANY_INT 9007199254740992.0 /* what fits a double whole */
#define DAY     86400.0

#define TEXT(NAME, SECTION, DEFAULT, FIELD_, HELP) \
    .name = NAME, .type = OPTION_STRING, .section = SECTION, .default_text = DEFAULT, TEXT_FIELD(FIELD_), \
    .help = HELP
#define BOOL(NAME, SECTION, DEFAULT, FIELD_, HELP) \
    .name = NAME, .type = OPTION_BOOL, .section = SECTION, .default_text = DEFAULT, BOOL_FIELD(FIELD_), \
    .help = HELP
#define LIST(NAME, SECTION, DEFAULT, FIELD_, HELP) \
    .name = NAME, .type = OPTION_LIST, .section = SECTION, .default_text = DEFAULT, LIST_FIELD(FIELD_), \
    .help = HELP
#define INT(NAME, SECTION, DEFAULT, LEAST, MOST, FIELD_, HELP) \
    .name = NAME, .type = OPTION_INT, .section = SECTION, .default_text = DEFAULT, .minimum = LEAST, \
    .maximum = MOST, INT_FIELD(FIELD_), .help = HELP
#define SIZE(NAME, SECTION, DEFAULT, LEAST, MOST, FIELD_, HELP) \
    .name = NAME, .type = OPTION_SIZE, .section = SECTION, .default_text = DEFAULT, .minimum = LEAST, \
    .maximum = MOST, INT_FIELD(FIELD_), .help = HELP
#define SECONDS(NAME, SECTION, DEFAULT, LEAST, MOST, FIELD_, HELP) \
    .name = NAME, .type = OPTION_FLOAT, .section = SECTION, .default_text = DEFAULT, .minimum = LEAST, \
    .maximum = MOST, FLOAT_FIELD(FIELD_), .help = HELP

/* Options of the reference that this version takes and does not act on. */
#define UNUSED(NAME, TYPE, DEFAULT) \
    .name = NAME, .type = TYPE, .status = OPTION_UNUSED, .section = SECTION_REFERENCE, \
    .default_text = DEFAULT, .minimum = -ANY_INT, .maximum = ANY_INT, .offset = OPTION_NOWHERE

static const char *const environment_host[] = {"OPAL_SERVER_HOST", "UVICORN_HOST", NULL};
static const char *const environment_keepalive[] = {
    "OPAL_HTTP_KEEPALIVE_TIMEOUT", "GUNICORN_KEEP_ALIVE_TIMEOUT", "UVICORN_TIMEOUT_KEEP_ALIVE", NULL};
static const char *const environment_port[] = {
    "OPAL_SERVER_PORT", "OPAL_SERVER_BIND_PORT", "UVICORN_PORT", NULL};
static const char *const environment_workers[] = {
    "UVICORN_NUM_WORKERS", "OPAL_SERVER_WORKER_COUNT", "WEB_CONCURRENCY", NULL};
static const char *const environment_statsd_host[] = {"OPAL_STATSD_HOST", "DD_AGENT_HOST", NULL};
static const char *const environment_root_path[] = {"OPAL_ROOT_PATH", "UVICORN_ROOT_PATH", NULL};
static const char *const environment_forwarded[] = {"OPAL_FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS", NULL};
static const char *const environment_tls_certificate[] = {
    "OPAL_TLS_CERTIFICATE", "UVICORN_SSL_CERTFILE", NULL};
static const char *const environment_tls_key[] = {"OPAL_TLS_KEY", "UVICORN_SSL_KEYFILE", NULL};
static const char *const environment_tls_key_password[] = {
    "OPAL_TLS_KEY_PASSWORD", "UVICORN_SSL_KEYFILE_PASSWORD", NULL};
static const char *const environment_tls_ciphers[] = {"OPAL_TLS_CIPHERS", "UVICORN_SSL_CIPHERS", NULL};
static const char *const environment_channel[] = {
    "OPAL_BROADCAST_CHANNEL_NAME", "OPAL_BROADCAST_CHANNEL", NULL};

#define KEY_FORMATS "pem|ssh|der"
#define ALGORITHMS \
    "RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES256K|ES384|ES512|ES521|EdDSA|HS256|HS384|HS512|none"

const struct option options_table[] = {
    /* ---- process ---- */
    {TEXT("SERVER_HOST", SECTION_PROCESS, "127.0.0.1", host, "address to listen on; 0.0.0.0 or :: for all"),
        .flag_alias = "host", .environment = environment_host},
    {INT("SERVER_BIND_PORT", SECTION_PROCESS, "7002", 0, 65535, port,
         "port to listen on. OPAL_SERVER_PORT counts only when it is a number (Kubernetes injects "
         "tcp://...)"),
        .flag_alias = "port,server-port", .environment = environment_port},
    {.name = "SERVER_WORKER_COUNT",
        .type = OPTION_WORKERS,
        .section = SECTION_PROCESS,
        .default_text = "auto",
        .minimum = 1,
        .maximum = SEGMENT_WORKERS_MAX,
        INT_FIELD(workers),
        .flag_alias = "workers",
        .environment = environment_workers,
        .help = "worker processes; auto: one per processor that the affinity mask and the cgroup allow"},
    {INT("WORKERS_MAX", SECTION_PROCESS, "0", 0, SEGMENT_WORKERS_MAX, workers_max,
        "how many workers TTIN can go up to; 0: as many as were started, at least 16")},
    {INT("WORKER_START_ATTEMPTS", SECTION_PROCESS, "5", 0, 1000000, worker_start_attempts,
        "when no worker has ever started, the server ends with status 1 after so many attempts of each; 0: "
        "it keeps "
        "trying")},
    {BOOL("CORE_DUMPS", SECTION_PROCESS, "false", core_dumps,
        "true: a crash may leave a core dump, as the system's limit says; it holds keys and tokens")},
    {SECONDS("GRACE_SECONDS", SECTION_PROCESS, "25", 0, DAY, grace_seconds,
        "from TERM to the end: clients are closed spread over this time")},
    {INT("LISTEN_BACKLOG", SECTION_PROCESS, "4096", 1, 65535, listen_backlog,
        "connections that may wait to be accepted (the kernel's somaxconn limits it too)")},

    /* ---- backbone ---- */
    {TEXT("BROADCAST_URI", SECTION_BACKBONE, NULL, broadcast.uri,
         "backbone that links servers: kafka://host:9092,host2:9092, redis[s]://user:password@host/0, "
         "postgres://user:password@host/database. Not set: this host alone, all its workers"),
        .secrecy = OPTION_SECRET_URL},
    {TEXT("BROADCAST_CHANNEL_NAME", SECTION_BACKBONE, "EventNotifier", broadcast.channel,
         "Kafka topic, Redis channel or Postgres NOTIFY channel"),
        .flag_alias = "broadcast-channel", .environment = environment_channel},
    {SECONDS("BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS", SECTION_BACKBONE, "0.5", 0.001, DAY,
        broadcast.reconnect_backoff_min, "first wait before the backbone is tried again")},
    {SECONDS("BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS", SECTION_BACKBONE, "30", 0.001, DAY,
        broadcast.reconnect_backoff_max,
        "longest wait before the backbone is tried again; Redis, Postgres: once connected, not longer than "
        "BROADCAST_RESYNC_SETTLE_SECONDS")},
    {INT("BROADCAST_KEEPALIVE_INTERVAL", SECTION_BACKBONE, "3600", 0, 30 * DAY, broadcast.keepalive_interval,
        "seconds between keepalive events on the backbone; 0: none")},
    {TEXT("BROADCAST_KEEPALIVE_TOPIC", SECTION_BACKBONE, "__broadcast_session_keepalive__",
        broadcast.keepalive_topic, "topic of the keepalive events")},
    {BOOL("BROADCAST_RECONNECT_ENABLED", SECTION_BACKBONE, "true", broadcast.reconnect_enabled,
        "Redis, Postgres: connect again after a loss")},
    {INT("BROADCAST_RECONNECT_MAX_RETRIES", SECTION_BACKBONE, "0", 0, 1000000000,
        broadcast.reconnect_max_retries,
        "failed attempts in a row after which the server gives up: it closes its clients with 1012 and "
        "ends with status 1, to be started anew by whatever looks after it; 0: never")},
    {BOOL("BROADCAST_HEALTHCHECK_ENABLED", SECTION_BACKBONE, "true", broadcast.healthcheck_enabled,
        "GET /healthcheck answers 503 once the backbone is lost for good (given up, or lost with "
        "reconnecting switched off); not while it is being tried again")},
    {INT("BROADCAST_REPLAY_BUFFER_SIZE", SECTION_BACKBONE, "10000", 0, 10000000, broadcast.replay_buffer_size,
        "Redis, Postgres: own events kept while the backbone is away and sent on its return; 0: none")},
    {BOOL("BROADCAST_RESYNC_ON_RECONNECT", SECTION_BACKBONE, "true", broadcast.resync_on_reconnect,
        "after a gap that may have lost events, have the clients reconnect and refetch")},
    {SECONDS("BROADCAST_RESYNC_SETTLE_SECONDS", SECTION_BACKBONE, "2", 0, 3600, broadcast.settle_seconds,
        "Redis, Postgres: wait after the return before what was kept is sent, and again before clients "
        "refetch; 0: none")},
    {SECONDS("BROADCAST_HEARTBEAT_SECONDS", SECTION_BACKBONE, "60", 1, 3600, broadcast.heartbeat_deadline,
        "Redis, Postgres: the longest that a connection which hears nothing may go unnoticed")},
    {SECONDS("BROADCAST_START_WAIT_SECONDS", SECTION_BACKBONE, "3", 0, 3600, broadcast.start_wait_seconds,
        "how long the start waits for the backbone before it takes clients without it")},
    {BOOL("BROADCAST_FREEZE_ON_DISCONNECT", SECTION_BACKBONE, "false", broadcast.freeze_on_disconnect,
        "while the backbone is away, drop what is published over HTTP (answered 200), as the reference does; "
        "clients refetch after it. false: this host's clients get it, other servers later")},
    {SECONDS("PUBLISH_WAIT_SECONDS", SECTION_BACKBONE, "10", 0.001, DAY, publish_wait_seconds,
        "how long POST /data/config?wait=backbone waits for the backbone's acknowledgement, then 504")},
    {TEXT("BROADCAST_POSTGRES_SCHEMA", SECTION_BACKBONE, "opald", broadcast.postgres_schema,
        "Postgres: schema of the table that carries events too large for NOTIFY (8000 bytes)")},
    {SIZE("KAFKA_QUEUE_MAX_BYTES", SECTION_BACKBONE, "256m", 1 * MIB, 64 * GIB, broadcast.queue_max_bytes,
        "events that wait for Kafka while it is away; more are dropped, counted and logged")},
    {INT("KAFKA_QUEUE_MAX_MESSAGES", SECTION_BACKBONE, "100000", 1, 10000000, broadcast.queue_max_messages,
        "the same as a number of messages")},
    {.name = "KAFKA_CONFIG",
        .type = OPTION_SETTINGS,
        .section = SECTION_BACKBONE,
        TEXT_FIELD(broadcast.kafka_config),
        .secrecy = OPTION_SECRET, /* may hold passwords and keys */
        .help = "any setting of librdkafka, as key=value; applied after this server's own. The flag may be "
                "repeated; in the "
                "variable separated by commas or lines; --kafka-config-file: one a line, # before comments"},
    {BOOL("KAFKA_CREATE_TOPIC", SECTION_BACKBONE, "false", broadcast.kafka_create_topic,
        "make the Kafka topic when it is missing: one partition, the brokers' default of replicas")},
    {INT("RESYNC_CLOSES_PER_SECOND", SECTION_BACKBONE, "1000", 1, 1000000, broadcast.resync_closes_per_second,
        "pace at which the host's clients are told to reconnect (close code 1012) after events may have been "
        "lost")},

    /* ---- events and JSON ---- */
    {SIZE("EVENT_MAX_BYTES", SECTION_EVENTS, "1m", 1 * KIB, 512 * MIB, limits.event_max_bytes,
        "largest event with its envelope; Python clients take 1 MiB. Larger ones are refused: 413, RPC "
        "false")},
    {SIZE("EVENT_BACKBONE_MAX_BYTES", SECTION_EVENTS, "64m", 1 * MIB, 64 * GIB, limits.backbone_max_bytes,
        "what one event with several topics may become on the backbone, which gets a message for each; at "
        "most "
        "KAFKA_QUEUE_MAX_BYTES. Larger ones are refused: 413, RPC false")},
    {INT("TOPICS_MAX", SECTION_EVENTS, "1024", 1, 1000000, limits.topics_max,
        "topics in one publish or subscribe call")},
    {SIZE(
        "TOPIC_MAX_BYTES", SECTION_EVENTS, "4096", 16, 1 * MIB, limits.topic_max_bytes, "length of a topic")},
    /* Python's recursion limit of 1000 is the real bound for its clients. */
    {INT("JSON_MAX_DEPTH", SECTION_EVENTS, "512", 4, 990, limits.json_max_depth,
        "nesting of JSON from clients")},
    {INT("JSON_MAX_TOKENS", SECTION_EVENTS, "1000000", 1000, 100000000, limits.json_max_tokens,
        "values in one JSON text from clients")},

    /* ---- HTTP ---- */
    {SIZE("HTTP_HEADER_MAX_BYTES", SECTION_HTTP, "128k", 1 * KIB, 16 * MIB, http_header_max_bytes,
        "request line and headers")},
    {INT("HTTP_HEADER_MAX_COUNT", SECTION_HTTP, "128", 8, 100000, http_header_max_count,
        "headers of a request")},
    {SIZE("HTTP_BODY_MAX_BYTES", SECTION_HTTP, "16m", 1 * KIB, 2 * GIB, http_body_max_bytes,
        "body of a request")},
    {SECONDS("HTTP_HEADER_TIMEOUT", SECTION_HTTP, "10", 0.1, DAY, http_header_timeout,
        "from a request's first byte to the end of its headers")},
    {SECONDS("HTTP_BODY_TIMEOUT", SECTION_HTTP, "30", 0.1, DAY, http_body_timeout, "for a request's body")},
    {SECONDS("HTTP_KEEPALIVE_TIMEOUT", SECTION_HTTP, "5", 0.1, DAY, http_keepalive_timeout,
         "a connection without a request is closed after this"),
        .environment = environment_keepalive},
    {.name = "ALLOWED_ORIGINS",
        .type = OPTION_LIST,
        .section = SECTION_HTTP,
        .common = true,
        .default_text = "*",
        LIST_FIELD(allowed_origins),
        .help = "origins for CORS, comma separated"},
    {TEXT("ROOT_PATH", SECTION_HTTP, "", root_path,
         "prefix of all paths behind a proxy that does not take it away, such as /opal; paths without it "
         "work as well"),
        .environment = environment_root_path},
    {LIST("FORWARDED_ALLOW_IPS", SECTION_HTTP, "127.0.0.1,::1", forwarded_allow_ips,
         "HTTP load balancers (addresses, networks like 10.0.0.0/8, comma separated; *: everybody) whose "
         "X-Forwarded-For and X-Forwarded-Proto say who the client is and how it came"),
        .environment = environment_forwarded},
    {INT("FORWARDED_MAX_ADDRESSES", SECTION_HTTP, "32", 1, 1000, forwarded_max_addresses,
        "addresses that X-Forwarded-For may name; with more the load balancer's own is used")},
    {SIZE("HTTP_GZIP_MIN_BYTES", SECTION_HTTP, "16k", 0, GIB, http_gzip_min_bytes,
        "bodies from this size to 1 MiB are compressed for clients that accept gzip; 0: never")},
    {TEXT("CLIENT_LOAD_LIMIT_NOTATION", SECTION_HTTP, NULL, client_load_limit_notation,
        "how often /loadlimit says yes, for the whole host: \"10/second\", \"5 per 2 minutes; 100/hour\"")},
    {TEXT("DATA_CONFIG_ROUTE", SECTION_HTTP, "/data/config", data_config_route,
        "where clients ask for their data sources and updates are posted")},
    {TEXT("ALL_DATA_ROUTE", SECTION_HTTP, "/policy-data", all_data_route, "the default data source")},
    {TEXT("ALL_DATA_TOPIC", SECTION_HTTP, "policy_data", all_data_topic, "topic of the default data source")},
    {TEXT("ALL_DATA_URL", SECTION_HTTP, "http://localhost:7002/policy-data", all_data_url,
         "URL of the default data source; follows ALL_DATA_ROUTE"),
        .secrecy = OPTION_SECRET_URL},
    {TEXT("DATA_CALLBACK_DEFAULT_ROUTE", SECTION_HTTP, "/data/callback_report", data_callback_default_route,
        "where clients report what they did with an update")},
    {.name = "DATA_CONFIG_SOURCES",
        .type = OPTION_JSON,
        .section = SECTION_HTTP,
        TEXT_FIELD(data_config_sources),
        .secrecy = OPTION_SECRET, /* may hold tokens for the sources */
        .help = "JSON with exactly one of \"config\" and \"external_source_url\": the clients' data sources"},

    {TEXT("TLS_CERTIFICATE", SECTION_HTTP, NULL, tls_certificate,
         "PEM file with the certificate and its chain: the listener speaks TLS (1.2 and later) and nothing "
         "else. Read again on HUP"),
        .flag_alias = "ssl-certfile", .environment = environment_tls_certificate},
    {TEXT("TLS_KEY", SECTION_HTTP, NULL, tls_key,
         "PEM file with the certificate's private key; not set: it is in the certificate's file"),
        .flag_alias = "ssl-keyfile", .environment = environment_tls_key},
    {TEXT("TLS_KEY_PASSWORD", SECTION_HTTP, NULL, tls_key_password, "what the private key is encrypted with"),
        .flag_alias = "ssl-keyfile-password", .environment = environment_tls_key_password,
        .secrecy = OPTION_SECRET},
    {.name = "TLS_MIN_VERSION",
        .type = OPTION_ENUM,
        .section = SECTION_HTTP,
        .default_text = "1.2",
        .choices = "1.2|1.3",
        TEXT_FIELD(tls_min_version),
        .help = "the oldest TLS that is spoken"},
    {TEXT("TLS_CIPHERS", SECTION_HTTP, NULL, tls_ciphers,
         "ciphers of TLS 1.2, as OpenSSL lists them; not set: OpenSSL's default"),
        .flag_alias = "ssl-ciphers", .environment = environment_tls_ciphers},
    {SECONDS("TLS_HANDSHAKE_TIMEOUT", SECTION_HTTP, "10", 0.1, DAY, tls_handshake_timeout,
        "from the connection to the end of the PROXY header and the TLS handshake")},
    {LIST("PROXY_PROTOCOL_FROM", SECTION_HTTP, "", proxy_protocol_from,
        "load balancers (addresses, networks like 10.0.0.0/8, comma separated) whose connections must begin "
        "with a PROXY protocol header, version 1 or 2; from others none is read")},

    /* ---- clients ---- */
    {INT("CONNECTIONS_MAX", SECTION_CLIENTS, "100000", 1, 10000000, connections_max,
        "connections of the whole host")},
    {SIZE("CLIENT_INFO_MAX_BYTES", SECTION_CLIENTS, "64m", 64 * KIB, GIB, client_info_max_bytes,
        "the largest answer of /pubsub_client_info and /statistics; a larger one is refused with 503")},
    {SIZE("CLIENT_QUERY_MAX_BYTES", SECTION_CLIENTS, "4k", 0, MIB, client_query_max_bytes,
        "query parameters of a websocket that are remembered for /pubsub_client_info; longer ones are not")},
    {BOOL("STATISTICS_ENABLED", SECTION_CLIENTS, "false", statistics.enabled,
         "/statistics and /stats: the clients of all servers on the backbone"),
        .common = true},
    {SIZE("STATISTICS_MAX_BYTES", SECTION_CLIENTS, "256m", 64 * KIB, 16 * GIB, statistics.max_bytes,
        "memory of the master for the clients that announced themselves; more are not counted, which is "
        "logged")},
    {INT("MAX_CHANNELS_PER_CLIENT", SECTION_CLIENTS, "15", 1, 100000, statistics.max_channels,
        "websockets of one client id that are counted")},
    {INT("STATISTICS_SERVER_KEEPALIVE_TIMEOUT", SECTION_CLIENTS, "20", 1, DAY, statistics.keepalive_timeout,
        "seconds; a server that was not heard of for so long is gone, and with it its clients; each tells of "
        "itself "
        "in half "
        "this time")},
    {TEXT("STATISTICS_ADD_CLIENT_CHANNEL", SECTION_CLIENTS, "__opal_stats_add", statistics.add_client_channel,
         "topic of clients that announce themselves"),
        .common = true},
    {TEXT("STATISTICS_REMOVE_CLIENT_CHANNEL", SECTION_CLIENTS, "__opal_stats_rm",
         statistics.remove_client_channel, "topic of clients that are gone"),
        .common = true},
    {TEXT("STATISTICS_WAKEUP_CHANNEL", SECTION_CLIENTS, "__opal_stats_wakeup", statistics.wakeup_channel,
        "topic of a new server that asks for the state")},
    {TEXT("STATISTICS_STATE_SYNC_CHANNEL", SECTION_CLIENTS, "__opal_stats_state_sync",
        statistics.state_sync_channel, "topic of the answer to it")},
    {TEXT("STATISTICS_SERVER_KEEPALIVE_CHANNEL", SECTION_CLIENTS, "__opal_stats_server_keepalive",
        statistics.server_keepalive_channel, "topic of the servers' signs of life")},
    {SIZE("WEBSOCKET_MESSAGE_MAX_BYTES", SECTION_CLIENTS, "16m", 1 * KIB, 1 * GIB,
        websocket_message_max_bytes, "largest message from a client")},
    {INT(
        "SUBSCRIPTIONS_MAX", SECTION_CLIENTS, "1000", 1, 1000000, subscriptions_max, "topics of one client")},
    {SIZE("CLIENT_QUEUE_MAX_BYTES", SECTION_CLIENTS, "4m", 64 * KIB, 4 * GIB, client_queue_max_bytes,
        "what a client may leave unread before it is closed")},
    {SIZE("CLIENT_UNSENT_MAX_BYTES", SECTION_CLIENTS, "256k", 16 * KIB, 1 * GIB, client_unsent_max_bytes,
        "what the kernel may keep for a client beside what is on its way to it (TCP_NOTSENT_LOWAT)")},
    {SIZE("CLIENTS_MEMORY_MAX_BYTES", SECTION_CLIENTS, "256m", 1 * MIB, 1024 * GIB, clients_memory_max_bytes,
        "what all clients of a worker together may make it hold (unread output, unfinished messages, names "
        "of topics); "
        "those that hold most are closed. At least CLIENT_QUEUE_MAX_BYTES in effect")},
    {SECONDS("CLIENT_QUEUE_MAX_SECONDS", SECTION_CLIENTS, "15", 0.1, DAY, client_queue_max_seconds,
        "and for how long it may take nothing of it")},
    {SECONDS("WEBSOCKET_PING_INTERVAL", SECTION_CLIENTS, "20", 0, DAY, websocket_ping_interval,
        "seconds; a client's first ping comes somewhere in the second half. 0: no pings")},
    {SECONDS("WEBSOCKET_PING_TIMEOUT", SECTION_CLIENTS, "20", 0.1, DAY, websocket_ping_timeout,
        "for the answer to a ping")},
    {TEXT("SCOPES_PURGE_CHANNEL", SECTION_CLIENTS, "__opal_scope_purge__", limits.purge_channel,
        "topic that clients may neither subscribe to nor publish")},

    /* ---- policy: where it comes from ---- */
    {BOOL("REPO_WATCHER_ENABLED", SECTION_POLICY, "true", repo_watcher_enabled,
        "track the policy repository or bundle server; false: data updates only")},
    {.name = "POLICY_SOURCE_TYPE",
        .type = OPTION_ENUM,
        .section = SECTION_POLICY,
        .default_text = "GIT",
        .choices = "GIT|API",
        TEXT_FIELD(policy_source_type),
        .help = "GIT: a repository; API: a server of tar.gz bundles"},
    {TEXT("POLICY_REPO_URL", SECTION_POLICY, NULL, policy_repo_url,
         "the repository: https://, ssh://, git@host:path, git://, file:// or a path. Not set: no policies"),
        .secrecy = OPTION_SECRET_URL},
    {TEXT("POLICY_REPO_MAIN_BRANCH", SECTION_POLICY, "master", policy_repo_main_branch,
        "the branch that is tracked")},
    {TEXT("POLICY_REPO_SSH_KEY", SECTION_POLICY, NULL, policy_repo_ssh_key,
         "private key for ssh:// and git@ URLs; _ or \\n may stand for its line ends"),
        .secrecy = OPTION_SECRET},
    {TEXT("GIT_SSH_KEY_FILE", SECTION_POLICY, NULL, git_ssh_key_file,
         "where that key is written (mode 0600); not set: ~/.ssh/opal_repo_ssh_key"),
        .common = true},
    {.name = "POLICY_REPO_SSH_HOST_KEYS",
        .type = OPTION_ENUM,
        .section = SECTION_POLICY,
        .default_text = "accept-new",
        .choices = "accept-new|strict|accept-any",
        TEXT_FIELD(policy_repo_ssh_host_keys),
        .help = "with POLICY_REPO_SSH_KEY: accept-new takes a host's first key and refuses another one "
                "later; strict: only "
                "keys in known_hosts; accept-any: no check, as opal-server"},
    {LIST("POLICY_REPO_ENVIRONMENT", SECTION_POLICY, "", policy_repo_environment,
        "environment variables that git and ssh get besides those for paths, locale, proxies, certificates, "
        "git's "
        "settings and the SSH agent: NAME or BEGINNING*, comma separated")},
    {INT("POLICY_REPO_POLLING_INTERVAL", SECTION_POLICY, "0", 0, 30 * DAY, policy_repo_polling_interval,
        "seconds between looks for changes; 0: only webhooks")},
    {INT("POLICY_REPO_CLONE_TIMEOUT", SECTION_POLICY, "0", 0, 30 * DAY, policy_repo_clone_timeout,
        "seconds that the first clone may take with all its retries; then the policy process starts anew. 0: "
        "no limit")},
    {SECONDS("POLICY_REPO_STALL_SECONDS", SECTION_POLICY, "60", 0.1, DAY, policy_repo_stall_seconds,
        "a git command or download that makes no progress for so long is killed and tried again")},
    {SIZE("POLICY_REPO_MAX_BYTES", SECTION_POLICY, "4g", 0, 1024 * GIB, policy_repo_max_bytes,
        "the largest clone; a clone or fetch that would get larger is stopped. 0: no limit")},
    {TEXT("POLICY_REPO_CLONE_PATH", SECTION_POLICY, NULL, policy_repo_clone_path,
        "folder of the clone; not set: regoclone in the working directory")},
    {TEXT("POLICY_REPO_CLONE_FOLDER_PREFIX", SECTION_POLICY, "opal_repo_clone",
        policy_repo_clone_folder_prefix, "the clone's name in it, followed by - and a random part")},
    {BOOL("POLICY_REPO_REUSE_CLONE_PATH", SECTION_POLICY, "false", policy_repo_reuse_clone_path,
        "the clone's name has no random part")},
    {TEXT("POLICY_REPO_WEBHOOK_SECRET", SECTION_POLICY, NULL, policy_repo_webhook_secret,
         "of POST /webhook: key of the signature, or the token"),
        .secrecy = OPTION_SECRET},
    {.name = "POLICY_REPO_WEBHOOK_PARAMS",
        .type = OPTION_JSON,
        .section = SECTION_POLICY,
        TEXT_FIELD(policy_repo_webhook_params),
        .help = "JSON that describes the webhooks of the git service; not set: GitHub's"},
    {BOOL("POLICY_REPO_WEBHOOK_ENFORCE_BRANCH", SECTION_POLICY, "false", policy_repo_webhook_enforce_branch,
        "webhooks of other branches do nothing")},
    {TEXT("POLICY_BUNDLE_URL", SECTION_POLICY, NULL, policy_bundle_url,
         "API: /bundle.tar.gz is fetched from under it"),
        .secrecy = OPTION_SECRET_URL},
    {.name = "POLICY_BUNDLE_SERVER_TYPE",
        .type = OPTION_ENUM,
        .section = SECTION_POLICY,
        .default_text = "HTTP",
        .choices = "HTTP|AWS-S3",
        TEXT_FIELD(policy_bundle_server_type),
        .help = "API: how requests are signed"},
    {TEXT("POLICY_BUNDLE_SERVER_TOKEN", SECTION_POLICY, NULL, policy_bundle_server_token,
         "API: bearer token, or the secret access key of S3"),
        .secrecy = OPTION_SECRET},
    {TEXT("POLICY_BUNDLE_SERVER_TOKEN_ID", SECTION_POLICY, NULL, policy_bundle_server_token_id,
         "API: access key id of S3"),
        .secrecy = OPTION_SECRET},
    {TEXT("POLICY_BUNDLE_SERVER_AWS_REGION", SECTION_POLICY, "us-east-1", policy_bundle_server_aws_region,
        "API: region of S3")},
    {TEXT("POLICY_BUNDLE_GIT_ADD_PATTERN", SECTION_POLICY, "*", policy_bundle_git_add_pattern,
        "API: which files of the bundle count, as git's path patterns")},
    {SIZE("POLICY_BUNDLE_MAX_BYTES", SECTION_POLICY, "256m", 1 * KIB, 16 * GIB, policy_bundle_max_bytes,
        "API: the largest bundle, as it comes")},
    {SIZE("POLICY_BUNDLE_UNPACKED_MAX_BYTES", SECTION_POLICY, "1g", 1 * KIB, 64 * GIB,
        policy_bundle_unpacked_max_bytes, "API: all its files together")},
    {INT("POLICY_BUNDLE_MAX_FILES", SECTION_POLICY, "100000", 1, 10000000, policy_bundle_max_files,
        "API: files and folders in it")},

    /* ---- policy: what GET /policy gives ---- */
    {TEXT("POLICY_REPO_MANIFEST_PATH", SECTION_POLICY, NULL, policy_manifest_path,
        "directory with the .manifest file that orders bundles, or such a file; not set: the repository's "
        "root")},
    {LIST("FILTER_FILE_EXTENSIONS", SECTION_POLICY, ".rego,.json", filter_file_extensions,
         "extensions of the files that count, as a list or a JSON list; in a bundle only policies and "
         "data.json are taken "
         "from them"),
        .extensions = true},
    {LIST("POLICY_REPO_POLICY_EXTENSIONS", SECTION_POLICY, ".rego", policy_extensions,
         "extensions of policy modules"),
        .common = true, .extensions = true},
    {LIST("BUNDLE_IGNORE", SECTION_POLICY, NULL, bundle_ignore,
        "patterns of paths that are left out: dir/** takes a directory, others match from the right (*.rego, "
        "a/*.rego)")},
    {SIZE("BUNDLE_MAX_BYTES", SECTION_POLICY, "256m", 1 * KIB, 1 * GIB, bundle_max_bytes,
        "largest bundle, and all its .manifest files together; a request that asks for more gets 500 with "
        "this limit in "
        "the detail")},
    {INT("BUNDLE_FILES_MAX", SECTION_POLICY, "200000", 1, 10000000, bundle_files_max,
        "files and directories that a policy repository may have")},
    {INT("BUNDLE_PATHS_MAX", SECTION_POLICY, "100", 1, 10000, bundle_paths_max,
        "path parameters in one request for a bundle")},
    {INT("BUNDLE_PATH_MAX_BYTES", SECTION_POLICY, "4096", 64, 65536, bundle_path_max_bytes,
        "bytes of one of them, of a path in the repository and of base_hash")},
    {SECONDS("BUNDLE_BUILD_SECONDS", SECTION_POLICY, "30", 0.1, DAY, bundle_build_seconds,
        "in which a bundle must be there, waiting included; then 503, and a build that still runs is "
        "killed")},
    {SIZE("BUNDLE_CACHE_BYTES", SECTION_POLICY, "256m", 0, 64 * GIB, bundle_cache_bytes,
        "built bundles that are kept, once for all workers; the least recently used goes first")},
    {INT("BUNDLE_WAITING_MAX", SECTION_POLICY, "1000", 1, 1000000, bundle_waiting_max,
        "different bundles that may wait to be built; 503 above")},

    /* ---- shared memory ---- */
    {SIZE("RING_BYTES", SECTION_MEMORY, "64m", 64 * KIB, 16 * GIB, memory.ring_bytes,
        "ring that carries events to all workers; at least eight times EVENT_MAX_BYTES")},
    {SIZE("UPLINK_BYTES", SECTION_MEMORY, "4m", 64 * KIB, 4 * GIB, memory.uplink_bytes,
        "ring of one worker for what it publishes; at least twice EVENT_MAX_BYTES")},
    {SECONDS("RING_STALL_SECONDS", SECTION_MEMORY, "10", 0.1, DAY, ring_stall_seconds,
        "a worker that holds up the full ring for longer is replaced")},
    {SECONDS("WORKER_HANG_SECONDS", SECTION_MEMORY, "30", 1, DAY, worker_hang_seconds,
        "a worker that shows no sign of life for longer is replaced")},
    {SECONDS("MASTER_HANG_SECONDS", SECTION_MEMORY, "5", 0.5, DAY, master_hang_seconds,
        "if the master does not run for longer, `/readyz` answers 503")},
    {INT("DRAIN_BATCH_RECORDS", SECTION_MEMORY, "256", 1, 1000000, drain_batch_records,
        "events a worker takes from the ring before it looks after its connections again")},
    {SIZE(
        "DRAIN_BATCH_BYTES", SECTION_MEMORY, "4m", 4 * KIB, 4 * GIB, drain_batch_bytes, "the same in bytes")},

    /* ---- log ---- */
    {.name = "LOG_LEVEL",
        .type = OPTION_LOG_LEVEL,
        .section = SECTION_LOG,
        .common = true,
        .default_text = "INFO",
        LEVEL_FIELD(log.level),
        .help = "TRACE, DEBUG, INFO, WARNING, ERROR or CRITICAL"},
    {BOOL("LOG_FORMAT_INCLUDE_PID", SECTION_LOG, "false", log.include_pid, "the process id in each line"),
        .common = true},
    {BOOL("LOG_COLORIZE", SECTION_LOG, "true", log.colorize, "colours, also when the output is no terminal"),
        .common = true},
    {BOOL("LOG_SERIALIZE", SECTION_LOG, "false", log.serialize, "one JSON object a line"), .common = true},
    {.name = "LOG_PIPE_TO_STDERR",
        .type = OPTION_BOOL,
        .section = SECTION_LOG,
        .common = true,
        .default_text = "true",
        .offset = OPTION_NOWHERE, /* stored the other way round, as log.to_stdout */
        .help = "false: to standard output"},
    {BOOL("ENABLE_METRICS", SECTION_LOG, "false", enable_metrics,
         "send the host's figures to a DogStatsD agent as well; GET /metrics is always there"),
        .common = true},
    {TEXT("STATSD_HOST", SECTION_LOG, "localhost", statsd_host, "host of the DogStatsD agent"),
        .environment = environment_statsd_host},
    {INT("STATSD_PORT", SECTION_LOG, "8125", 1, 65535, statsd_port, "its UDP port")},
    {SECONDS("STATSD_INTERVAL", SECTION_LOG, "10", 0.1, DAY, statsd_interval, "between two reports")},

    /* ---- authentication ---- */
    {TEXT("AUTH_PRIVATE_KEY", SECTION_AUTH, NULL, auth_private_key,
         "signs the tokens of POST /token: the key's file, or the key itself (_ or \\n for line ends). With "
         "both "
         "keys "
         "set every caller needs a token; with none, nobody does"),
        .secrecy = OPTION_SECRET},
    {.name = "AUTH_PRIVATE_KEY_FORMAT",
        .type = OPTION_ENUM,
        .section = SECTION_AUTH,
        .default_text = "pem",
        .choices = KEY_FORMATS,
        TEXT_FIELD(auth_private_key_format),
        .help = "pem, ssh (OpenSSH's own, not encrypted) or der"},
    {TEXT("AUTH_PRIVATE_KEY_PASSPHRASE", SECTION_AUTH, NULL, auth_private_key_passphrase,
         "of an encrypted pem or der key"),
        .secrecy = OPTION_SECRET},
    {TEXT("AUTH_PUBLIC_KEY", SECTION_AUTH, NULL, auth_public_key,
         "verifies tokens: the key's file, or the key itself"),
        .common = true, .secrecy = OPTION_SECRET},
    {.name = "AUTH_PUBLIC_KEY_FORMAT",
        .type = OPTION_ENUM,
        .section = SECTION_AUTH,
        .common = true,
        .default_text = "ssh",
        .choices = KEY_FORMATS,
        TEXT_FIELD(auth_public_key_format),
        .help = "ssh (one line: ssh-rsa AAAA...), pem or der"},
    {.name = "AUTH_JWT_ALGORITHM",
        .type = OPTION_ENUM,
        .section = SECTION_AUTH,
        .common = true,
        .default_text = "RS256",
        .choices = ALGORITHMS,
        TEXT_FIELD(auth_jwt_algorithm),
        .help =
            "of every token, whatever its header says. HS256, HS384, HS512 and none don't go with a pair of "
            "keys: the start fails, as the reference's does"},
    {TEXT("AUTH_JWT_AUDIENCE", SECTION_AUTH, "https://api.opal.ac/v1/", auth_jwt_audience,
         "what a token's aud must hold"),
        .common = true},
    {TEXT("AUTH_JWT_ISSUER", SECTION_AUTH, "https://opal.ac/", auth_jwt_issuer, "what a token's iss must be"),
        .common = true},
    {TEXT("AUTH_MASTER_TOKEN", SECTION_AUTH, NULL, auth_master_token,
         "the secret that POST /token asks for; without it no tokens are given out"),
        .secrecy = OPTION_SECRET},
    {BOOL("AUTH_TOKEN_WITHOUT_MASTER", SECTION_AUTH, "false", auth_token_without_master,
        "true: without a master token everybody may have tokens, as with the reference")},
    {BOOL("AUTH_CLOSE_EXPIRED", SECTION_AUTH, "true", auth_close_expired,
        "a websocket is closed (1008) when its token expires; the reference leaves it open")},
    {LIST("PUBLISH_PEER_TYPES", SECTION_AUTH, NULL, publish_peer_types,
        "peer types that may publish over a websocket, and the topic `webhook` is reserved; recommended: "
        "`datasource`. Unset: all, as in the reference")},
    {SECONDS("AUTH_REFUSAL_DELAY", SECTION_AUTH, "1", 0, 60, auth_refusal_delay,
        "an address with more than ten refused handshakes in ten seconds waits this long for each further "
        "refusal, "
        "because clients with a bad token come back at once; 0: it does not")},
    {SIZE("AUTH_TOKEN_MAX_BYTES", SECTION_AUTH, "64k", 512, 16 * MIB, auth_token_max_bytes,
        "a longer bearer token is refused unseen")},
    {TEXT("AUTH_JWKS_URL", SECTION_AUTH, "/.well-known/jwks.json", auth_jwks_url,
        "route of the public key as a JWK set")},
    {TEXT("AUTH_JWKS_STATIC_DIR", SECTION_AUTH, NULL, auth_jwks_static_dir,
        "a folder to write the JWK set to as well, at the start, for another server to serve; made if need "
        "be")},

    /* ---- not safe to ignore ---- */
    {.name = "SCOPES",
        .type = OPTION_BOOL,
        .status = OPTION_REFUSED,
        .section = SECTION_REFERENCE,
        .default_text = "false",
        .offset = OPTION_NOWHERE},

    /* ---- accepted, not used by this version: server ---- */
    {UNUSED("WS_LOCAL_URL", OPTION_STRING, "ws://localhost:7002/ws"), .secrecy = OPTION_SECRET_URL},
    {UNUSED("WS_TOKEN", OPTION_STRING, "THIS_IS_A_DEV_SECRET"), .secrecy = OPTION_SECRET},
    {UNUSED("SCOPES_GIT_FETCH_TIMEOUT", OPTION_FLOAT, "120.0")},
    {UNUSED("SCOPES_GIT_MAX_WORKERS", OPTION_INT, "10")},
    {UNUSED("SCOPES_GIT_PRELOAD_DRAIN_TIMEOUT", OPTION_FLOAT, "10.0")},
    {UNUSED("SCOPES_GIT_MAX_ZOMBIES", OPTION_INT, "40")},
    {UNUSED("SCOPES_GIT_BACKOFF_BASE_SECONDS", OPTION_FLOAT, "10.0")},
    {UNUSED("SCOPES_GIT_BACKOFF_MAX_SECONDS", OPTION_FLOAT, "0.0")},
    {UNUSED("SCOPES_POLICY_CLONE_WAIT_SECONDS", OPTION_FLOAT, "20.0")},
    {UNUSED("SCOPES_POLICY_CLONE_WAIT_MAX_INFLIGHT", OPTION_INT, "64")},
    {UNUSED("LEADER_LOCK_FILE_PATH", OPTION_STRING, "/tmp/opal_server_leader.lock")},
    {UNUSED("POLICY_BUNDLE_TMP_PATH", OPTION_STRING, "/tmp/bundle.tar.gz")},
    {UNUSED("PUBLISHER_ENABLED", OPTION_BOOL, "true")},
    {UNUSED("NO_RPC_LOGS", OPTION_BOOL, "true")},
    {UNUSED("ENABLE_DATADOG_APM", OPTION_BOOL, "false")},
    {UNUSED("DEBUG_INTERNAL_STATS", OPTION_BOOL, "false")},
    {UNUSED("SCOPES_REPO_CLONES_SHARDS", OPTION_INT, "1")},
    {UNUSED("REDIS_URL", OPTION_STRING, "redis://localhost"), .secrecy = OPTION_SECRET_URL},
    {UNUSED("BASE_DIR", OPTION_STRING, NULL)},
    {UNUSED("POLICY_REFRESH_INTERVAL", OPTION_INT, "0")},
    {UNUSED("SCOPES_STORE_READ_TIMEOUT", OPTION_FLOAT, "10.0")},

    /* ---- accepted, not used by this version: common ---- */
    {UNUSED("LOG_FORMAT", OPTION_STRING, NULL), .common = true},
    {UNUSED("LOG_TRACEBACK", OPTION_BOOL, "true"), .common = true},
    {UNUSED("LOG_DIAGNOSE", OPTION_BOOL, "false"), .common = true},
    {UNUSED("LOG_SHOW_CODE_LINE", OPTION_BOOL, "true"), .common = true},
    {UNUSED("LOG_MODULE_EXCLUDE_LIST", OPTION_LIST, "uvicorn"), .common = true},
    {UNUSED("LOG_MODULE_INCLUDE_LIST", OPTION_LIST, "uvicorn.protocols.http"), .common = true},
    {UNUSED("LOG_PATCH_UVICORN_LOGS", OPTION_BOOL, "true"), .common = true},
    {UNUSED("LOG_TO_FILE", OPTION_BOOL, "false"), .common = true},
    {UNUSED("LOG_FILE_PATH", OPTION_STRING, "opal_{time}.log"), .common = true},
    {UNUSED("LOG_FILE_ROTATION", OPTION_STRING, "250 MB"), .common = true},
    {UNUSED("LOG_FILE_RETENTION", OPTION_STRING, "10 days"), .common = true},
    {UNUSED("LOG_FILE_COMPRESSION", OPTION_STRING, NULL), .common = true},
    {UNUSED("LOG_FILE_SERIALIZE", OPTION_STRING, "True"), .common = true},
    {UNUSED("LOG_FILE_LEVEL", OPTION_STRING, "INFO"), .common = true},
    {UNUSED("FETCH_PROVIDER_MODULES", OPTION_LIST, "opal_common.fetcher.providers"), .common = true},
    {UNUSED("FETCHING_WORKER_COUNT", OPTION_INT, "6"), .common = true},
    {UNUSED("FETCHING_CALLBACK_TIMEOUT", OPTION_INT, "10"), .common = true},
    {UNUSED("FETCHING_ENQUEUE_TIMEOUT", OPTION_INT, "10"), .common = true},
    {UNUSED("CLIENT_SELF_SIGNED_CERTIFICATES_ALLOWED", OPTION_BOOL, "false"), .common = true},
    {UNUSED("CLIENT_SSL_CONTEXT_TRUSTED_CA_FILE", OPTION_STRING, NULL), .common = true},
    {UNUSED("HTTP_FETCHER_PROVIDER_CLIENT", OPTION_STRING, "aiohttp"), .common = true},
    {UNUSED("HTTP_FETCHER_TIMEOUT", OPTION_FLOAT, "5"), .common = true},
};

const size_t options_table_count = sizeof options_table / sizeof *options_table;
