/* The memory of verdicts on tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "worker/auth/auth_cache.h"

#define NOW 1795516119.0

static EVP_PKEY *key, *wrong_key;
static struct token_rules rules = {.audience = "A", .issuer = "I"};

static int open_keys(void **state)
{
    (void)state;
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    wrong_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    rules.algorithm = jose_algorithm_find("EdDSA");
    rules.key = key;
    return !key || !wrong_key;
}

static int close_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    EVP_PKEY_free(wrong_key);
    return 0;
}

static struct text make_token(const char *more)
{
    struct text payload = {0}, token = {0};
    struct error err = {0};
    text_append_format(
        &payload, "{\"aud\":\"A\",\"iss\":\"I\",\"sub\":\"7e1f3a52-8a0b-4c1d-9e2f-000000000001\"%s}", more);
    assert_int_equal(token_sign(rules.algorithm, key, text_slice(&payload), &token, &err), 0);
    text_free(&payload);
    return token;
}

static enum token_verdict ask(struct auth_cache *cache, const struct text *token, double now)
{
    struct token_claims *claims;
    enum token_verdict verdict = auth_cache_verify(cache, &rules, text_slice(token), now, &claims);
    assert_int_equal(verdict == TOKEN_GOOD, claims != NULL);
    token_claims_drop(claims);
    return verdict;
}

/* With another key in the rules only what is remembered is still good. */
static void verdicts_are_remembered(void **state)
{
    struct auth_cache *cache = auth_cache_open();
    struct text good = make_token(",\"exp\":1795516200"), bad = make_token(",\"exp\":5"),
                early = make_token(",\"nbf\":1795516200");
    (void)state;
    assert_int_equal(ask(cache, &good, NOW), TOKEN_GOOD);
    assert_int_equal(ask(cache, &bad, NOW), TOKEN_EXPIRED);
    assert_int_equal(ask(cache, &early, NOW), TOKEN_EARLY);
    rules.key = wrong_key;
    assert_int_equal(ask(cache, &good, NOW), TOKEN_GOOD);
    assert_int_equal(ask(cache, &bad, NOW), TOKEN_EXPIRED);
    assert_int_equal(ask(cache, &early, NOW), TOKEN_UNDECODABLE); /* was not remembered */
    /* a byte changed is another token */
    good.data[good.length - 5] ^= 1;
    assert_int_equal(ask(cache, &good, NOW), TOKEN_UNDECODABLE);
    good.data[good.length - 5] ^= 1;
    /* what was good ends in time, for good */
    assert_int_equal(ask(cache, &good, 1795516199.9), TOKEN_GOOD);
    assert_int_equal(ask(cache, &good, 1795516200.0), TOKEN_EXPIRED);
    rules.key = key;
    assert_int_equal(ask(cache, &good, 1795516200.1), TOKEN_EXPIRED);
    text_free(&good);
    text_free(&bad);
    text_free(&early);
    auth_cache_close(cache);
}

/* A machine that starts with a wrong clock, which is then set right: its clients are let in. */
static void the_clock_is_set_back(void **state)
{
    struct auth_cache *cache = auth_cache_open();
    struct text token = make_token(",\"exp\":1795516200");
    (void)state;
    assert_int_equal(ask(cache, &token, 1895516200.0), TOKEN_EXPIRED);
    assert_int_equal(ask(cache, &token, 1895516201.0), TOKEN_EXPIRED);
    assert_int_equal(ask(cache, &token, 1795516100.0), TOKEN_GOOD);
    assert_int_equal(ask(cache, &token, 1795516200.0), TOKEN_EXPIRED);
    text_free(&token);
    auth_cache_close(cache);
}

static void a_flood_of_bad_tokens_leaves_the_good_ones(void **state)
{
    struct auth_cache *cache = auth_cache_open();
    struct text good = make_token("");
    (void)state;
    assert_int_equal(ask(cache, &good, NOW), TOKEN_GOOD);
    rules.key = wrong_key;
    for (int i = 0; i < 5000; i++) {
        struct text bad = {0};
        text_append_format(&bad, "bad.%d.x", i);
        assert_int_equal(ask(cache, &bad, NOW), TOKEN_UNDECODABLE);
        text_free(&bad);
    }
    assert_int_equal(ask(cache, &good, NOW), TOKEN_GOOD);
    rules.key = key;
    text_free(&good);
    auth_cache_close(cache);
}

/* More good tokens than slots: each verdict stays right, and claims in use outlive their slot. */
static void newcomers_take_slots(void **state)
{
    struct auth_cache *cache = auth_cache_open();
    struct text first = make_token(",\"permitted_topics\":[\"a\"]");
    struct token_claims *kept;
    (void)state;
    assert_int_equal(auth_cache_verify(cache, &rules, text_slice(&first), NOW, &kept), TOKEN_GOOD);
    for (int i = 0; i < 6000; i++) {
        char more[32];
        snprintf(more, sizeof more, ",\"n\":%d", i);
        struct text token = make_token(more);
        assert_int_equal(ask(cache, &token, NOW), TOKEN_GOOD);
        text_free(&token);
    }
    auth_cache_close(cache);
    assert_true(
        token_permits_topic(kept, SLICE_LITERAL("a")) && !token_permits_topic(kept, SLICE_LITERAL("b")));
    token_claims_drop(kept);
    text_free(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_are_remembered),
        cmocka_unit_test(the_clock_is_set_back),
        cmocka_unit_test(a_flood_of_bad_tokens_leaves_the_good_ones),
        cmocka_unit_test(newcomers_take_slots),
    };
    return cmocka_run_group_tests(tests, open_keys, close_keys);
}
