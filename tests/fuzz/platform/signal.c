#include "fake.h"

np_code np_signal_open(np_signal *s, np_error *error) {
    if (script_rarely(64)) {
        error->os = 24;
        return NP_E_SYSTEM;
    }
    *s = (np_signal){.open = true};
    world.signals++;
    return NP_OK;
}

void np_signal_close(np_signal *s) {
    FUZZ_CHECK(s->open);
    s->open = false;
    world.signals--;
}

void np_signal_set(np_signal *s) {
    FUZZ_CHECK(s->open);
    s->set = true;
}

void np_signal_clear(np_signal *s) {
    FUZZ_CHECK(s->open);
    s->set = false;
}

/* Whoever waits lets the others go on. */
int np_signal_wait(np_signal *s, int64_t timeout_ns) {
    FUZZ_CHECK(s->open && world.locks == 0);
    if (!s->set && timeout_ns)
        world.blocked();
    if (!s->set && timeout_ns > 0)
        world.now += timeout_ns;
    return s->set;
}

intptr_t np_signal_waitable(const np_signal *s) { return s->set; }
