/* An endpoint's beginning and its end, with other threads that know of it. */
#include <string.h>

#include "crew.h"
#include "host.h"
#include "server.h"
#include "suites.h"
#include "system.h"

/* ---- while it starts ---------------------------------------------------- */

/* As a host may that made the endpoint known before it has started. */
static void ask_on(crew *w, unsigned number) {
    (void)number;
    server *s = w->with;
    np_endpoint *ep = s->endpoint;
    np_stats stats;
    bool known = false;
    while (crew_goes_on(w)) {
        np_endpoint_stats(ep, &stats);
        CHECK(stats.connections_total == 0);
        np_endpoint_quit(ep);
        np_endpoint_interrupt(ep);
        intptr_t waitable = np_endpoint_waitable(ep);
        CHECK(waitable == -1 || s->config.marshalled);
        /* Nothing, and then the address: never a part of it. */
        const char *address = np_endpoint_address(ep);
        CHECK(!known || *address);
        known = *address;
        if (known)
            CHECK(strstr(address, s->name) != NULL);
        CHECK_EQUAL(np_endpoint_broadcast(ep, NULL, NULL, NULL, NULL), 0);
        np_endpoint_has_stopped(ep);
    }
}

static void an_endpoint_may_be_asked_while_it_starts(void) {
    enum { ASKERS = 4, ROUNDS = 10 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *s = server_new();
        np_host host = host_of(s);
        crew askers;
        np_error error;
        REQUIRE_EQUAL(np_endpoint_new(&s->config, &host, &s->endpoint, &error), NP_OK);
        crew_start(&askers, ASKERS, ask_on, s);
        CHECK_EQUAL(np_endpoint_listen(s->endpoint, s->name, &error), NP_OK);
        crew_end(&askers);
        server_end(s);
    }
}

/* ---- while it ends ------------------------------------------------------ */

/* One stops the endpoint.  What the others do asks the poller for something,
 * which may be gone. */
static void post_on(crew *w, unsigned number) {
    peer *p = w->with;
    if (!number)
        np_endpoint_stop_begin(p->server->endpoint);
    while (number && crew_goes_on(w)) {
        np_connection_pause(p->connection, true);
        np_connection_pause(p->connection, false);
        peer_read(p, NULL);
    }
}

static void an_endpoint_may_end_while_threads_post(void) {
    enum { POSTERS = 4, ROUNDS = 15 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *s = server_new();
        s->config.continuous_read = false;
        server_start(s);
        client *c = server_client(s);
        crew posters;
        crew_start(&posters, POSTERS, post_on, server_peer(s, 0));
        client_close(c);        /* something else that wakes the poller */
        server_stop(s);
        crew_end(&posters);
        server_release(s);
    }
}

const test threads_ends_tests[] = {
    {"an endpoint may be asked while it starts", an_endpoint_may_be_asked_while_it_starts,
     EVERY_MODE},
    {"an endpoint may end while threads post", an_endpoint_may_end_while_threads_post, EVERY_MODE},
    {0},
};
