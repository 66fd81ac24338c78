#include "worker/auth/auth_cache.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

#define DIGEST_BYTES  32
#define GOOD_SLOTS    2048 /* a worker's clients and publishers; some kilobytes each when all are in use */
#define REFUSED_SLOTS 256
/* A token above this is verified each time: the cache's memory stays below a known bound. */
#define CACHED_TOKEN_MAX 8192

struct good_slot {
    unsigned char digest[DIGEST_BYTES];
    /* NULL: empty */
    struct token_claims *claims;
};

struct refused_slot {
    unsigned char digest[DIGEST_BYTES];
    /* TOKEN_GOOD: empty */
    enum token_verdict verdict;
    /* wall-clock seconds, which may be set back: what had expired then need not have now */
    double at;
};

struct auth_cache {
    struct good_slot good[GOOD_SLOTS];
    struct refused_slot refused[REFUSED_SLOTS];
};

struct auth_cache *auth_cache_open(void)
{
    return memory_allocate(sizeof(struct auth_cache));
}

void auth_cache_close(struct auth_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < GOOD_SLOTS; i++)
        token_claims_drop(cache->good[i].claims);
    free(cache);
}

static size_t slot_of(const unsigned char *digest, size_t slots)
{
    return ((size_t)digest[0] << 8 | digest[1]) % slots;
}

/* A good token that was good before: only its end can have come. */
static enum token_verdict verify_again(struct good_slot *slot, double now, struct token_claims **claims)
{
    if (slot->claims->expires != TOKEN_NEVER && (double)slot->claims->expires <= now) {
        token_claims_drop(slot->claims);
        slot->claims = NULL;
        return TOKEN_EXPIRED;
    }
    *claims = token_claims_keep(slot->claims);
    return TOKEN_GOOD;
}

enum token_verdict auth_cache_verify(struct auth_cache *cache, const struct token_rules *rules,
    struct slice token, double now, struct token_claims **claims)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    *claims = NULL;
    if (token.length > CACHED_TOKEN_MAX ||
        EVP_Digest(token.data, token.length, digest, NULL, EVP_sha256(), NULL) != 1)
        return token_verify(rules, token, now, claims);
    struct good_slot *good = &cache->good[slot_of(digest, GOOD_SLOTS)];
    struct refused_slot *refused = &cache->refused[slot_of(digest, REFUSED_SLOTS)];
    if (good->claims && memcmp(good->digest, digest, DIGEST_BYTES) == 0)
        return verify_again(good, now, claims);
    if (refused->verdict != TOKEN_GOOD && memcmp(refused->digest, digest, DIGEST_BYTES) == 0) {
        if (refused->verdict != TOKEN_EXPIRED || now >= refused->at)
            return refused->verdict;
    }

    enum token_verdict verdict = token_verify(rules, token, now, claims);
    if (verdict == TOKEN_GOOD) {
        token_claims_drop(good->claims);
        good->claims = token_claims_keep(*claims);
        memcpy(good->digest, digest, DIGEST_BYTES);
    } else if (verdict != TOKEN_EARLY) {
        refused->verdict = verdict;
        refused->at = now;
        memcpy(refused->digest, digest, DIGEST_BYTES);
    }
    return verdict;
}
