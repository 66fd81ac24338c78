/*
 * The parts of a backbone's URI, and what no error text and no log line may lead to: a password whose special
 * characters are not percent-encoded is cut at the wrong place, and its pieces would pass for a host, a port
 * or an option. Pure.
 */
#ifndef OPALD_BROADCAST_BACKEND_BACKBONE_URI_H
#define OPALD_BROADCAST_BACKEND_BACKBONE_URI_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* scheme://[userinfo@]hosts[/path][?query][#fragment]; views of the text, not decoded. */
struct backbone_uri {
    struct slice scheme;
    /* absent when there is no '@': the last one of the authority ends it, as Python's urllib has it */
    struct slice userinfo;
    struct slice hosts;
    /* without the '/' in front; empty when there is none */
    struct slice path;
    /* without the '?' */
    struct slice query;
};

/* `name` is the backbone's, for the text of the error. `ends`: the characters that end the authority; '#' is
 * no mark of a fragment unless it is one of them. -1 when the URI has no scheme, or an '@' where a password
 * was cut. */
MUST_CHECK int backbone_uri_split(
    const char *name, const char *uri, const char *ends, struct backbone_uri *parts, struct error *err);
/* Appends scheme://userinfo@hosts with every '@' of the userinfo encoded, as stricter parsers want it. */
void backbone_uri_append_authority(struct text *out, const struct backbone_uri *parts);
/* Appends what is secret, as it is written and as it is meant, a line each (shm/common/secret_mask.h): the
 * password, and of the query all from a password on. */
void backbone_uri_append_secrets(struct text *out, const struct backbone_uri *parts);

#endif
