/* PROXY protocol headers, versions 1 and 2: good ones, cut ones, wrong ones (haproxy's
 * doc/proxy-protocol.txt, sections 2.1 and 2.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"
#include "worker/net/proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* The bytes are on the heap, of their exact size: an over-read is seen by the sanitizer. */
static enum proxy_header_result parse(const void *bytes, size_t length, struct proxy_header *header)
{
    uint8_t *copy = length ? memory_copy(bytes, length) : NULL;
    enum proxy_header_result result = proxy_header_parse(copy, length, header);
    free(copy);
    return result;
}

/* Good, however it is cut, and no matter what follows; returns "host port", or "none". */
static const char *told(const void *bytes, size_t length)
{
    static char out[80];
    char host[NETWORK_ADDRESS_TEXT];
    struct proxy_header header;
    char *followed = memory_allocate(length + 5);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(parse(bytes, cut, &header), PROXY_HEADER_MORE);
    memcpy(followed, bytes, length);
    memcpy(followed + length, "\x16\x03\x01\r\n", 5);
    for (size_t more = 0; more <= 5; more++) {
        assert_int_equal(parse(followed, length + more, &header), PROXY_HEADER_DONE);
        assert_int_equal(header.length, length);
    }
    free(followed);
    if (!header.has_source)
        return "none";
    network_address_format(&header.source, host);
    snprintf(out, sizeof out, "%s %u", host, header.source.port);
    return out;
}

static const char *wrong(const void *bytes, size_t length)
{
    struct proxy_header header;
    assert_int_equal(parse(bytes, length, &header), PROXY_HEADER_WRONG);
    return header.wrong;
}

#define TOLD(literal)  told(literal, sizeof(literal) - 1)
#define WRONG(literal) wrong(literal, sizeof(literal) - 1)

