#include "fake.h"

void np_dial_init(np_dial *dial, void *owner) {
    *dial = (np_dial){.operation = {.kind = NP_OP_CONNECT, .owner = owner}};
}

void np_dial_start(np_dial *dial, np_port *port, const np_config *config, const char *address,
                   int64_t wait_ns) {
    (void)config;
    FUZZ_CHECK(world.locks > 0 && !world.outside);
    FUZZ_CHECK(address[0] && wait_ns >= 0);
    FUZZ_CHECK(!dial->link.open);
    dial->operation.dial = dial;
    fake_start(&dial->operation, &port->pending);
}

void np_dial_cancel(np_dial *dial) {
    FUZZ_CHECK(!world.outside);
    FUZZ_CHECK(dial->operation.outstanding);
    dial->operation.canceled = true;
}

void np_dial_abandon(np_dial *dial) { (void)dial; }
