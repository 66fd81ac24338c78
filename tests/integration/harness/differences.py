"""Where opald differs from opal-server 0.9.9 on purpose: deploy/guide/differences.md is made of this, and the suites name its ids.

A suite that compares with the reference keeps what opald must do instead; check_ids() sees to it that it knows all of the entries
that name its test, and no others. test_guides.py checks the guide, and that the named tests exist.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    id: str
    reference: str  # the guide's words
    opald: str
    tests: tuple  # FILE::FUNCTION below tests/integration, or unit/FOLDER/FILE.c::FUNCTION
    untested: str = ""  # with no test: why


WIRE = "test_wire_differential.py::test_same_as_the_reference"
HTTP = "test_http_differential.py::test_same_as_the_reference"
AUTH = "test_auth_differential.py::test_requests"

DIFFERENCES = (
    Difference(
        "refused-rpc",
        "refused subscribe or publish ends the connection",
        "answers `false`, stays open, logs and counts",
        (WIRE, "test_limits.py::test_subscription_and_topic_limits",),
    ),
    Difference(
        "mute-client",
        "a mute client stops later subscribers of its topic; synchronous publishes hang",
        "nobody waits for replies; a synchronous publish answers when the event has its place in the order",
        ("test_delivery.py::test_a_client_that_never_reads_and_one_that_never_replies",),
    ),
    Difference(
        "first-ping",
        "clients that connected together are pinged together, every 20 s",
        "a client's first ping comes 10 to 20 s after it connected, later ones every 20 s: they spread",
        ("unit/worker/test_worker.c::test_first_pings_are_spread",),
    ),
    Difference(
        "publish-to-itself",
        "a connection that publishes synchronously to itself deadlocks",
        "gets the event and its answer",
        ("test_delivery.py::test_sync_publish_to_oneself_does_not_block",),
    ),
    Difference(
        "answer-before-publish",
        "POST `/data/config` answers before anything was published",
        "200 means that the event is on the ring",
        ("test_processes.py::test_publishes_that_a_dying_worker_answered_are_delivered",),
    ),
    Difference(
        "kafka-outage",
        "Kafka outage: events are lost for other servers' clients",
        "they wait and go out in order",
        ("test_kafka_production.py::test_three_thousand_events_through_outages", "test_backbone_faults.py::test_fleet",),
    ),
    Difference(
        "kafka-bad-record",
        "a record in Kafka that is null or not UTF-8 makes a worker deaf for good",
        "skipped, logged, counted",
        ("test_kafka_backend.py::test_what_others_write",),
    ),
    Difference(
        "kafka-late-topic",
        "a Kafka topic created after the start: deaf for five minutes",
        "heard within a second",
        ("test_kafka_backend.py::test_topic_made_later",),
    ),
    Difference(
        "backbone-limit",
        "events above the backbone's limit: 200, then nobody hears",
        "413 with the limit, RPC `false`",
        ("test_kafka_production.py::test_limit_of_the_topic", "test_backbone_fleet.py::test_postgres_without_the_table", "test_delivery.py::test_bodies_around_a_mebibyte",),
    ),
    Difference(
        "order",
        "order between workers and servers is not kept",
        "the ring's order; Kafka's order between servers",
        ("test_delivery.py::test_many_events_at_once_keep_each_publishers_order",),
    ),
    Difference(
        "workers-without-backbone",
        "more than one worker without a backbone refuses to start",
        "all workers of the host reach each other's clients",
        ("test_delivery.py::test_four_workers_hundred_clients_each_event_once_in_order",),
    ),
    Difference(
        "even-spread",
        "connections spread unevenly over workers",
        "evenly",
        ("test_processes.py::test_workers_spread_connections_evenly",),
    ),
    Difference(
        "booleans",
        "`true/1/false/0` only, `yes` silently means the default; an empty `OPAL_BROADCAST_URI` switches on a broken broadcaster",
        "yes/no/on/off too; anything else stops the start with one line; an empty value is unset",
        ("unit/server/options/test_options.c::booleans", "test_service.py::test_a_wrong_setting_ends_with_2_and_one_line",),
    ),
    Difference(
        "old-channel-name",
        "`OPAL_BROADCAST_CHANNEL` of the old docs is ignored",
        "honoured",
        ("unit/server/options/test_options.c::names_of_the_channel", "test_service.py::test_flag_beats_environment_and_old_names_count",),
    ),
    Difference(
        "no-policy-repo",
        "without `OPAL_POLICY_REPO_URL` the start fails",
        "serves data updates; `/policy` answers 503",
        ("test_policy_git.py::test_no_repository_configured",),
    ),
    Difference(
        "force-push",
        "force-pushes are not followed: commits that were taken back go on being served",
        "the branch is what the remote has",
        ("test_policy_git.py::test_polling_force_push_and_no_event_at_the_start",),
    ),
    Difference(
        "failed-pull",
        "a pull that fails is not repeated before the next poll or webhook",
        "repeated until it works",
        ("test_policy_git.py::test_a_daemon_that_stops_answering_is_given_up_and_tried_again", "test_policy_git.py::test_a_remote_that_is_damaged_and_repaired",),
    ),
    Difference(
        "foreign-clone",
        "a clone of another repository in its folder ends the worker, for ever",
        "cloned anew; with a fixed path a clear line, and nothing is deleted",
        ("test_policy_git.py::test_folders_are_those_of_the_reference",),
    ),
    Difference(
        "ssh-host-keys",
        "SSH host keys are not checked",
        "the first one is kept (`OPAL_POLICY_REPO_SSH_HOST_KEYS`)",
        ("test_policy_git.py::test_ssh_key_and_a_host_that_changes_its_key",),
    ),
    Difference(
        "url-passwords",
        "passwords of URLs stand in command lines, in the clone and in the answer of `/webhook`",
        "in none of them; so a reference that takes over such a clone must make its own",
        ("test_policy_git.py::test_password_over_http_stays_secret", "test_policy_webhook.py::test_answers_are_those_of_the_reference",),
    ),
    Difference(
        "webhook-500",
        "`/webhook` with a body that is no JSON object, odd types in it, or all fields that it knows: 500",
        "400 with a detail; taken",
        ("test_policy_webhook.py::test_what_the_reference_answers_with_500",),
    ),
    Difference(
        "webhook-repository",
        "`/webhook` ignores the tracked repository in another spelling (`.git`, a slash, ssh:// or scp form, case of the host), and answers 400 to Bitbucket Server",
        "the same repository; Bitbucket Server's payload is understood",
        ("test_policy_webhook.py::test_spellings_of_the_repository", "test_policy_webhook.py::test_bitbucket_server",),
    ),
    Difference(
        "webhook-branch",
        "the branch of Azure DevOps' and Bitbucket's webhooks is not found (`OPAL_POLICY_REPO_WEBHOOK_ENFORCE_BRANCH`)",
        "found",
        ("test_policy_webhook.py::test_branches_are_enforced",),
    ),
    Difference(
        "bundle-server-deleted",
        "with bundle servers, deleted files stay for ever",
        "go",
        ("test_policy_api.py::test_what_was_deleted_goes_and_the_same_is_not_new",),
    ),
    Difference(
        "bundle-tmp",
        "a bundle is downloaded to `/tmp/bundle.tar.gz` and unpacked into files",
        "neither: `OPAL_POLICY_BUNDLE_TMP_PATH` is not needed",
        ("test_policy_api.py::test_what_was_deleted_goes_and_the_same_is_not_new",),
    ),
    Difference(
        "unknown-base",
        "a `base_hash` that git does not know, unless it has 40 hex digits: 500",
        "a full bundle",
        ("test_policy_bundles.py::test_unknown_base_gives_a_full_bundle",),
    ),
    Difference(
        "searching-base",
        "`base_hash` may be a search through messages or the reflog (`:/text`, `HEAD@{1}`)",
        "a full bundle; hashes, short ones too, branches, tags, `HEAD~2` work",
        ("test_policy_bundles.py::test_unknown_base_gives_a_full_bundle", "unit/server/policy/bundle/test_bundle_store.c::test_spellings_of_a_base",),
    ),
    Difference(
        "bundle-not-utf8",
        "one file or name that is not UTF-8: 500 for the whole bundle",
        "ill-formed bytes become U+FFFD, as OPA's own JSON reader does it; a warning names the file",
        ("test_policy_bundles.py::test_files_that_are_not_utf8",),
    ),
    Difference(
        "odd-file-names",
        "file names with a line feed or a leading colon break differences",
        "they are names like others",
        ("unit/server/policy/bundle/test_bundle_diff.c::test_changes",),
    ),
    Difference(
        "repository-size",
        "a repository of any size is cloned, and fills the disk",
        "`OPAL_POLICY_REPO_MAX_BYTES` (4 GiB; 0: no limit) stops it; what was served still is",
        ("test_policy_git.py::test_a_repository_that_is_too_large",),
    ),
    Difference(
        "manifest-size",
        "a `.manifest` of any size is read",
        "all of them together may have `OPAL_BUNDLE_MAX_BYTES`; then 500 with that limit",
        ("test_policy_bundles.py::test_a_huge_manifest",),
    ),
    Difference(
        "bundle-once",
        "a bundle is built for each request",
        "once; `ETag`, 304, gzip",
        ("test_policy_bundles.py::test_built_once_for_a_thousand_clients", "test_policy_bundles.py::test_etag_and_gzip",),
    ),
    Difference(
        "bundle-limits",
        "no limit on paths, sizes, build time",
        "limits, with a clear answer",
        ("test_policy_bundles.py::test_limits",),
    ),
    Difference(
        "missing-paths",
        "of several missing `path`s the first is named",
        "one of them",
        ("test_policy_bundles.py::test_several_missing_paths",),
    ),
    Difference(
        "watcher-restart",
        "a repository whose watcher is restarted: 503 until it is cloned again",
        "workers serve what they hold",
        ("test_policy_bundles.py::test_deaths_of_builder_and_policy_process",),
    ),
    Difference(
        "paced-end",
        "SIGTERM drops all clients in the same instant",
        "paced within the grace time",
        ("test_processes.py::test_term_closes_many_clients_at_a_pace",),
    ),
    Difference(
        "data-unchanged",
        "values inside events are re-serialised (`1e400` becomes `Infinity`, spacing changes)",
        "`data` passes through as the bytes it came as",
        ("test_delivery.py::test_data_passes_unchanged", "test_delivery.py::test_inline_data_of_an_update_passes_unchanged", "test_http_differential.py::test_untouched_data",),
    ),
    Difference(
        "no-deflate",
        "`permessage-deflate` is negotiated",
        "declined; clients work without it",
        ("unit/worker/websocket/test_websocket_handshake.c::test_accepted", "test_seed_story.py::test_clients_that_offer_compression_are_served",),
    ),
    Difference(
        "refused-async-publish",
        "a refused publish with `sync: false` answers `true`",
        "`false`",
        (WIRE,),
    ),
    Difference(
        "bad-utf8",
        "bad UTF-8 ends a connection when the message is complete",
        "at the first bad byte",
        ("unit/worker/websocket/test_websocket_frame.c::test_utf8",),
    ),
    Difference(
        "rediss",
        "`rediss://` is plain text, user and database are ignored",
        "TLS, user and database are used",
        ("test_redis_backbone.py::test_tls", "test_redis_backbone.py::test_user_password_database",),
    ),
    Difference(
        "freeze",
        "clients are thrown out at once after a Postgres gap, publishes in it are dropped (`OPAL_BROADCAST_FREEZE_ON_DISCONNECT` is true by default)",
        "local delivery goes on and own events are sent afterwards. The default is false, because with it this host's clients would miss updates for as long as the backbone is away, and for good where an update carries its data inline; `true` behaves as in the reference, also for Kafka",
        ("test_acknowledgement.py::test_not_frozen", "test_acknowledgement.py::test_freeze_redis",),
    ),
    Difference(
        "wait-backbone",
        "nobody can know whether an update got beyond the server that took it",
        "`POST /data/config?wait=backbone`",
        ("test_acknowledgement.py::test_acknowledged_by_kafka",),
    ),
    Difference(
        "json-depth",
        "JSON nests to about 990 levels",
        "to `OPAL_JSON_MAX_DEPTH`, 512",
        (HTTP,),
    ),
    Difference(
        "http-two-ways",
        "HTTP requests that can be read in two ways (no Host or two, two Authorization headers, odd Transfer-Encodings, HTTP/0.9), bodies in UTF-16",
        "400",
        (HTTP, WIRE),
    ),
    Difference(
        "validation-errors",
        "validation errors without end",
        "the first 1,000",
        (HTTP,),
    ),
    Difference(
        "token-echo",
        "a 401 echoes the token",
        "the error without it",
        (AUTH,),
    ),
    Difference(
        "early-401",
        "a malformed or invalid body is complained about (422) before a missing token or a wrong `peer_type`",
        "401 first, before the body is read",
        (AUTH,),
    ),
    Difference(
        "token-route",
        "`/token` is open to everybody when no master token is set",
        "401; `OPAL_AUTH_TOKEN_WITHOUT_MASTER=true` restores it",
        ("test_auth.py::test_without_a_master_token_no_tokens",),
    ),
    Difference(
        "bad-token-pace",
        "a client with a bad token retries a hundred times a second",
        "each refusal after the tenth comes a second late (`OPAL_AUTH_REFUSAL_DELAY`)",
        ("test_auth.py::test_a_client_with_a_bad_token_is_slowed_down",),
    ),
    Difference(
        "expired-connection",
        "a connection outlives its token",
        "closed with 1008 when the token expires (`OPAL_AUTH_CLOSE_EXPIRED`)",
        ("test_auth.py::test_a_connection_ends_with_its_token",),
    ),
    Difference(
        "auth-500",
        "`permitted_topics` that is no list, a claim `iss` that is no string, a `ttl` beyond the year 9999: 500",
        "permits nothing; 422; 422",
        (AUTH,),
    ),
    Difference(
        "jwks-file",
        "the JWK set is a file in the working directory, others beside it are served too",
        "served from memory; written only where `OPAL_AUTH_JWKS_STATIC_DIR` says",
        (HTTP, AUTH, "test_auth.py::test_algorithms",),
    ),
    Difference(
        "source-without-token",
        "`external_source_url` without a token: 500",
        "redirected without a token",
        ("test_http_differential.py::test_external_sources",),
    ),
    Difference(
        "docs-page",
        "`/docs` and `/redoc` load their scripts from a public network",
        "a page of our own that needs nothing from outside; without OAuth2, so no `/docs/oauth2-redirect`",
        (HTTP, "test_http_face.py::test_page_needs_nothing_from_outside",),
    ),
    Difference(
        "client-info",
        "`/pubsub_client_info` tells of one worker, with the broadcaster's topic among the clients'",
        "of the whole host; 503 when a worker does not answer within 2 s, instead of half of the truth",
        ("test_who_is_connected.py::test_client_info_of_the_whole_host", "test_who_is_connected.py::test_client_info_while_a_worker_hangs",),
    ),
    Difference(
        "statistics-ghosts",
        "statistics keep the clients of killed workers and servers, count a client's repeated announcement twice, and end a client only when it answers `_get_channel_id_`",
        "clients go with their worker or server; an announcement counts once. (Whose the clients are that a reference server reported in its state, nobody knows: these end when it says so)",
        ("test_who_is_connected.py::test_statistics_of_all_workers", "test_who_is_connected.py::test_fleet_of_ours",),
    ),
    Difference(
        "statistics-place",
        "statistics: every worker has the whole state and asks for it",
        "the master has it, up to `OPAL_STATISTICS_MAX_BYTES`",
        ("unit/server/statistics/test_statistics.c::test_bounded", "test_who_is_connected.py::test_statistics_of_all_workers",),
    ),
    Difference(
        "query-limit",
        "a websocket's query parameters without limit are shown in `/pubsub_client_info`",
        "up to `OPAL_CLIENT_QUERY_MAX_BYTES`, and 256 of them",
        ("test_who_is_connected.py::test_client_info_limits",),
    ),
    Difference(
        "load-limit",
        "the load limit counts in each worker; a notation that can't be read means no limit",
        "counted once for the host; such a notation stops the start",
        ("test_http_face.py::test_load_limit_of_the_whole_host", "test_http_face.py::test_load_limit_that_is_none",),
    ),
    Difference(
        "forwarded-for",
        "anything in `X-Forwarded-For` is taken for an address, however long, and stands in the log",
        "the load balancer's own address then, logged and counted: at most 63 letters, digits and `.:_-[]%`, at most `OPAL_FORWARDED_MAX_ADDRESSES` places; a port above 65535 is 0",
        ("test_forwarded.py::test_limits_and_log_lines",),
    ),
    Difference(
        "upgrade-body",
        "an upgrade request with a body gets no answer",
        "answered as plain HTTP",
        ("unit/worker/http/test_http_session.c::test_upgrades",),
    ),
    Difference(
        "http-version",
        "a plain request that calls itself HTTP/2.0 is answered",
        "400",
        (HTTP,),
    ),
    Difference(
        "h2c-body",
        "the body of a request with `Upgrade: h2c` is lost",
        "read",
        (HTTP,),
    ),
    Difference(
        "garbage-behind",
        "a good request before an unreadable one in the same write gets no answer, one with a broken body two",
        "each gets one",
        (HTTP,),
    ),
    Difference(
        "close-behind",
        "a message right before a close frame gets no answer",
        "answered, then closed",
        (WIRE,),
    ),
    Difference(
        "frame-with-handshake",
        "a frame in the same write as the handshake is lost",
        "answered",
        ("test_wire_differential.py::test_frame_in_the_same_write_as_the_handshake",),
    ),
    Difference(
        "surrogate-bytes",
        "a body with the bytes of lone surrogates is taken",
        "400",
        (HTTP,),
    ),
    Difference(
        "null-save-method",
        "`save_method: null` beside `data`: 500",
        "422",
        (HTTP,),
    ),
    Difference(
        "request-limits",
        "no limit on a request's head, headers, body, event and topics",
        "limits, with a clear answer (413, 422, 431)",
        (HTTP, "test_limits.py::test_head_limits", "test_limits.py::test_body_limit",),
    ),
    Difference(
        "openapi-words",
        "`/openapi.json` in the reference's words",
        "the same operations and types, described in ours; with an `ETag`",
        (HTTP, "test_http_face.py::test_same_description",),
    ),
    Difference(
        "probes",
        "`/livez` and `/readyz`: 404",
        "probes",
        (HTTP,),
    ),
    Difference(
        "publish-status",
        "`publish-data-update` ends with 0 when the server refuses",
        "with 1",
        ("test_command_line.py::test_a_refusal_is_told_with_its_status",),
    ),
)


def check_ids(ids, test: str):
    """`ids`: what the tables beside `test` stand for. Called at import: a wrong one stops the suite."""
    wanted, named = {one.id for one in DIFFERENCES if test in one.tests}, set(ids)
    if wanted != named:
        raise ValueError(f"{test}: no entry of differences.py names this test for {sorted(named - wanted)}; not in its tables: {sorted(wanted - named)}")


def markdown() -> str:
    return "| `opal-server` 0.9.9 | `opald` |\n|---|---|\n" + "".join(f"| {one.reference} | {one.opald} |\n" for one in DIFFERENCES)
