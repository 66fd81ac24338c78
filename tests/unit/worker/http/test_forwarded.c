/*
 * Whom a request was forwarded for. The expected clients are uvicorn's; where ours differs the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"
#include "worker/http/forwarded.h"

#define LISTS_MAX 5

static enum forwarded_result find(const char *trusted, size_t most, char *const *lists, size_t count,
    struct forwarded_client *client, const char **wrong)
{
    char words[200];
    char *items[8], *rest = words;
    size_t item_count = 0;
    struct network_list list;
    struct error err = {0};
    struct http_header headers[2 * LISTS_MAX];
    struct http_request request = {.headers = headers};
    snprintf(words, sizeof words, "%s", trusted);
    while ((items[item_count] = strsep(&rest, ",")) != NULL)
        item_count++;
    assert_int_equal(network_list_parse(&list, items, item_count, &err), 0);
    for (size_t i = 0; i < count; i++) {
        headers[request.header_count++] =
            (struct http_header){SLICE_LITERAL("X-Forwarded-Force"), SLICE_LITERAL("6.6.6.6")};
        headers[request.header_count++] =
            (struct http_header){SLICE_LITERAL("X-forwarded-For"), slice_from_string(lists[i])};
    }
    enum forwarded_result result = forwarded_find_client(&request, &list, most, client, wrong);
    network_list_free(&list);
    return result;
}

/* The value is on the heap, of its exact size and without a NUL: an over-read is seen by the sanitizer. */
static char *told(const char *trusted, const char *value)
{
    static char out[100];
    size_t length = strlen(value);
    char *copy = length ? memory_copy(value, length) : NULL;
    char word[64];
    char *item = word;
    struct network_list list;
    struct error err = {0};
    snprintf(word, sizeof word, "%s", trusted);
    assert_int_equal(network_list_parse(&list, &item, 1, &err), 0);
    struct http_header header = {SLICE_LITERAL("x-forwarded-for"), {copy, length}};
    struct http_request request = {.headers = &header, .header_count = 1};
    struct forwarded_client client = {0};
    const char *wrong = NULL;
    switch (forwarded_find_client(&request, &list, 8, &client, &wrong)) {
    case FORWARDED_NONE:
        snprintf(out, sizeof out, "none");
        break;
    case FORWARDED_TAKEN:
        snprintf(out, sizeof out, "%s %u", client.host, client.port);
        break;
    case FORWARDED_REFUSED:
        snprintf(out, sizeof out, "refused: %s", wrong);
        break;
    }
    network_list_free(&list);
    free(copy);
    return out;
}

#define NET "10.0.0.0/8"

static void test_which_address(void **state)
{
    (void)state;
    assert_string_equal(told(NET, "198.51.100.7"), "198.51.100.7 0");
    assert_string_equal(told(NET, "198.51.100.7, 203.0.113.9"), "203.0.113.9 0");
    assert_string_equal(told(NET, "198.51.100.7,203.0.113.9 ,\t10.1.2.3"), "203.0.113.9 0");
    assert_string_equal(told(NET, "198.51.100.7, 10.1.2.3:80, 10.9.9.9"), "198.51.100.7 0");
    assert_string_equal(told(NET, "10.1.1.1:5, 10.2.2.2"), "10.1.1.1 5");
    assert_string_equal(told("fd00::/8", "2001:db8::1, fd00::2, [fd00::3]:80"), "2001:db8::1 0");
    /* what is no address is nobody's friend */
    assert_string_equal(told(NET, "198.51.100.7, unknown, 10.1.2.3"), "unknown 0");
    assert_string_equal(told(NET, "198.51.100.7, 10.1.2.3x"), "10.1.2.3x 0");
    assert_string_equal(told(NET, "198.51.100.7, 010.1.2.3"), "010.1.2.3 0");
    assert_string_equal(told(NET, "198.51.100.7, 10.1.2.3:80x"), "10.1.2.3:80x 0");
    /* everybody is trusted: the first */
    assert_string_equal(told("*", "198.51.100.7:8, 203.0.113.9"), "198.51.100.7 8");
    assert_string_equal(told("*", ", 203.0.113.9"), "none");
}

