#include "sync.h"

#include <errno.h>

#include "fake.h"

void np_mutex_destroy(np_mutex *m) { FUZZ_CHECK(!m->taken); }

bool np_mutex_trylock(np_mutex *m) {
    if (m->taken)
        return false;
    m->taken = true;
    world.locks++;
    return true;
}

void np_mutex_lock(np_mutex *m) { FUZZ_CHECK(np_mutex_trylock(m)); }

void np_mutex_unlock(np_mutex *m) {
    FUZZ_CHECK(m->taken);
    m->taken = false;
    world.locks--;
    if (!world.locks && world.inject && !--world.inject)
        world.interrupts();
}

bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns) {
    (void)c;
    np_mutex_unlock(m);
    FUZZ_CHECK(world.locks == 0);
    world.blocked();
    np_mutex_lock(m);
    return timeout_ns < 0 || timeout_ns > 0;
}

int np_thread_start(np_thread *t, np_thread_main main, void *arg) {
    (void)main;
    *t = arg;
    return script_rarely(32) ? EAGAIN : 0;
}

void np_thread_join(np_thread t) { world.joined(t); }

int64_t np_now(void) { return world.now; }
