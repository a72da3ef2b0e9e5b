/* Connections that the engine makes itself, when there is a server. */
#include <stdlib.h>
#include <string.h>

#include "listener.h"
#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

static server *echo_new(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    return s;
}

static void a_client_talks_to_a_server(void) {
    server *s = echo_new(), *m = manager_start();
    peer *p = server_dial(m, s->name, 5000);
    CHECK(strcmp(np_connection_address(p->connection), server_address(s)) == 0);
    UNTIL(np_load32(&p->connected));
    CHECK(np_connection_is_open(p->connection) && !np_connection_is_opening(p->connection));
    CHECK(np_connection_handle(p->connection) != 0);
    cookie *sent = server_cookie(m);
    CHECK_EQUAL(peer_write(p, "hello", 5, sent), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    CHECK_EQUAL(np_load64(&p->bytes), 5);
    UNTIL_EQUAL(np_load32(&sent->sent), 1);
    np_peer who;
    CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_OK);
    CHECK(who.pid > 0);
    peer_close(p);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    CHECK(!np_connection_is_open(p->connection) && !np_connection_is_opening(p->connection));
    server_end(m);
    server_end(s);
}

static void large_messages_pass_both_ways(void) {
    enum { SIZE = 3000000, COUNT = 5 };
    server *s = echo_new(), *m = manager_start();
    m->take_messages = true;
    peer *p = server_dial(m, s->name, 5000);
    UNTIL(np_load32(&p->connected));
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQUAL(peer_write_pattern(p, SIZE, i, server_cookie(m)), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), COUNT);
    CHECK_EQUAL(np_load64(&p->bytes), (uint64_t)SIZE * COUNT);
    server_end(m);
    server_end(s);
}

static void a_server_that_stops_ends_its_clients(void) {
    server *s = echo_new(), *m = manager_start();
    peer *p = server_dial(m, s->name, 5000);
    UNTIL(np_load32(&p->connected));
    server_peer(s, 0);
    server_end(s);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    peer_expect_trace(p, "CDX");
    server_end(m);
}

static void a_server_that_closes_at_once_harms_nobody(void) {
    server *m = manager_start();
    char name[64], address[NP_ADDRESS_MAX];
    np_error error = {0};
    system_name(name, sizeof name);
    REQUIRE_EQUAL(np_address(name, address, sizeof address, &error), NP_OK);
    listener *l = listener_open(address);
    REQUIRE(l != NULL);
    for (unsigned i = 0; i < 20; i++) {
        peer *p = server_dial(m, name, 5000);
        /* One that is dropped before it is connected comes again. */
        UNTIL((listener_drop_one(l, 10), np_load32(&p->ended)));
        CHECK_EQUAL(np_load32(&p->connected), 1);
        CHECK_EQUAL(np_load32(&p->disconnected), 1);
    }
    listener_close(l);
    server_end(m);
}

static void a_write_before_it_is_open_is_refused(void) {
    server *m = manager_start();
    char name[64];
    system_name(name, sizeof name);
    peer *p = server_dial(m, name, -1);
    CHECK(np_connection_is_opening(p->connection));
    CHECK_EQUAL(peer_write(p, "x", 1, NULL), NP_E_CLOSED);
    CHECK_EQUAL(np_connection_handle(p->connection), 0);
    np_peer who;
    CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_E_CLOSED);
    np_buffer *news = server_buffer(m, 1, 1);
    CHECK_EQUAL(np_endpoint_broadcast(m->endpoint, news, NULL, NULL, NULL), 0);
    server_drop(m, news);
    server_end(m);
}

static void only_what_is_connected_is_counted(void) {
    server *s = echo_new(), *m = manager_start();
    char name[64];
    np_stats stats;
    system_name(name, sizeof name);
    peer *p = server_dial(m, s->name, 5000);
    server_dial(m, name, -1);
    UNTIL(np_load32(&p->connected));
    np_endpoint_stats(m->endpoint, &stats);
    CHECK_EQUAL(stats.connections, 1);
    CHECK_EQUAL(stats.connections_total, 1);
    server_end(m);
    server_end(s);
}

