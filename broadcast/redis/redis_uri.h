/*
 * redis://[[user][:password]@][host][:port][/number][?key=value&...], rediss:// for TLS, as redis-py reads
 * them; parsed by libcurl. User, password and host are percent-decoded. The number of a database is accepted
 * and has no effect: channels belong to no database. Query keys: db (as the number), username, password,
 * ssl_ca_certs (file), ssl_ca_path (folder), ssl_certfile, ssl_keyfile, ssl_password, ssl_cert_reqs
 * (required, optional, none), ssl_check_hostname (true, false; our default is true); other keys of redis-py
 * that mean nothing here are accepted and ignored, unknown ones are refused.
 */
#ifndef OPALD_BROADCAST_REDIS_REDIS_URI_H
#define OPALD_BROADCAST_REDIS_REDIS_URI_H

#include <stdbool.h>
#include "broadcast/net/tls_client.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

/* Strings are owned; NULL: not given. */
struct redis_uri {
    bool tls;
    /* "localhost" when absent; an IPv6 address without brackets */
    char *host;
    /* 6379 when absent */
    int port;
    char *user;
    char *password;
    char *ca_file;
    char *ca_path;
    char *certificate_file;
    char *key_file;
    char *key_password;
    /* for secret_mask: what an answer of the server must not bring into the log */
    char *secrets;
    bool verify;
    bool verify_host;
};

/* -1 with `err` set, which never quotes any part of the URI; nothing is to be freed then. */
MUST_CHECK int redis_uri_parse(const char *uri, struct redis_uri *out, struct error *err);
/* Frees the strings and wipes the secrets. */
void redis_uri_free(struct redis_uri *uri);

#endif
