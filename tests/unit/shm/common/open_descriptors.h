/* How many descriptors this process has open: a test compares before and after. */
#ifndef OPALD_TESTS_OPEN_DESCRIPTORS_H
#define OPALD_TESTS_OPEN_DESCRIPTORS_H

unsigned open_descriptors(void);

#endif
