/*
 * libFuzzer: any bytes as a PROXY header. However they come in, byte by byte or at once, the answer is the
 * same: MORE before it is whole and never for PROXY_HEADER_MAX bytes, then one answer that later bytes do
 * not change; a header lies within what was given; and an address that it names reads back as itself.
 *   make build/fuzz/fuzz_proxy && build/fuzz/fuzz_proxy -max_total_time=30
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/net/proxy_header.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "fuzz_proxy: %s\n", #condition); \
            abort(); \
        } \
    } while (0)

static enum proxy_header_result parse(const uint8_t *bytes, size_t size, struct proxy_header *header)
{
    uint8_t *copy = malloc(size); /* of the exact size, so that an over-read is seen */
    if (size)
        memcpy(copy, bytes, size);
    enum proxy_header_result result = proxy_header_parse(copy, size, header);
    free(copy);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct proxy_header header, early;
    if (size > 2 * PROXY_HEADER_MAX)
        return 0;
    enum proxy_header_result result = parse(bytes, size, &header);
    REQUIRE(result != PROXY_HEADER_MORE || size < PROXY_HEADER_MAX);
    for (size_t cut = 0; cut < size; cut++) {
        enum proxy_header_result sooner = parse(bytes, cut, &early);
        if (sooner == PROXY_HEADER_MORE)
            continue;
        REQUIRE(sooner == result && early.length == header.length && early.has_source == header.has_source);
        REQUIRE(sooner != PROXY_HEADER_DONE || early.length == cut);
        break;
    }
    if (result == PROXY_HEADER_WRONG)
        REQUIRE(header.wrong && *header.wrong);
    if (result == PROXY_HEADER_DONE) {
        REQUIRE(header.length > 0 && header.length <= size && header.length <= PROXY_HEADER_MAX);
        if (header.has_source) {
            char text[NETWORK_ADDRESS_TEXT];
            struct network_address again;
            network_address_format(&header.source, text);
            REQUIRE(network_address_parse(&again, slice_from_string(text)));
            REQUIRE(memcmp(again.bytes, header.source.bytes, sizeof again.bytes) == 0);
        }
    }
    return 0;
}
