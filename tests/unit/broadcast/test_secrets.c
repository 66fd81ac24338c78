/*
 * No error text and nothing that is shown of a URI holds four characters in a row of its password, whatever
 * characters the password is made of and whether they are encoded or not. Where a URI is accepted, its host
 * is the host: a piece of the password would come into the log as the name that can't be resolved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/broadcast.h"
#include "broadcast/kafka/kafka_config.h"
#include "broadcast/postgres/postgres_uri.h"
#include "broadcast/redis/redis_uri.h"
#include "shm/common/percent.h"
#include "shm/common/secret_mask.h"
#include "shm/common/url_display.h"

#define ROUNDS       20000
#define PASSWORD_MAX 24

/* %s is the password. No text around it has four characters in a row that a password of the alphabets below
 * could have. */
static const char *const forms[] = {
    "redis://:%s@h:1",
    "redis://u:%s@h:1/0",
    "rediss://u:%s@h:1?ssl_cert_reqs=none",
    "redis://h:1?password=%s",
    "redis://h:1?username=u&password=%s&db=0",
    "redis://u:1/%s@h",
    "redis://u:1?%s@h",
    "rediss://h:1?ssl_password=%s",
    "postgres://u:%s@h:1/d",
    "postgresql://u:%s@h,i:1/d?sslmode=require",
    "postgresql://h/d?password=%s",
    "postgresql://h/d?user=u&password=%s&sslmode=disable",
    "postgresql://u:1/%s@h/d",
    "kafka://u:%s@h:1",
    "kafka://h:1,u:%s@i:1",
    "kafka://h:1?password=%s",
    "nats://u:%s@h",
    "redis+sentinel://u:%s@h",
    "host=h password=%s",
    "user=u password=%s host=h",
    "u:%s@h:1",
    "postgresql+asyncpg://u:%s@h/d",
    "redis:/u:%s@h",
    "%s",
    "redis://%s",
    "kafka://%s",
    "postgres://%s",
    "redis://u:%s@",
    "redis:///%s",
    "postgres:///%s@h",
};

/* All punctuation, some letters and digits that no form and no message has in a row, and such as look like
 * ports and options. */
static const char alphabet[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~QXZqxz0987 ";

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void make_password(uint32_t *state, char *password)
{
    size_t length = 6 + next_random(state) % (PASSWORD_MAX - 6);
    for (size_t i = 0; i < length; i++)
        password[i] = alphabet[next_random(state) % (sizeof alphabet - 1)];
    password[length] = '\0';
}

/* A piece that the form or the message has by itself is none of the password's: all in it is the same
 * punctuation. */
static bool is_chance(const char *piece)
{
    return strncmp(piece, "***", 3) == 0 || strncmp(piece + 1, "***", 3) == 0 ||
           strncmp(piece, "://", 3) == 0 || strncmp(piece + 1, "://", 3) == 0;
}

static void expect_hidden(const char *uri, const char *password, const char *shown)
{
    char piece[SECRET_MASK_LEAST + 1] = "";
    for (size_t i = 0; i + SECRET_MASK_LEAST <= strlen(password); i++) {
        memcpy(piece, password + i, SECRET_MASK_LEAST);
        if (strstr(shown, piece) && !is_chance(piece))
            fail_msg("'%s' of the password '%s' in %s is shown: %s", piece, password, uri, shown);
    }
}

static void look_at_parts(const char *uri, const char *password)
{
    struct redis_uri redis;
    struct postgres_uri postgres;
    struct text brokers = {0};
    struct error err = {0};
    if (strncmp(uri, "redis", 5) == 0 && redis_uri_parse(uri, &redis, &err) == 0) {
        expect_hidden(uri, password, redis.host);
        redis_uri_free(&redis);
    }
    if (strncmp(uri, "postgres", 8) == 0 && postgres_uri_parse(uri, 0, &postgres, &err) == 0) {
        for (size_t i = 0; i < postgres.host_count; i++)
            expect_hidden(uri, password, postgres.hosts[i].name);
        postgres_uri_free(&postgres);
    }
    if (strncmp(uri, "kafka", 5) == 0 && kafka_config_parse_uri(uri, &brokers, &err) == 0)
        expect_hidden(uri, password, brokers.data ? brokers.data : "");
    text_free(&brokers);
}

/* The password stands where a host belongs: nothing can tell. */
static bool is_a_host(const char *form)
{
    return strcmp(form, "redis://%s") == 0 || strcmp(form, "kafka://%s") == 0 ||
           strcmp(form, "postgres://%s") == 0 || strcmp(form, "redis:///%s") == 0 || strcmp(form, "%s") == 0;
}

static void try_form(const char *form, const char *password)
{
    struct text uri = {0};
    struct text shown = {0};
    struct error err = {0};
    const char *place = strstr(form, "%s");
    text_append_format(&uri, "%.*s%s%s", (int)(place - form), form, password, place + 2);
    if (broadcast_check_uri(uri.data, &err) != 0)
        expect_hidden(uri.data, password, err.text);
    if (!is_a_host(form)) {
        look_at_parts(uri.data, password);
        url_append_display(&shown, uri.data);
        expect_hidden(uri.data, password, shown.data);
    }
    text_free(&uri);
    text_free(&shown);
}

static void test_raw_passwords(void **state)
{
    uint32_t seed = 1;
    char password[PASSWORD_MAX + 1];
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        make_password(&seed, password);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
            try_form(forms[i], password);
    }
}

