/* Addresses and lists of networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "shm/common/memory.h"
#include "shm/common/network.h"

static bool parse(const char *text, struct network_address *address)
{
    size_t length = strlen(text);
    char *copy = length ? memory_copy(text, length) : NULL; /* of its exact size, no NUL */
    bool good = network_address_parse(address, (struct slice){copy, length});
    free(copy);
    return good;
}

static const char *told(const char *text)
{
    static char out[80];
    char host[NETWORK_ADDRESS_TEXT];
    struct network_address address;
    if (!parse(text, &address)) {
        static const struct network_address none;
        assert_memory_equal(&address, &none, sizeof none);
        return "no";
    }
    network_address_format(&address, host);
    snprintf(out, sizeof out, "%s %u", host, address.port);
    return out;
}

static void test_addresses(void **state)
{
    (void)state;
    assert_string_equal(told("10.1.2.3"), "10.1.2.3 0");
    assert_string_equal(told("10.1.2.3:65535"), "10.1.2.3 65535");
    assert_string_equal(told("fe80::1"), "fe80::1 0");
    assert_string_equal(told("[fe80::1]"), "fe80::1 0");
    assert_string_equal(told("[fe80::1]:80"), "fe80::1 80");
    assert_string_equal(told("::"), ":: 0");
    assert_string_equal(told("2001:DB8:0:0::1"), "2001:db8::1 0");
    assert_string_equal(told("::ffff:10.1.2.3"), "10.1.2.3 0"); /* one address, two ways to write it */
    static const char *const wrong[] = {"", ":", "[", "]", "[]", "[]:1", "[1.2.3.4]:1", "1.2.3", "1.2.3.256",
        "01.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:1x", "1.2.3.4:000001", " 1.2.3.4",
        "1.2.3.4 ", "[::1", "[::1]1", "[::1]:", "[::1]:x", "fe80::1%eth0", "fe80::1::", "localhost",
        "1:2:3:4:5:6:7:8:9", "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (strcmp(told(wrong[i]), "no") != 0)
            fail_msg("'%s' was taken for %s", wrong[i], told(wrong[i]));
}

static void test_sockets(void **state)
{
    struct sockaddr_storage storage = {0};
    struct network_address address, other;
    (void)state;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "10.1.2.3", &v4.sin_addr);
    memcpy(&storage, &v4, sizeof v4);
    assert_true(network_address_from_socket(&address, &storage));
    assert_true(parse("10.1.2.3:80", &other));
    assert_memory_equal(&address, &other, sizeof address);
    /* an IPv4 client of a listener for both comes like this */
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    inet_pton(AF_INET6, "::ffff:10.1.2.3", &v6.sin6_addr);
    memcpy(&storage, &v6, sizeof v6);
    assert_true(network_address_from_socket(&address, &storage));
    assert_memory_equal(&address, &other, sizeof address);
    storage.ss_family = AF_UNIX;
    assert_false(network_address_from_socket(&address, &storage));
    assert_int_equal(address.port, 0);
}

static bool has(const char *network, const char *text)
{
    char word[64];
    char *item = word;
    struct network_list list;
    struct network_address address;
    struct error err = {0};
    snprintf(word, sizeof word, "%s", network);
    assert_int_equal(network_list_parse(&list, &item, 1, &err), 0);
    assert_true(parse(text, &address));
    bool found = network_list_has(&list, &address);
    network_list_free(&list);
    return found;
}

static void test_networks(void **state)
{
    (void)state;
    assert_true(has("10.0.0.0/8", "10.255.255.255"));
    assert_false(has("10.0.0.0/8", "11.0.0.0"));
    assert_true(has("10.9.9.9/8", "10.1.1.1")); /* bits behind the prefix do not matter */
    assert_true(has("192.168.0.128/25", "192.168.0.128"));
    assert_false(has("192.168.0.128/25", "192.168.0.127"));
    assert_true(has("10.1.2.3", "10.1.2.3:99"));
    assert_false(has("10.1.2.3", "10.1.2.2"));
    assert_true(has("10.1.2.3/32", "::ffff:10.1.2.3"));
    assert_true(has("0.0.0.0/0", "8.8.8.8"));
    assert_false(has("0.0.0.0/0", "2001:db8::1"));
    assert_true(has("::/0", "2001:db8::1"));
    assert_true(has("::ffff:0:0/96", "8.8.8.8"));
    assert_true(has("fd00::/9", "fd7f::1"));
    assert_false(has("fd00::/9", "fd80::1"));
    assert_true(has("::1/128", "::1"));
    assert_true(has("*", "8.8.8.8"));
    /* nobody's address is in no network but in "*" */
    assert_false(has("::/0", "::"));
    assert_true(has("*", "::"));
}

static void test_lists(void **state)
{
    char *items[] = {"10.0.0.0/8", "fd00::/8"};
    struct network_list list;
    struct network_address address;
    struct error err = {0};
    (void)state;
    assert_int_equal(network_list_parse(&list, items, 2, &err), 0);
    assert_true(parse("fd12::1", &address) && network_list_has(&list, &address));
    assert_true(parse("10.1.1.1", &address) && network_list_has(&list, &address));
    assert_true(parse("12.1.1.1", &address) && !network_list_has(&list, &address));
    network_list_free(&list);
    network_list_free(&list);
    assert_int_equal(network_list_parse(&list, NULL, 0, &err), 0);
    assert_false(network_list_has(&list, &address));
    network_list_free(&list);
    static const char *const wrong[] = {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "fd00::/129",
        "10.0.0.0/8/8", "10.0.0.0/-1", "10.0.0.0/ 8", "10.0.0.0/000008", "10.0.0.0:80", "example.org", "**",
        "10.0.0/8"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char word[64];
        char *pair[] = {"10.0.0.0/8", word};
        snprintf(word, sizeof word, "%s", wrong[i]);
        err = (struct error){0};
        if (network_list_parse(&list, pair, 2, &err) == 0)
            fail_msg("'%s' was taken for a network", word);
        assert_non_null(strstr(err.text, word));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
