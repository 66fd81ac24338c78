/* The entry point of each fuzzer, which libFuzzer calls. */
#ifndef OPALD_TESTS_FUZZ_FUZZ_H
#define OPALD_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
