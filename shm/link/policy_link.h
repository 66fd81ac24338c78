/*
 * What the workers and the policy process say to each other: messages over one AF_UNIX SOCK_SEQPACKET
 * connection a worker. The master makes the listening socket (abstract, autobound: unix(7)) and holds it over
 * the life of any policy process, so that a worker can always connect; who answers is checked on both sides
 * (SO_PEERCRED). A message is
 *
 *   0        4        8              16
 *   | type   | version| id           | body, by type; the rest of the packet, at most POLICY_BODY_MAX bytes |
 *     u32      u32      u64
 *
 *   HEAD            policy -> worker   struct policy_head; sent at the start and at each change. Id 0
 *   WEBHOOK         worker -> policy   empty: look for changes now. Id 0
 *   BUNDLE_REQUEST  worker -> policy   the bundle builder's own format; the id is the worker's
 *   BUNDLE_ANSWER   policy -> worker   the same with the request's id; may carry one descriptor (SCM_RIGHTS)
 *
 * A lost connection voids what was asked over it: the worker asks again over the next one. Native byte order,
 * one host, one version of the program (a policy process of another build is never started, see
 * server/master/process_start.h).
 */
#ifndef OPALD_SHM_LINK_POLICY_LINK_H
#define OPALD_SHM_LINK_POLICY_LINK_H

#include <stdint.h>

#define POLICY_ADDRESS_MAX  32 /* the abstract name as text with its NUL */
#define POLICY_LINK_VERSION 1u
#define POLICY_BODY_MAX     (160u * 1024u)
#define POLICY_HASH_LENGTH  40
/* Every server of a fleet looks for changes when an event comes on it. */
#define POLICY_WEBHOOK_TOPIC "webhook"

enum policy_message_type {
    POLICY_MESSAGE_HEAD = 1,
    POLICY_MESSAGE_WEBHOOK = 2,
    POLICY_MESSAGE_BUNDLE_REQUEST = 3,
    POLICY_MESSAGE_BUNDLE_ANSWER = 4,
};

struct policy_message_head {
    /* enum policy_message_type */
    uint32_t type;
    uint32_t version;
    uint64_t id;
};

enum policy_state {
    /* nothing to serve yet: GET /policy is 503 */
    POLICY_NO_CLONE,
    POLICY_READY,
};

struct policy_head {
    /* enum policy_state */
    uint32_t state;
    /* the commit served; empty while there is none */
    char hash[POLICY_HASH_LENGTH + 1];
    char reserved[3];
};

#endif
