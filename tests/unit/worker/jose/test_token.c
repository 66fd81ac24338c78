#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "worker/jose/base64url.h"
#include "worker/jose/token.h"

#define NOW  1795516119.5
#define BASE "\"aud\":\"A\",\"iss\":\"I\",\"sub\":\"7e1f3a52-8a0b-4c1d-9e2f-000000000001\""

static EVP_PKEY *key, *other;
static struct token_rules rules = {.audience = "A", .issuer = "I"};

static int open_keys(void **state)
{
    (void)state;
    key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    rules.algorithm = jose_algorithm_find("ES256");
    rules.key = key;
    return !key || !other;
}

static int close_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    return 0;
}

static enum token_verdict verify(const char *token, struct token_claims **claims)
{
    return token_verify(&rules, slice_from_string(token), NOW, claims);
}

/* The verdict on a payload under a good signature. */
static enum token_verdict verdict_at(const char *payload, double now, int64_t *expires)
{
    struct text token = {0};
    struct error err = {0};
    struct token_claims *claims = NULL;
    assert_int_equal(token_sign(rules.algorithm, key, slice_from_string(payload), &token, &err), 0);
    enum token_verdict verdict = token_verify(&rules, text_slice(&token), now, &claims);
    assert_int_equal(verdict == TOKEN_GOOD, claims != NULL);
    if (claims && expires)
        *expires = claims->expires;
    token_claims_drop(claims);
    text_free(&token);
    return verdict;
}

static enum token_verdict verdict_on(const char *payload)
{
    return verdict_at(payload, NOW, NULL);
}

