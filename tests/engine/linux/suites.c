/* The tests that only Linux can run, one table of several files. */
#include "linux_suites.h"

#include "system.h"

const test *const system_tables[] = {
    stream_tests,       listen_tests,      descriptors_tests,   idle_tests,
    fork_tests,         wire_tests,        client_socket_tests, client_parts_tests,
    message_time_tests, last_events_tests, swaps_tests,         NULL,
};
