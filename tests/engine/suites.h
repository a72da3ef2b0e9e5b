/* Every table of tests that runs on all systems. */
#ifndef SUITES_H
#define SUITES_H

#include "harness.h"

extern const test frame_tests[];
extern const test outbox_tests[];
extern const test parts_tests[];
extern const test messages_tests[];
extern const test writes_tests[];
extern const test limits_tests[];
extern const test broadcast_tests[];
extern const test reads_tests[];
extern const test close_tests[];
extern const test stop_tests[];
extern const test run_tests[];
extern const test dispatch_tests[];
extern const test drive_tests[];
extern const test start_tests[];
extern const test channel_tests[];
extern const test client_tests[];
extern const test dial_tests[];
extern const test dial_contract_tests[];
extern const test backoff_tests[];
extern const test reconnect_tests[];
extern const test handshake_tests[];
extern const test greeting_tests[];
extern const test lobby_tests[];
extern const test memory_tests[];
extern const test memory_calls_tests[];
extern const test threads_mix_tests[];
extern const test threads_ends_tests[];

#endif