static void test_version_1(void **state)
{
    (void)state;
    assert_string_equal(TOLD("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"), "192.0.2.1 56324");
    assert_string_equal(
        TOLD("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255 65535");
    assert_string_equal(TOLD("PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"), "1.2.3.4 0");
    assert_string_equal(TOLD("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n"), "2001:db8::1 4711");
    assert_string_equal(TOLD("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 "
                             "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 65535");
    /* the balancer's own health check; what follows the word has to be ignored */
    assert_string_equal(TOLD("PROXY UNKNOWN\r\n"), "none");
    assert_string_equal(TOLD("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), "none");
}

static void test_wrong_version_1(void **state)
{
    char line[200];
    (void)state;
    assert_string_equal(WRONG("GET / HTTP/1.1\r\n"), "no header");
    assert_string_equal(WRONG("\x16\x03\x01"), "no header");
    assert_string_equal(WRONG("proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "no header");
    assert_string_equal(WRONG("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "neither TCP4 nor TCP6 nor UNKNOWN");
    assert_string_equal(WRONG("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"), "neither TCP4 nor TCP6 nor UNKNOWN");
    assert_string_equal(WRONG("PROXY \r\n"), "neither TCP4 nor TCP6 nor UNKNOWN");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"), "no carriage return before the line end");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"), "a port is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n"), "a port is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n"), "a port is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n"), "a port is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"), "more than two ports");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4:5 5.6.7.8 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP4 ::1 ::1 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP6 [::1]:5 ::1 1 2\r\n"), "an address is malformed");
    assert_string_equal(WRONG("PROXY TCP4 1.2.3.4\0 5.6.7.8 1 2\r\n"), "an address is malformed");
    /* 107 bytes at most, the line end among them */
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    memcpy(line + 105, "\r\n", 2);
    assert_string_equal(told(line, 107), "none");
    memcpy(line + 105, "x\r\n", 3);
    assert_string_equal(wrong(line, 108), "no line end");
    assert_string_equal(wrong(line, 107), "no line end");
}

#define V4 "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x67\x01\xbb"

static void test_version_2(void **state)
{
    (void)state;
    assert_string_equal(TOLD(SIGNATURE "\x21\x11\0\x0c" V4), "192.0.2.1 56324");
    assert_string_equal(TOLD(SIGNATURE "\x21\x21\0\x24" V6), "2001:db8::1 4711");
    /* extensions: a checksum is checked, the others are skipped */
    assert_string_equal(TOLD(SIGNATURE "\x21\x11\0\x13" V4 "\x03\0\x04\x20\xec\x95\x49"), "192.0.2.1 56324");
    assert_string_equal(
        TOLD(SIGNATURE "\x21\x21\0\x31" V6 "\x04\0\0\x03\0\x04\xe4\x7d\xe8\xa2\x01\0\0"), "2001:db8::1 4711");
    /* as haproxy 2.6 sends it with proxy-v2-options crc32c */
    assert_string_equal(
        TOLD(SIGNATURE "\x21\x11\0\x13\x7f\0\0\x01\x7f\0\0\x01\x82\xda\xb6\x17\x03\0\x04\x17\x50\xb4\x42"),
        "127.0.0.1 33498");
    assert_string_equal(TOLD(SIGNATURE "\x21\0\0\x07\x03\0\x04\x3e\xc9\x89\x4e"), "none");
    assert_string_equal(TOLD(SIGNATURE "\x20\0\0\x07\x03\0\x04\0\0\0\0"), "none"); /* LOCAL: ignored */
    assert_string_equal(TOLD(SIGNATURE "\x21\x21\0\x27" V6 "\x04\0\0"), "2001:db8::1 4711");
    /* LOCAL: the addresses do not count, and need not be there */
    assert_string_equal(TOLD(SIGNATURE "\x20\x11\0\x0c" V4), "none");
    assert_string_equal(TOLD(SIGNATURE "\x20\0\0\0"), "none");
    /* UNSPEC, UDP, a unix socket */
    assert_string_equal(TOLD(SIGNATURE "\x21\0\0\0"), "none");
    assert_string_equal(TOLD(SIGNATURE "\x21\x12\0\x0c" V4), "none");
    assert_string_equal(TOLD(SIGNATURE "\x21\x31\0\x02xy"), "none");
}

static void test_wrong_version_2(void **state)
{
    static uint8_t longest[PROXY_HEADER_MAX + 1] = SIGNATURE "\x21\x11\x03\xf0" V4;
    (void)state;
    assert_string_equal(WRONG(SIGNATURE "\x22\x11\0\x0c" V4), "a version or command that is not known");
    assert_string_equal(WRONG(SIGNATURE "\x11\x11\0\x0c" V4), "a version or command that is not known");
    assert_string_equal(WRONG(SIGNATURE "\x21\x11\0\x0b" V4), "too short for its addresses");
    assert_string_equal(WRONG(SIGNATURE "\x21\x21\0\x0c" V4), "too short for its addresses");
    assert_string_equal(WRONG(SIGNATURE "\x21\x11\xff\xff"), "too long");
    /* a checksum that is another one's, or not of four bytes; a bit that fell over in an address, in another
     * extension */
    assert_string_equal(
        WRONG(SIGNATURE "\x21\x11\0\x13" V4 "\x03\0\x04\x20\xec\x95\x48"), "its checksum is wrong");
    assert_string_equal(
        WRONG(SIGNATURE "\x21\x11\0\x13" V4 "\x03\0\x04\x49\x95\xec\x20"), "its checksum is wrong");
    assert_string_equal(WRONG(SIGNATURE "\x21\x11\0\x0f" V4 "\x03\0\0"), "its checksum is wrong");
    assert_string_equal(
        WRONG(SIGNATURE
            "\x21\x11\0\x13\xc0\x00\x02\x03\xc6\x33\x64\x02\xdc\x04\x01\xbb\x03\0\x04\x20\xec\x95\x49"),
        "its checksum is wrong");
    assert_string_equal(WRONG(SIGNATURE "\x21\x21\0\x31" V6 "\x04\0\0\x03\0\x04\xe4\x7d\xe8\xa2\x02\0\0"),
        "its checksum is wrong");
    assert_string_equal(WRONG(SIGNATURE "\x21\0\0\x07\x03\0\x04\x3e\xc9\x89\x4f"), "its checksum is wrong");
    assert_string_equal(WRONG(SIGNATURE "\x21\x11\0\x0e" V4 "\x04\0"), "an extension is malformed");
    assert_string_equal(WRONG(SIGNATURE "\x21\x11\0\x10" V4 "\x04\0\x02x"), "an extension is malformed");
    assert_string_equal(WRONG("\r\n\r\n\0\r\nQUIT\r"), "no header");
    /* 16 + 0x3f0 is the limit; it is refused at once, before the rest is waited for */
    assert_string_equal(told(longest, PROXY_HEADER_MAX), "192.0.2.1 56324");
    longest[15]++;
    assert_string_equal(wrong(longest, 16), "too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_wrong_version_1),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_wrong_version_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
