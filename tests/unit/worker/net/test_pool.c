/* Objects of one size: apart from each other, aligned, zeroed, and gone from memory when they were given
 * back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "worker/net/pool.h"

#define COUNT 20000

static size_t resident_bytes(void)
{
    size_t size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &size, &resident), 2);
    fclose(file);
    return resident * 4096;
}

static void check_size(size_t size, size_t alignment)
{
    struct pool *pool = pool_open(size, alignment);
    uint8_t **objects = calloc(COUNT, sizeof(*objects));
    assert_non_null(objects);
    uint32_t turn = 1;
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            if (objects[i])
                continue;
            objects[i] = pool_allocate(pool);
            assert_int_equal((uintptr_t)objects[i] % alignment, 0);
            for (size_t byte = 0; byte < size; byte++)
                assert_int_equal(objects[i][byte], 0);
            memset(objects[i], (int)(i % 255 + 1), size);
        }
        for (size_t i = 0; i < COUNT; i++) { /* nobody wrote into another's */
            assert_int_equal(objects[i][0], i % 255 + 1);
            assert_int_equal(objects[i][size - 1], i % 255 + 1);
        }
        for (size_t i = 0; i < COUNT; i++) { /* some two thirds go, in no order */
            turn = turn * 1664525u + 1013904223u;
            if ((turn >> 16) % 3 == 0)
                continue;
            pool_free(pool, objects[i]);
            objects[i] = NULL;
        }
    }
    for (size_t i = 0; i < COUNT; i++)
        if (objects[i])
            pool_free(pool, objects[i]);
    pool_close(pool);
    free(objects);
}

static void test_objects(void **state)
{
    (void)state;
    check_size(56, 8);
    check_size(256, 64);
    check_size(1000, 64);
    check_size(4096, 8);
}

static void test_memory_returns(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* every object is a malloc of its own in the first; the second has shadow memory for each page */
#endif
    struct pool *pool = pool_open(256, 64);
    void **objects = calloc(100000, sizeof(*objects));
    assert_non_null(objects);
    memset(objects, 1, 100000 * sizeof(*objects));
    size_t before = resident_bytes();
    for (size_t i = 0; i < 100000; i++)
        objects[i] = pool_allocate(pool);
    size_t full = resident_bytes() - before;
    assert_in_range(full, 25000000, 27000000); /* 256 bytes each, and little more */
    for (size_t i = 1; i < 100000; i++)
        pool_free(pool, objects[i]);
    size_t after = resident_bytes();
    assert_in_range(after > before ? after - before : 0, 0, 1 << 20);
    pool_free(pool, objects[0]);
    pool_close(pool);
    free(objects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_memory_returns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
