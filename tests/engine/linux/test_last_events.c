/* A stop that meets another guest at the last events of a marshalled endpoint.
 * The test is that guest, step by step; only on Linux can it see that the stop
 * waits for a lock. */
#include "internal.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

static np_atomic_u32 returned;

static void stop(void *arg) {
    server *s = arg;
    CHECK(np_endpoint_stop_wait(s->endpoint, server_token(s), -1));
    np_store32(&returned, 1);
}

static void unclaim(np_endpoint *ep) {
    np_swap32(&ep->dispatching, 0);
    np_mutex_lock(&ep->lock);
    np_cond_broadcast(&ep->ended);
    np_mutex_unlock(&ep->lock);
}

static size_t take(np_backlog *b) {
    size_t count = b->count;
    b->count = 0;
    np_store32(&b->any, 0);
    return count;
}

/* Whether the two met: a stop that comes late finds nobody, and is the guest itself. */
static bool meet(void) {
    server *s = server_new();
    np_thread stopper;
    s->no_guest = true;
    server_start(s);
    np_endpoint *ep = s->endpoint;
    np_backlog *b = &ep->backlog;
    client *c = server_client(s);
    UNTIL(np_delivery_backlog_count(ep));
    np_store32(&returned, 0);
    /* A guest is inside while the worker comes to its end. */
    REQUIRE(!np_swap32(&ep->dispatching, 1));
    np_endpoint_stop_begin(ep);
    REQUIRE_EQUAL(np_thread_start(&stopper, stop, s), 0);
    UNTIL(np_endpoint_has_stopped(ep));
    /* It leaves.  The stop looks for events that are left, and while it does the
     * guest comes back and takes them. */
    np_mutex_lock(&b->lock);
    unclaim(ep);
    UNTIL(np_load32(&b->lock.state) == 2);
    bool met = !np_swap32(&ep->dispatching, 1);
    size_t count = met ? take(b) : 0;
    CHECK(!met || count > 0);
    np_mutex_unlock(&b->lock);
    if (met) {
        system_sleep(50);
        CHECK(!np_load32(&returned));
        /* They are delivered by the stop after all. */
        np_mutex_lock(&b->lock);
        b->count = count;
        np_store32(&b->any, 1);
        np_mutex_unlock(&b->lock);
        unclaim(ep);
    }
    np_thread_join(stopper);
    CHECK(np_load32(&returned));
    server_end(s);
    client_close(c);
    return met;
}

static void a_stop_waits_for_the_guest_that_took_the_last_events(void) {
    unsigned attempts = 1;
    while (!meet() && attempts < 100)
        attempts++;
    CHECK(attempts < 100);
}

const test last_events_tests[] = {
    {"a stop waits for the guest that took the last events",
     a_stop_waits_for_the_guest_that_took_the_last_events, MODE_DISPATCH},
    {0},
};
