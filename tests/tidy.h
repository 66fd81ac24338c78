/* Read by clang-tidy before each source file (tests/tidy). The analyzer does not see that TAILQ_REMOVE
 * changes the first element, and reports each `while ((x = TAILQ_FIRST(&list)))` as a use after free: here
 * it knows nothing about a first element. */
#ifndef OPALD_TESTS_TIDY_H
#define OPALD_TESTS_TIDY_H

#include <sys/queue.h>

void *tidy_some_element(void *element);

#undef TAILQ_FIRST
#define TAILQ_FIRST(head) ((__typeof__((head)->tqh_first))tidy_some_element((head)->tqh_first))

#endif
