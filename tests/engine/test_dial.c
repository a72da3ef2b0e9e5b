/* Waiting for a server: that is not there, has no room, or comes late; and the
 * end of the wait. */
#include <stdlib.h>
#include <string.h>

#include "listener.h"
#include "server.h"
#include "suites.h"
#include "system.h"

#define MS INT64_C(1000000)

enum { PATIENCE_MS = 30000 };   /* what waits as long was to end sooner */

/* A server that is not the engine's, with room for one client. */
static listener *listen_somewhere(char name[64]) {
    char address[NP_ADDRESS_MAX];
    np_error error = {0};
    system_name(name, 64);
    REQUIRE_EQUAL(np_address(name, address, sizeof address, &error), NP_OK);
    listener *l = listener_open(address);
    REQUIRE(l != NULL);
    return l;
}

/* Connects until the server has no more room. */
static void fill(server *m, const char *name) {
    for (unsigned i = 0; i < 10; i++) {
        peer *p = server_dial(m, name, 0);
        UNTIL(np_load32(&p->connected) || np_load32(&p->ended));
        if (!np_load32(&p->ended))
            continue;
        peer_expect_trace(p, "EX");
        CHECK_EQUAL(peer_error(p).code, NP_E_BUSY);
        CHECK_EQUAL(peer_error(p).limit, 0);
        return;
    }
    CHECK(false);
}

/* ---- failures ---------------------------------------------------------- */

static void a_name_that_nobody_serves_is_an_error_once(void) {
    server *m = manager_start();
    char name[64];
    system_name(name, sizeof name);
    peer *p = server_dial(m, name, 0);
    peer_expect_trace(p, "EX");
    np_error error = peer_error(p);
    CHECK_EQUAL(error.code, NP_E_NOT_FOUND);
    CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
    CHECK(!np_connection_is_open(p->connection) && !np_connection_is_opening(p->connection));
    server_end(m);
}

static void the_wait_for_a_server_has_a_limit(void) {
    server *m = manager_start();
    char name[64];
    system_name(name, sizeof name);
    int64_t begin = np_now();
    peer *p = server_dial(m, name, 120);
    peer_expect_trace(p, "EX");
    CHECK(np_now() - begin >= 120000000);
    CHECK_EQUAL(peer_error(p).code, NP_E_NOT_FOUND);
    CHECK_EQUAL(peer_error(p).limit, 120);
    server_end(m);
}

static void the_wait_for_a_free_instance_has_a_limit(void) {
    server *m = manager_start();
    char name[64];
    listener *l = listen_somewhere(name);
    fill(m, name);
    int64_t begin = np_now();
    peer *p = server_dial(m, name, 250);
    peer_expect_trace(p, "EX");
    CHECK(np_now() - begin >= 250000000);
    CHECK_EQUAL(peer_error(p).code, NP_E_BUSY);
    CHECK_EQUAL(peer_error(p).limit, 250);
    server_end(m);
    listener_close(l);
}

static void names_that_cannot_be_are_refused_at_once(void) {
    server *m = manager_start();
    char name[400];
    np_error error;
    CHECK(!server_try_dial(m, "", 0, &error));
    CHECK_EQUAL(error.code, NP_E_NAME_EMPTY);
    CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    CHECK(!server_try_dial(m, name, 0, &error));
    CHECK_EQUAL(error.code, NP_E_NAME_LONG);
    server_end(m);
}

static void an_endpoint_that_stops_connects_no_more(void) {
    server *m = manager_start();
    np_error error;
    np_endpoint_stop_begin(m->endpoint);
    CHECK(!server_try_dial(m, m->name, 0, &error));
    CHECK_EQUAL(error.code, NP_E_STATE);
    server_end(m);
}

/* ---- patience ---------------------------------------------------------- */

static void a_server_that_comes_late_is_waited_for(void) {
    server *m = manager_start(), *s = server_new();
    s->on_event = server_echo;
    peer *limited = server_dial(m, s->name, 60000);
    peer *unlimited = server_dial(m, s->name, -1);
    system_sleep(30);
    CHECK(np_connection_is_opening(limited->connection));
    server_start(s);
    UNTIL(np_load32(&limited->connected) && np_load32(&unlimited->connected));
    CHECK_EQUAL(np_load64(&limited->errors), 0);
    server_end(m);
    server_end(s);
}

static void a_place_that_becomes_free_is_waited_for(void) {
    server *m = manager_start(), *s = server_new();
    s->on_event = server_echo;
    s->config.max_instances = 1;
    server_start(s);
    peer *first = server_dial(m, s->name, 5000);
    UNTIL(np_load32(&first->connected));
    server_peer(s, 0);
    peer *second = server_dial(m, s->name, 60000);
    system_sleep(30);
    peer_close(first);
    UNTIL(np_load32(&second->connected));
    CHECK_EQUAL(peer_write(second, "hello", 5, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&second->messages), 1);
    server_end(m);
    server_end(s);
}

