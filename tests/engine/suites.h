/* Every table of tests that runs on all systems. */
#ifndef SUITES_H
#define SUITES_H

#include "harness.h"

extern const test frame_tests[];
extern const test outbox_tests[];
extern const test parts_tests[];
extern const test messages_tests[];

#endif
