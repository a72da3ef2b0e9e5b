/* The end of an endpoint, with other threads that know of it. */
#include "server.h"
#include "suites.h"

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
    {"an endpoint may end while threads post", an_endpoint_may_end_while_threads_post, EVERY_MODE},
    {0},
};
