#ifndef LINUX_SUITES_H
#define LINUX_SUITES_H

#include "harness.h"

extern const test stream_tests[];
extern const test listen_tests[];
extern const test descriptors_tests[];
extern const test idle_tests[];
extern const test fork_tests[];
extern const test wire_tests[];
extern const test client_socket_tests[];
extern const test client_parts_tests[];
extern const test message_time_tests[];
extern const test last_events_tests[];
extern const test swaps_tests[];

#endif