static void connecting_never_waits_for_a_server(void) {
    enum { DIALS = 100 };
    server *m = manager_start();
    char name[64];
    listener *l = listen_somewhere(name);
    int64_t begin = np_now();
    for (unsigned i = 0; i < DIALS; i++)
        server_dial(m, name, PATIENCE_MS);
    CHECK(np_now() - begin < PATIENCE_MS * MS);
    /* Nor does anything else of the endpoint: another server is reached meanwhile. */
    server *s = server_new();
    server_start(s);
    peer *p = server_dial(m, s->name, 60000);
    UNTIL(np_load32(&p->connected));
    server_end(s);
    server_end(m);
    listener_close(l);
}

/* ---- ends -------------------------------------------------------------- */

static void a_stop_cancels_what_is_pending(void) {
    enum { DIALS = 50 };
    server *m = manager_start();
    char full[64], nobody[64];
    listener *l = listen_somewhere(full);
    system_name(nobody, sizeof nobody);
    fill(m, full);
    size_t before = server_count(m);
    for (unsigned i = 0; i < DIALS; i++) {
        server_dial(m, full, -1);
        server_dial(m, nobody, PATIENCE_MS);
    }
    system_sleep(20);
    int64_t begin = np_now();
    server_stop(m);
    CHECK(np_now() - begin < PATIENCE_MS * MS / 2);
    for (size_t i = before; i < before + 2 * DIALS; i++)
        peer_expect_trace(server_peer(m, i), "X");
    server_release(m);
    listener_close(l);
}

static void a_close_cancels_what_is_pending(void) {
    server *m = manager_start();
    char full[64], nobody[64];
    listener *l = listen_somewhere(full);
    system_name(nobody, sizeof nobody);
    fill(m, full);
    for (unsigned i = 0; i < 20; i++) {
        peer *p = server_dial(m, i % 2 ? full : nobody, -1);
        if (i % 4 > 1)
            system_sleep(2);
        peer_close(p);
        CHECK(!np_connection_is_opening(p->connection));
        peer_close(p);
        peer_expect_trace(p, "X");
    }
    server_end(m);
    listener_close(l);
}

static void a_stop_may_come_at_any_moment(void) {
    enum { ROUNDS = 40, DIALS = 20 };
    server *s = server_new();
    server_start(s);
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *m = manager_start();
        for (unsigned i = 0; i < DIALS; i++)
            server_dial(m, s->name, i % 2 ? 0 : -1);
        if (round % 4 == 3)
            system_sleep(round / 8);
        server_end(m);
    }
    server_end(s);
}

static void a_close_may_come_at_any_moment(void) {
    enum { DIALS = 200 };
    server *s = server_new(), *m = manager_start();
    server_start(s);
    for (unsigned i = 0; i < DIALS; i++) {
        peer *p = server_dial(m, s->name, 5000);
        if (i % 8 == 7)
            system_sleep(1);
        peer_close(p);
    }
    for (unsigned i = 0; i < DIALS; i++) {
        peer *p = server_peer(m, i);
        UNTIL_EQUAL(np_load32(&p->ended), 1);
        CHECK_EQUAL(np_load64(&p->errors), 0);
    }
    server_end(m);
    server_end(s);
}

const test dial_tests[] = {
    {"a name that nobody serves is an error, once", a_name_that_nobody_serves_is_an_error_once,
     EVERY_MODE},
    {"the wait for a server has a limit", the_wait_for_a_server_has_a_limit, EVERY_MODE},
    {"the wait for a free instance has a limit", the_wait_for_a_free_instance_has_a_limit,
     EVERY_MODE},
    {"names that cannot be are refused at once", names_that_cannot_be_are_refused_at_once,
     EVERY_MODE},
    {"an endpoint that stops connects no more", an_endpoint_that_stops_connects_no_more,
     EVERY_MODE},
    {"a server that comes late is waited for", a_server_that_comes_late_is_waited_for, EVERY_MODE},
    {"a place that becomes free is waited for", a_place_that_becomes_free_is_waited_for,
     EVERY_MODE},
    {"connecting never waits for a server", connecting_never_waits_for_a_server, EVERY_MODE},
    {"a stop cancels what is pending", a_stop_cancels_what_is_pending, EVERY_MODE},
    {"a close cancels what is pending", a_close_cancels_what_is_pending, EVERY_MODE},
    {"a stop of clients may come at any moment", a_stop_may_come_at_any_moment, EVERY_MODE},
    {"a close of a client may come at any moment", a_close_may_come_at_any_moment, EVERY_MODE},
    {0},
};
