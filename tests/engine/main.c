#include "suites.h"
#include "system.h"

int main(int argc, char **argv) {
    static const test *const tables[] = {
        frame_tests,        outbox_tests,      parts_tests,         start_tests,
        messages_tests,     writes_tests,      limits_tests,        broadcast_tests,
        reads_tests,        close_tests,       run_tests,           dispatch_tests,
        drive_tests,        stop_tests,        dial_contract_tests, client_tests,
        dial_tests,         backoff_tests,     reconnect_tests,     channel_tests,
        handshake_tests,    greeting_tests,    lobby_tests,         memory_tests,
        memory_calls_tests, threads_mix_tests, threads_ends_tests,  NULL,
    };
    const test *const *const all[] = {tables, system_tables, NULL};
    return harness_main(all, argc, argv);
}