static void claims_one_by_one(void **state)
{
    static const struct {
        const char *payload;
        enum token_verdict verdict;
    } cases[] = {
        {"{" BASE "}", TOKEN_GOOD},
        {"{" BASE ",\"exp\":1795516120}", TOKEN_GOOD},
        {"{" BASE ",\"exp\":1795516119}", TOKEN_EXPIRED},
        {"{" BASE ",\"exp\":\" 1_795_516_120 \"}", TOKEN_GOOD},
        {"{" BASE ",\"exp\":\"1__0\"}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"exp\":1e400}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"exp\":-1e400}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"exp\":NaN}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"exp\":1e300}", TOKEN_GOOD},
        {"{" BASE ",\"exp\":99999999999999999999999999}", TOKEN_GOOD},
        {"{" BASE ",\"exp\":-99999999999999999999999999}", TOKEN_EXPIRED},
        {"{" BASE ",\"exp\":true}", TOKEN_EXPIRED},
        {"{" BASE ",\"exp\":null}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"exp\":1,\"exp\":1795516120}", TOKEN_GOOD}, /* the last one counts */
        {"{" BASE ",\"exp\":1795516120,\"exp\":1}", TOKEN_EXPIRED},
        {"{" BASE ",\"e\\u0078p\":1}", TOKEN_EXPIRED}, /* whatever its spelling */
        {"{" BASE ",\"nbf\":1795516120}", TOKEN_EARLY},
        {"{" BASE ",\"nbf\":1795516119}", TOKEN_GOOD},
        {"{" BASE ",\"nbf\":[]}", TOKEN_UNDECODABLE},
        {"{" BASE ",\"iat\":1795516120}", TOKEN_EARLY},
        {"{" BASE ",\"iat\":{}}", TOKEN_UNKNOWN},
        {"{\"iss\":\"I\",\"sub\":\"x\"}", TOKEN_UNKNOWN},
        {"{\"aud\":\"A\",\"sub\":\"x\"}", TOKEN_UNKNOWN},
        {"{\"aud\":\"a\",\"iss\":\"I\"}", TOKEN_AUDIENCE},
        {"{\"aud\":\"A\\u0000\",\"iss\":\"I\"}", TOKEN_AUDIENCE},
        {"{\"aud\":\"A\",\"iss\":\"i\"}", TOKEN_ISSUER},
        {"{\"aud\":\"A\",\"iss\":\"I\"}", TOKEN_SUBJECT},
        {"{\"aud\":[\"B\",\"A\"],\"iss\":\"I\",\"sub\":\"{7E1F3A528A0B4C1D9E2F000000000001}\"}", TOKEN_GOOD},
        {"{\"aud\":[\"B\"],\"iss\":\"I\"}", TOKEN_AUDIENCE},
        {"{\"aud\":[],\"iss\":\"I\"}", TOKEN_UNKNOWN},
        {"{\"aud\":{\"A\":1},\"iss\":\"I\"}", TOKEN_AUDIENCE},
        {"{\"aud\":0,\"iss\":\"I\"}", TOKEN_UNKNOWN},
        {"{" BASE ",\"jti\":5}", TOKEN_UNKNOWN},
        {"[]", TOKEN_UNDECODABLE},
        {"", TOKEN_UNDECODABLE},
        {"{" BASE "} x", TOKEN_UNDECODABLE},
        {"{" BASE ",\"x\":\"\xff\"}", TOKEN_UNDECODABLE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (verdict_on(cases[i].payload) != cases[i].verdict)
            fail_msg("%s: %d", cases[i].payload, verdict_on(cases[i].payload));
    }
}

static void the_end_is_known(void **state)
{
    int64_t expires = 0;
    (void)state;
    assert_int_equal(verdict_at("{" BASE "}", NOW, &expires), TOKEN_GOOD);
    assert_true(expires == TOKEN_NEVER);
    assert_int_equal(verdict_at("{" BASE ",\"exp\":5}", 4.9, &expires), TOKEN_GOOD);
    assert_int_equal(expires, 5);
    assert_int_equal(verdict_at("{" BASE ",\"exp\":5}", 5, NULL), TOKEN_EXPIRED);
}

static struct text build(const char *header, const char *payload, const char *signature)
{
    struct text token = {0};
    base64url_encode(header, strlen(header), &token);
    text_append_char(&token, '.');
    base64url_encode(payload, strlen(payload), &token);
    text_append_format(&token, ".%s", signature);
    return token;
}

/* Headers decide nothing: a token under another algorithm fails before any key is used. */
static void headers(void **state)
{
    static const struct {
        const char *header;
        enum token_verdict verdict;
    } cases[] = {
        {"{\"alg\":\"none\"}", TOKEN_UNKNOWN}, {"{\"alg\":\"\"}", TOKEN_UNKNOWN},
        {"{\"alg\":\"HS256\"}", TOKEN_UNKNOWN}, {"{\"alg\":\"es256\"}", TOKEN_UNKNOWN},
        {"{\"alg\":[\"ES256\"]}", TOKEN_UNKNOWN}, {"{}", TOKEN_UNKNOWN},
        {"{\"alg\":\"ES256\",\"alg\":\"none\"}", TOKEN_UNKNOWN},
        {"{\"alg\":\"ES256\",\"kid\":5}", TOKEN_UNKNOWN},
        {"{\"alg\":\"ES256\",\"crit\":[\"exp\"]}", TOKEN_UNKNOWN},
        {"{\"alg\":\"ES256\",\"crit\":[]}", TOKEN_UNKNOWN},
        {"{\"alg\":\"ES256\",\"b64\":false}", TOKEN_UNDECODABLE},
        {"{\"alg\":\"ES256\"}", TOKEN_UNDECODABLE}, /* the signature */
        {"[]", TOKEN_UNDECODABLE}, {"{\"alg\":", TOKEN_UNDECODABLE},
        {"{\"alg\":[[[[[[[[[[[1]]]]]]]]]]]}", TOKEN_UNDECODABLE}, /* too deep */
    };
    struct token_claims *claims;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text token = build(cases[i].header, "{" BASE "}", "");
        if (verify(token.data, &claims) != cases[i].verdict)
            fail_msg("%s: %d", cases[i].header, verify(token.data, &claims));
        assert_null(claims);
        text_free(&token);
    }
}

static void shapes(void **state)
{
    static const char *const shapes[] = {"", ".", "..", "...", "a", "a.b", "a.b.c", "e30.e30.", "e30.e30",
        "e30=.e30.e30", "e30==.e30.e30", "e3A.e30.e30", "e31.e30.e30", "\xff.\xff.\xff"};
    struct token_claims *claims;
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        enum token_verdict verdict = verify(shapes[i], &claims);
        assert_true(
            verdict == TOKEN_UNDECODABLE || (verdict == TOKEN_UNKNOWN && strncmp(shapes[i], "e30", 3) == 0));
        assert_null(claims);
    }
}

