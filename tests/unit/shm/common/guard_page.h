/* Memory that ends at a page which may not be touched: reading one byte too many crashes the test. */
#ifndef OPALD_TESTS_GUARD_PAGE_H
#define OPALD_TESTS_GUARD_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct guarded {
    void *mapping;
    size_t size;
    /* `length` bytes right before the forbidden page */
    uint8_t *bytes;
};

struct guarded guarded_copy(const void *bytes, size_t length);

void guarded_free(struct guarded *guarded);

#endif
