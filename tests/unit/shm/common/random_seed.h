/* Seeds of random tests. */
#ifndef OPALD_TESTS_RANDOM_SEED_H
#define OPALD_TESTS_RANDOM_SEED_H

/* OPALD_TEST_SEED (a number, or "random"), else the usual one. It is printed, so that a failure can be
 * repeated. */
unsigned random_seed(unsigned usual);

#endif