static void signatures(void **state)
{
    struct text token = {0}, strange = {0};
    struct error err = {0};
    struct token_claims *claims = NULL;
    (void)state;
    for (int i = 0; i < 300; i++) { /* r or s begins with a zero now and then */
        text_clear(&token);
        assert_int_equal(token_sign(rules.algorithm, key, SLICE_LITERAL("{" BASE "}"), &token, &err), 0);
        assert_int_equal(token_verify(&rules, text_slice(&token), NOW, &claims), TOKEN_GOOD);
        token_claims_drop(claims);
    }
    /* every byte counts */
    for (size_t i = 0; i < token.length; i++) {
        char before = token.data[i];
        token.data[i] = before == 'A' ? 'B' : 'A';
        assert_int_not_equal(token_verify(&rules, text_slice(&token), NOW, &claims), TOKEN_GOOD);
        assert_null(claims);
        token.data[i] = before;
    }
    for (size_t i = 0; i < token.length; i++)
        assert_int_not_equal(token_verify(&rules, (struct slice){token.data, i}, NOW, &claims), TOKEN_GOOD);
    assert_int_equal(token_sign(rules.algorithm, other, SLICE_LITERAL("{" BASE "}"), &strange, &err), 0);
    assert_int_equal(token_verify(&rules, text_slice(&strange), NOW, &claims), TOKEN_UNDECODABLE);
    text_free(&token);
    text_free(&strange);
}

static void topics(void **state)
{
    static const struct {
        const char *payload;
        const char *topic;
        bool permitted;
    } cases[] = {
        {"{" BASE "}", "anything", true},
        {"{" BASE ",\"permitted_topics\":[\"a\",\"b/c\"]}", "a", true},
        {"{" BASE ",\"permitted_topics\":[\"a\",\"b/c\"]}", "b/c", true},
        {"{" BASE ",\"permitted_topics\":[\"a\",\"b/c\"]}", "b", false},
        {"{" BASE ",\"permitted_topics\":[\"a\",\"b/c\"]}", "", false},
        {"{" BASE ",\"permitted_topics\":[\"\\u0061\"]}", "a", true},
        {"{" BASE ",\"permitted_topics\":[]}", "a", false},
        {"{" BASE ",\"permitted_topics\":null}", "a", false},
        {"{" BASE ",\"permitted_topics\":\"a\"}", "a", false},
        {"{" BASE ",\"permitted_topics\":{\"a\":1}}", "a", false},
        {"{" BASE ",\"permitted_topics\":[[\"a\"],5]}", "a", false},
        {"{" BASE ",\"permitted_topics\":[\"a/*\"]}", "a/b", true},
        {"{" BASE ",\"permitted_topics\":[\"a/*\"]}", "a/", true},
        {"{" BASE ",\"permitted_topics\":[\"a/*\"]}", "a/*", true},
        {"{" BASE ",\"permitted_topics\":[\"a/*\"]}", "a", false},
        {"{" BASE ",\"permitted_topics\":[\"a/*\"]}", "b/a/b", false},
        {"{" BASE ",\"permitted_topics\":[\"a*b\",\"\"]}", "axb", false},
        {"{" BASE ",\"permitted_topics\":[\"\\u00e9\\u002a\"]}", "\xc3\xa9x", true},
        {"{" BASE ",\"permitted_topics\":[\"*\"]}", "", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text token = {0};
        struct error err = {0};
        struct token_claims *claims = NULL;
        assert_int_equal(
            token_sign(rules.algorithm, key, slice_from_string(cases[i].payload), &token, &err), 0);
        assert_int_equal(token_verify(&rules, text_slice(&token), NOW, &claims), TOKEN_GOOD);
        assert_int_equal(token_permits_topic(claims, slice_from_string(cases[i].topic)), cases[i].permitted);
        token_claims_drop(claims);
        text_free(&token);
    }
}

static void base64(void **state)
{
    static const char *const bad[] = {"A", "AB=", "AA=A", "A===", "AAAA=", "AA==AA==", "A+AA", "A/AA", "A AA",
        "AB", "AAB", "AAAAA", "=", "AA\n"};
    struct text out = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (base64url_decode(slice_from_string(bad[i]), &out))
            fail_msg("%s", bad[i]);
    assert_true(base64url_decode(slice_from_string("_-8"), &out));
    assert_int_equal(out.length, 2);
    assert_memory_equal(out.data, "\xff\xef", 2);
    text_clear(&out);
    assert_true(base64url_decode(slice_from_string("_-8="), &out) && out.length == 2);
    text_clear(&out);
    assert_true(base64url_decode(slice_from_string(""), &out) && out.length == 0);
    base64url_encode("\xff\xef", 2, &out);
    assert_string_equal(out.data, "_-8");
    text_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_one_by_one),
        cmocka_unit_test(the_end_is_known),
        cmocka_unit_test(headers),
        cmocka_unit_test(shapes),
        cmocka_unit_test(signatures),
        cmocka_unit_test(topics),
        cmocka_unit_test(base64),
    };
    return cmocka_run_group_tests(tests, open_keys, close_keys);
}
