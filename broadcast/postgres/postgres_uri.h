/*
 * postgres:// and postgresql:// URIs, as libpq reads them (several hosts, sslmode, target_session_attrs,
 * keepalives*, options, ...), with what the reference's driver (asyncpg) accepts besides: `database`, `ssl`;
 * any other unknown key is a server setting, as there (`?statement_timeout=5000` becomes `options=-c
 * statement_timeout=5000`).
 *
 * Hosts are kept apart from the other parameters: each is resolved and tried by us, because libpq would block
 * on the name.
 */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_URI_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_URI_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

#define POSTGRES_HOSTS_MAX      16
#define POSTGRES_PARAMETERS_MAX 64

/* Strings are owned. */
struct postgres_host {
    /* "": libpq's default socket; "/...": the folder of a socket */
    char *name;
    /* numeric, when the URI gives it (hostaddr); NULL: to be resolved */
    char *address;
    int port;
};

struct postgres_uri {
    struct postgres_host hosts[POSTGRES_HOSTS_MAX];
    /* at least 1 */
    size_t host_count;
    /* For PQconnectStartParams, without host, hostaddr and port. */
    char *keywords[POSTGRES_PARAMETERS_MAX];
    char *values[POSTGRES_PARAMETERS_MAX];
    size_t parameter_count;
    /* for one address; from connect_timeout, else 10 s */
    uint64_t connect_timeout_ns;
    /* for secret_mask: what an error message must not bring into the log */
    char *secrets;
};

/* -1 with `err` set, which never quotes user, password or values; nothing is to be freed then.
 * `user_timeout_ms` is the default for tcp_user_timeout. */
MUST_CHECK int postgres_uri_parse(
    const char *uri, unsigned user_timeout_ms, struct postgres_uri *out, struct error *err);
/* Frees the strings and wipes the secrets. */
void postgres_uri_free(struct postgres_uri *uri);
/* The value of a parameter, NULL when absent. */
const char *postgres_uri_value(const struct postgres_uri *uri, const char *keyword);

#endif
