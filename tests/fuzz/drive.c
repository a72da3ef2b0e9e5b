#include "drive.h"

#include "allocations.h"
#include "host.h"

enum { STEPS_MAX = 500, PATIENCE = 2000 };

#define SECOND INT64_C(1000000000)

static host *const h = &the_host;
static unsigned waited;             /* how often somebody waited for somebody */

/* ---- threads --------------------------------------------------------------- */

static void poll(np_worker *w, int64_t timeout_ns) {
    np_round round = {0};
    if (np_load32(&w->drained))
        return;
    np_worker_poll(w, h, timeout_ns, h->endpoint->config.marshalled, &round);
    FUZZ_CHECK(world.locks == 0 && !h->inside);
}

/* What other threads do meanwhile.  They don't have the host's lock if this
 * one has it. */
static void another_thread_acts(void) {
    np_batch *batch = np_current_batch;
    unsigned inside = h->inside;
    np_current_batch = NULL;
    h->busy = inside;
    h->inside = 0;
    world.outside++;
    host_acts(NULL);
    world.outside--;
    h->inside = inside;
    h->busy = false;
    np_current_batch = batch;
}

static void interrupts(void) {
    if (h->started && !world.quiet)
        another_thread_acts();
}

/* A poller that was about to sleep when something was posted must have been
 * woken. */
static void others(np_port *port, int64_t timeout_ns) {
    const np_worker *w = NP_ENTRY(port, np_worker, port);
    bool asleep = timeout_ns && np_load32(&w->asleep);
    if (!h->started || world.quiet)
        return;
    for (unsigned n = script_below(4); n > 1; n--)
        another_thread_acts();
    bool posted = np_load32(&w->any_posted) || (np_load32(&w->stop_posted) && !w->stopping);
    FUZZ_CHECK(!posted || !asleep || port->woken);
}

/* The threads of workers run for a while.  Those of a marshalled endpoint
 * stand back for a guest. */
static void blocked(void) {
    np_endpoint *ep = h->endpoint;
    FUZZ_CHECK(++waited < PATIENCE);
    if (ep->starting) {
        ep->joined = ep->worker_count;
        np_store32(&ep->ready, 1);
        return;
    }
    for (unsigned i = 0; i < ep->worker_count && !np_load32(&ep->lease.guests); i++)
        poll(&ep->workers[i], 10 * SECOND);
}

/* The thread runs to its end. */
static void joined(np_thread thread) {
    np_worker *w = thread;
    for (unsigned n = 0; !np_load32(&w->drained); n++) {
        FUZZ_CHECK(n < PATIENCE);
        poll(w, 10 * SECOND);
    }
    host_functions().thread_end(h, h);
    np_endpoint_release(w->endpoint);
}

/* ---- a run ----------------------------------------------------------------- */

static int64_t time_now(void *user) {
    (void)user;
    return world.now;
}

static uint32_t time_random(void *user) {
    (void)user;
    return script_byte() * 0x01010101u;
}

static const np_time_source time_source = {time_now, time_random, NULL};

static void configure(np_config *config) {
    static const size_t reads[] = {131072, 4096, 64, 1};
    static const uint64_t messages[] = {3 << 20, 3 << 20, 70000, 100, 0};
    static const uint64_t marks[] = {1 << 20, 0, 1000, 100};
    static const uint64_t limits[] = {64 << 20, 100000, 1000};
    static const int64_t times[] = {60 * SECOND, 0, SECOND, 2};
    np_config_init(config);
    unsigned flags = script_byte();
    config->marshalled = flags & 1;
    config->byte_mode = (flags & 6) == 6;
    config->continuous_read = (flags & 24) != 24;
    config->want_sent = flags & 32;
    config->reconnect = flags & 64;
    config->threads = 1 + script_below(3);
    config->message_buffer_size = reads[script_below(4)];
    config->max_instances = script_below(4);
    config->listeners = 1 + script_below(3);
    config->max_message_size = messages[script_below(5)];
    config->write_high_water = marks[script_below(4)];
    config->max_pending_bytes = limits[script_below(3)];
    config->message_timeout_ns = times[script_below(4)];
    config->time = &time_source;
}