static void test_ports(void **state)
{
    (void)state;
    assert_string_equal(told(NET, "1.2.3.4:33210"), "1.2.3.4 33210");
    assert_string_equal(told(NET, "[2001:db8::1]:443"), "2001:db8::1 443");
    assert_string_equal(told(NET, "[2001:db8::1]"), "2001:db8::1 0");
    assert_string_equal(told(NET, "2001:db8::1:443"), "2001:db8::1:443 0");
    assert_string_equal(told(NET, "1.2.3.4:"), "1.2.3.4: 0");
    assert_string_equal(told(NET, "[::1]:"), "::1 0");
    assert_string_equal(told(NET, "[::1]:x"), "::1 0");
    assert_string_equal(told(NET, "[::1]x"), "[::1]x 0");
    assert_string_equal(told(NET, "[::1"), "[::1 0");
    assert_string_equal(told(NET, "[]:80"), "none");
    assert_string_equal(told(NET, ":80"), "none");
    assert_string_equal(told(NET, "1.2.3.4:65535"), "1.2.3.4 65535");
    /* uvicorn passes any number on */
    assert_string_equal(told(NET, "1.2.3.4:65536"), "1.2.3.4 0");
    assert_string_equal(told(NET, "1.2.3.4:99999999999999999999999"), "1.2.3.4 0");
}

static void test_nothing_usable(void **state)
{
    static const char characters[] = "refused: the address has characters that no address has";
    char name[FORWARDED_HOST_TEXT + 1];
    (void)state;
    assert_string_equal(told(NET, ""), "none");
    assert_string_equal(told(NET, " "), "none");
    assert_string_equal(told(NET, "1.2.3.4, "), "none");
    assert_string_equal(told(NET, "1.2.3.4,, 10.0.0.1"), "none");
    /* uvicorn takes these */
    assert_string_equal(told(NET, "1.2.3.4:1 - \"GET / HTTP/1.1\" 200"), characters);
    assert_string_equal(told(NET, "\xe9"), characters);
    assert_string_equal(told(NET, "a\x1b[0m"), characters);
    memset(name, 'a', sizeof name);
    name[FORWARDED_HOST_TEXT] = '\0';
    assert_string_equal(told(NET, name), "refused: the address is too long");
    name[FORWARDED_HOST_TEXT - 1] = '\0';
    assert_memory_equal(told(NET, name), name, FORWARDED_HOST_TEXT - 1);
    assert_string_equal(told(NET, "1,2,3,4,5,6,7,8.8.8.8"), "8.8.8.8 0");
    assert_string_equal(
        told(NET, "1,2,3,4,5,6,7,8,9.9.9.9"), "refused: more addresses than OPAL_FORWARDED_MAX_ADDRESSES");
}

/* They count as one list, in their order. */
static void test_several_headers(void **state)
{
    struct forwarded_client client;
    const char *wrong;
    char *lists[] = {(char *)"1.1.1.1, 2.2.2.2", (char *)"10.0.0.1", (char *)"fd00::1, 10.0.0.2"};
    (void)state;
    assert_int_equal(find(NET ",fd00::1", 5, lists, 3, &client, &wrong), FORWARDED_TAKEN);
    assert_string_equal(client.host, "2.2.2.2");
    assert_int_equal(find("*", 5, lists, 3, &client, &wrong), FORWARDED_TAKEN);
    assert_string_equal(client.host, "1.1.1.1");
    assert_int_equal(find(NET, 4, lists, 3, &client, &wrong), FORWARDED_REFUSED);
    assert_int_equal(find(NET, 5, lists, 0, &client, &wrong), FORWARDED_NONE);
}

static const char *scheme(const char *first, const char *second)
{
    struct http_header headers[2] = {
        {SLICE_LITERAL("X-Forwarded-Proto"), slice_from_string(first)},
        {SLICE_LITERAL("x-forwarded-proto"), slice_from_string(second ? second : "")},
    };
    struct http_request request = {.headers = headers, .header_count = second ? 2 : 1};
    const char *found = forwarded_find_scheme(&request);
    return found ? found : "none";
}

static void test_scheme(void **state)
{
    (void)state;
    assert_string_equal(scheme("https", NULL), "https");
    assert_string_equal(scheme("wss", NULL), "wss");
    assert_string_equal(scheme("\thttp ", NULL), "http");
    assert_string_equal(scheme("HTTPS", NULL), "none");
    assert_string_equal(scheme("https,http", NULL), "none");
    assert_string_equal(scheme("", NULL), "none");
    assert_string_equal(scheme("https", "ws"), "ws");
    assert_string_equal(scheme("https", "x"), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_address),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_nothing_usable),
        cmocka_unit_test(test_several_headers),
        cmocka_unit_test(test_scheme),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