/* ---- many, and from everywhere ----------------------------------------- */

static void a_thousand_connections_of_one_manager(void) {
    enum { CLIENTS = 1000 };
    server *s = echo_new(), *m = manager_start();
    for (unsigned i = 0; i < CLIENTS; i++)
        server_dial(m, s->name, 60000);
    for (unsigned i = 0; i < CLIENTS; i++) {
        peer *p = server_peer(m, i);
        UNTIL(np_load32(&p->connected));
        CHECK_EQUAL(peer_write_pattern(p, 100 + i, i, NULL), NP_OK);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        peer *p = server_peer(m, i);
        UNTIL_EQUAL(np_load64(&p->messages), 1);
        CHECK_EQUAL(np_load64(&p->bytes), 100 + i);
    }
    np_stats stats;
    np_endpoint_stats(m->endpoint, &stats);
    CHECK_EQUAL(stats.connections, CLIENTS);
    server_end(m);
    server_end(s);
}

enum { DIALS = 50 };

static void dial_and_close(crew *w, unsigned number) {
    (void)number;
    server *m = w->with, *s = m->user;
    for (unsigned i = 0; i < DIALS; i++) {
        peer *p = server_dial(m, s->name, 5000);
        if (i % 2)
            peer_close(p);
    }
}

static void threads_may_connect_and_close_at_once(void) {
    enum { DIALERS = 4 };
    server *s = echo_new(), *m = manager_start();
    crew dialers;
    m->user = s;
    crew_start(&dialers, DIALERS, dial_and_close, m);
    crew_join(&dialers);
    unsigned open = 0;
    for (unsigned i = 0; i < DIALERS * DIALS; i++) {
        peer *p = server_peer(m, i);
        UNTIL(np_load32(&p->connected) || np_load32(&p->ended));
        open += !np_load32(&p->ended);
        CHECK_EQUAL(np_load64(&p->errors), 0);
    }
    CHECK(open >= DIALERS * DIALS / 2);
    server_end(m);
    server_end(s);
}

enum { CHAIN = 20 };

/* Each one that is connected makes the next, and goes. */
static void dial_from_inside(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_CONNECTED)
        return;
    if (server_count(p->server) < CHAIN)
        server_dial(p->server, np_connection_address(p->connection), 5000);
    np_connection_close(p->connection);
}

static void a_handler_may_connect_and_close(void) {
    server *s = echo_new(), *m = server_new();
    m->dials = true;
    m->on_event = dial_from_inside;
    server_start(m);
    server_dial(m, s->name, 5000);
    for (unsigned i = 0; i < CHAIN; i++)
        UNTIL(np_load32(&server_peer(m, i)->ended));
    server_end(m);
    server_end(s);
}

const test client_tests[] = {
    {"a client talks to a server", a_client_talks_to_a_server, EVERY_MODE},
    {"large messages pass both ways", large_messages_pass_both_ways, EVERY_MODE},
    {"a server that stops ends its clients", a_server_that_stops_ends_its_clients, EVERY_MODE},
    {"a server that closes at once harms nobody", a_server_that_closes_at_once_harms_nobody,
     EVERY_MODE},
    {"a write before it is open is refused", a_write_before_it_is_open_is_refused, EVERY_MODE},
    {"only what is connected is counted", only_what_is_connected_is_counted, EVERY_MODE},
    {"a thousand connections of one manager", a_thousand_connections_of_one_manager,
     FREE_MODES | MODE_RUN},
    {"threads may connect and close at once", threads_may_connect_and_close_at_once, EVERY_MODE},
    {"a handler may connect and close", a_handler_may_connect_and_close, EVERY_MODE},
    {0},
};