static bool start(bool manager) {
    np_host functions = host_functions();
    np_error error = {0};
    np_code code = np_endpoint_new(&world.config, &functions, &h->endpoint, &error);
    if (code != NP_OK)
        return false;
    code = manager ? np_endpoint_open(h->endpoint, &error)
                   : np_endpoint_listen(h->endpoint, "name", &error);
    h->started = code == NP_OK;
    if (h->started)
        return true;
    FUZZ_CHECK(!np_endpoint_is_running(h->endpoint));
    FUZZ_CHECK(np_endpoint_stop_wait(h->endpoint, h, -1));
    np_endpoint_release(h->endpoint);
    FUZZ_CHECK(h->released == 1);
    return false;
}

static void step(void) {
    static const int64_t timeouts[] = {0, -1, 1000000, SECOND};
    np_endpoint *ep = h->endpoint;
    bool marshalled = ep->config.marshalled;
    switch (script_below(8)) {
    case 0:
    case 1:
    case 2: poll(&ep->workers[script_below(ep->worker_count)], timeouts[script_below(4)]); break;
    case 3: np_endpoint_dispatch(ep, h, marshalled ? script_below(2) * INT64_C(1000000) : 0); break;
    case 4: np_endpoint_run(ep, h, script_below(3) * INT64_C(1000000)); break;
    case 5:
    case 6: another_thread_acts(); break;
    default: world.now += (1 + script_byte()) * (script_below(2) ? SECOND / 10 : SECOND / 1000);
    }
    host_check_pending();
}

/* Every peer leaves, and nothing fails: so every connection of a server ends,
 * where the host reads what comes. */
static void leave_all(void) {
    np_endpoint *ep = h->endpoint;
    unsigned rounds = h->manager ? 20 : 100;
    for (unsigned n = 0; n < rounds && (h->manager || ep->connection_count); n++) {
        if (ep->config.marshalled)
            np_endpoint_dispatch(ep, h, SECOND);
        else
            for (unsigned i = 0; i < ep->worker_count; i++)
                poll(&ep->workers[i], SECOND);
        host_check_pending();
    }
    if (!h->manager && h->continuous)
        FUZZ_CHECK(ep->connection_count == 0);
}

static void end(void) {
    np_endpoint *ep = h->endpoint;
    np_stats stats;
    world.quiet = true;
    world.inject = 0;
    allocations_fail(0, 0);
    waited = 0;
    if (!h->stopped)
        leave_all();
    h->stopped = true;
    for (unsigned i = 0; i < h->conn_count; i++)
        h->conns[i].closed = true;
    np_endpoint_stop_begin(ep);
    FUZZ_CHECK(np_endpoint_stop_wait(ep, h, -1));
    FUZZ_CHECK(np_endpoint_has_stopped(ep));
    FUZZ_CHECK(h->ready == 1);
    np_endpoint_stats(ep, &stats);
    host_check_end(&stats);
    np_endpoint_release(ep);
    FUZZ_CHECK(h->released == 1);
}

void drive(const uint8_t *data, size_t size, bool manager) {
    script_begin(data, size);
    world_begin();
    allocations_fail(0, 0);
    world.others = others;
    world.interrupts = interrupts;
    world.blocked = blocked;
    world.joined = joined;
    configure(&world.config);
    *h = (host){.manager = manager,
                .continuous = world.config.continuous_read,
                .want_sent = world.config.want_sent,
                .failed_before = allocations_failed()};
    waited = 0;
    if (start(manager)) {
        for (unsigned n = 0; n < STEPS_MAX && !script_ended(); n++)
            step();
        end();
    }
    FUZZ_CHECK(h->made == h->discarded);
    world_end();
}
