/*
 * What the policy process and its bundle builder say to each other over a SOCK_SEQPACKET pair: one request,
 * one reply, one at a time. Both are the same program, so the structs go as they are. Lengths are checked all
 * the same, since a builder may be half broken.
 *
 *   request: | struct bundle_wire_request | repository NUL head NUL base NUL path NUL ... |
 *   reply:   | struct bundle_wire_reply | detail |, and the body's memfd by SCM_RIGHTS when the status is 200
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_WIRE_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_WIRE_H

#include <sys/types.h>
#include "shm/common/object.h"
#include "server/policy/bundle/bundle_build.h"

/* Of a message; the worker's limits on paths keep far below it. */
#define BUNDLE_WIRE_BYTES_MAX (256 * 1024)
#define BUNDLE_WIRE_MAGIC     UINT32_C(0x62756e64)

struct bundle_wire_request {
    uint32_t magic;
    uint32_t path_count;
};

struct bundle_wire_reply {
    uint32_t magic;
    /* As in bundle_result, or BUNDLE_OTHER_BASE. */
    uint32_t status;
    uint64_t json_bytes;
    uint64_t gzip_bytes;
    uint64_t files;
    uint64_t repaired;
    uint64_t build_ns;
    char tag[BUNDLE_TAG_LENGTH + 1];
    /* Of BUNDLE_OTHER_BASE. */
    char base[BUNDLE_HASH_LENGTH + 1];
};

struct bundle_reply {
    struct bundle_wire_reply head;
    /* Into the buffer received. */
    struct slice detail;
    /* -1: none; the receiver's. */
    int descriptor;
};

/* A socket pair for it, both ends close-on-exec. -1 with `err`. */
MUST_CHECK int bundle_wire_pair(int ends[2], struct error *err);

/* Encodes; the strings must hold no NUL. */
void bundle_wire_request_write(const struct bundle_request *request, struct text *out);
/* Decodes into views of `message`; `paths` has room for `paths_max`. -1: malformed. */
MUST_CHECK int bundle_wire_request_read(
    struct slice message, struct slice *paths, size_t paths_max, struct bundle_request *request);

/* Sends one message; `descriptor` -1: none. -1 with errno. */
MUST_CHECK int bundle_wire_send(int socket, struct slice message, int descriptor);
/* Receives one message into `buffer` (cleared first). Its length, 0 at the end of file, -1 with errno.
 * `*descriptor` gets what came with it, or -1 (also when this process had no room for it:
 * passed_descriptor.h). */
MUST_CHECK ssize_t bundle_wire_receive(int socket, struct text *buffer, int *descriptor);

void bundle_wire_reply_write(const struct bundle_result *result, uint64_t build_ns, struct text *out);
/* -1: malformed, and a descriptor that came with it is closed. */
MUST_CHECK int bundle_wire_reply_read(struct slice message, int descriptor, struct bundle_reply *reply);

#endif
