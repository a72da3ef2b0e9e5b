#include "suites.h"
#include "system.h"

int main(int argc, char **argv) {
    static const test *const tables[] = {
        frame_tests, outbox_tests, parts_tests, messages_tests, writes_tests, reads_tests,
        close_tests, stop_tests, run_tests, start_tests,
        system_tests, NULL,
    };
    return harness_main(tables, argc, argv);
}