static void expect_password(const char *got, const char *expected, const char *uri)
{
    if (!got || strcmp(got, expected) != 0)
        fail_msg("%s: the password is %s", uri, got ? got : "missing");
}

/* As the advice says: encoded, any password is accepted and meant. */
static void test_encoded_passwords(void **state)
{
    uint32_t seed = 2;
    char password[PASSWORD_MAX + 1];
    (void)state;
    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        struct text encoded = {0};
        struct text uri = {0};
        struct error err = {0};
        struct redis_uri redis;
        struct postgres_uri postgres;
        make_password(&seed, password);
        percent_encode(slice_from_string(password), "", &encoded);
        text_append_format(&uri, "redis://u:%s@h:1", encoded.data);
        if (redis_uri_parse(uri.data, &redis, &err) != 0)
            fail_msg("%s: %s", uri.data, err.text);
        expect_password(redis.password, password, uri.data);
        redis_uri_free(&redis);
        text_clear(&uri);
        text_append_format(&uri, "postgres://u:%s@h:1/d", encoded.data);
        if (postgres_uri_parse(uri.data, 0, &postgres, &err) != 0)
            fail_msg("%s: %s", uri.data, err.text);
        expect_password(postgres_uri_value(&postgres, "password"), password, uri.data);
        postgres_uri_free(&postgres);
        text_free(&uri);
        text_free(&encoded);
    }
}

/* Where a special character has cut the password, the message says what to do. */
static void test_advice(void **state)
{
    static const char *const uris[] = {"redis://:aSECRETb/cd@h:6379", "redis://:aSECRETb?cd@h:6379",
        "redis://:aSECRETb#cd@h:6379", "redis://u:1234/cd@h", "postgres://u:aSECRETb/cd@h",
        "postgres://u:a?cd@h/d", "postgres://u:aSECRETb/c@d@h", "redis://u:SECRETb"};
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        struct error err = {0};
        assert_int_equal(broadcast_check_uri(uris[i], &err), -1);
        if (!strstr(err.text, "write / as %2F, @ as %40, : as %3A, # as %23, ? as %3F and % as %25"))
            fail_msg("%s: %s", uris[i], err.text);
        assert_null(strstr(err.text, "SECRET"));
    }
}

static void test_masked_messages(void **state)
{
    static const struct {
        const char *text, *secrets, *masked;
    } cases[] = {
        {"ERR unknown command 'AUTH' hunter2", "hunter2", "ERR unknown command 'AUTH' *******"},
        {"nothing of it", "hunter2", "nothing of it"},
        {"hun hunt hunte", "hunter2", "hun **** *****"},
        {"one two", "one \ntwo!", "****two"},
        {"hunter2", NULL, "hunter2"},
        {"hunter2", "", "hunter2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i].text);
        secret_mask(text, cases[i].secrets);
        assert_string_equal(text, cases[i].masked);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_passwords),
        cmocka_unit_test(test_encoded_passwords),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_masked_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
