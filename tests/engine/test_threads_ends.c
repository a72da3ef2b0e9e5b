/* An endpoint's beginning and its end, with other threads that know of it. */
#include <string.h>

#include "host.h"
#include "server.h"
#include "suites.h"
#include "system.h"

/* ---- while it starts ---------------------------------------------------- */

typedef struct asker {
    server *server;
    np_atomic_u32 *over;
    np_thread thread;
} asker;

/* As a host may that made the endpoint known before it has started. */
static void ask_on(void *arg) {
    asker *x = arg;
    np_endpoint *ep = x->server->endpoint;
    np_stats stats;
    bool known = false;
    while (!np_load32(x->over)) {
        np_endpoint_stats(ep, &stats);
        CHECK(stats.connections_total == 0);
        np_endpoint_quit(ep);
        np_endpoint_interrupt(ep);
        intptr_t waitable = np_endpoint_waitable(ep);
        CHECK(waitable == -1 || x->server->config.marshalled);
        /* Nothing, and then the address: never a part of it. */
        const char *address = np_endpoint_address(ep);
        CHECK(!known || *address);
        known = *address;
        if (known)
            CHECK(strstr(address, x->server->name) != NULL);
        CHECK_EQUAL(np_endpoint_broadcast(ep, NULL, NULL, NULL, NULL), 0);
        np_endpoint_has_stopped(ep);
    }
}

static void an_endpoint_may_be_asked_while_it_starts(void) {
    enum { ASKERS = 4, ROUNDS = 10 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *s = server_new();
        np_host host = host_of(s);
        np_atomic_u32 over = {0};
        np_error error;
        asker askers[ASKERS];
        REQUIRE_EQUAL(np_endpoint_new(&s->config, &host, &s->endpoint, &error), NP_OK);
        for (unsigned i = 0; i < ASKERS; i++) {
            askers[i] = (asker){.server = s, .over = &over};
            REQUIRE_EQUAL(np_thread_start(&askers[i].thread, ask_on, &askers[i]), 0);
        }
        CHECK_EQUAL(np_endpoint_listen(s->endpoint, s->name, &error), NP_OK);
        np_store32(&over, 1);
        for (unsigned i = 0; i < ASKERS; i++)
            np_thread_join(askers[i].thread);
        server_end(s);
    }
}

/* ---- while it ends ------------------------------------------------------ */

typedef struct poster {
    peer *peer;
    np_atomic_u32 *over;
    np_thread thread;
} poster;

/* All of these ask the poller for something, which may be gone. */
static void post_on(void *arg) {
    poster *x = arg;
    while (!np_load32(x->over)) {
        np_connection_pause(x->peer->connection, true);
        np_connection_pause(x->peer->connection, false);
        peer_read(x->peer, NULL);
    }
}

static void stop_too(void *arg) {
    poster *x = arg;
    np_endpoint_stop_begin(x->peer->server->endpoint);
}

static void an_endpoint_may_end_while_threads_post(void) {
    enum { POSTERS = 4, ROUNDS = 15 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *s = server_new();
        s->config.continuous_read = false;
        server_start(s);
        client *c = server_client(s);
        np_atomic_u32 over = {0};
        poster posters[POSTERS];
        for (unsigned i = 0; i < POSTERS; i++) {
            posters[i] = (poster){.peer = server_peer(s, 0), .over = &over};
            REQUIRE_EQUAL(np_thread_start(&posters[i].thread, i ? post_on : stop_too, &posters[i]),
                          0);
        }
        client_close(c);        /* something else that wakes the poller */
        server_stop(s);
        np_store32(&over, 1);
        for (unsigned i = 0; i < POSTERS; i++)
            np_thread_join(posters[i].thread);
        server_release(s);
    }
}

const test threads_ends_tests[] = {
    {"an endpoint may be asked while it starts", an_endpoint_may_be_asked_while_it_starts,
     EVERY_MODE},
    {"an endpoint may end while threads post", an_endpoint_may_end_while_threads_post, EVERY_MODE},
    {0},
};
