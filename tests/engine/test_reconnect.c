/* Connections that are made again. */
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

static server *manager_new(event_function *on_event) {
    server *m = server_new();
    m->dials = true;
    m->config.reconnect = true;
    m->config.reconnect_min_ns = 2000000;
    m->config.reconnect_max_ns = 20000000;
    m->on_event = on_event;
    server_start(m);
    return m;
}

/* Another server of the same name. */
static server *serve(const char *name) {
    server *s = server_new();
    s->on_event = server_echo;
    if (name)
        memcpy(s->name, name, sizeof s->name);
    server_start(s);
    return s;
}

static void exchange(peer *p) {
    uint64_t before = np_load64(&p->messages);
    cookie *sent = server_cookie(p->server);
    CHECK_EQUAL(peer_write(p, "hello", 5, sent), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), before + 1);
    UNTIL_EQUAL(np_load32(&sent->sent), 1);
}

static void a_client_comes_back_when_its_server_does(void) {
    char name[64];
    server *s = serve(NULL), *m = manager_new(NULL);
    memcpy(name, s->name, sizeof name);
    peer *p = server_dial(m, name, 60000);
    for (unsigned life = 1; life <= 5; life++) {
        UNTIL_EQUAL(np_load32(&p->connected), life);
        CHECK(np_connection_is_open(p->connection));
        exchange(p);
        server_end(s);
        UNTIL_EQUAL(np_load32(&p->disconnected), life);
        CHECK(np_connection_is_opening(p->connection));
        CHECK_EQUAL(np_connection_handle(p->connection), 0);
        s = serve(name);
    }
    UNTIL_EQUAL(np_load32(&p->connected), 6);
    CHECK_EQUAL(np_load64(&p->errors), 0);
    np_stats stats;
    np_endpoint_stats(m->endpoint, &stats);
    CHECK_EQUAL(stats.connections, 1);
    CHECK_EQUAL(stats.connections_total, 6);
    server_end(m);
    server_end(s);
}

static void a_failure_is_reported_once_for_each_time_without_a_server(void) {
    char name[64];
    server *m = manager_new(NULL);
    system_name(name, sizeof name);
    peer *p = server_dial(m, name, 0);
    for (unsigned time = 1; time <= 3; time++) {
        UNTIL_EQUAL(np_load64(&p->errors), time);
        system_sleep(60);
        CHECK_EQUAL(np_load64(&p->errors), time);
        CHECK_EQUAL(peer_error(p).code, NP_E_NOT_FOUND);
        CHECK(np_connection_is_opening(p->connection));
        /* More than `time` where it was so soon back that it met one that stops. */
        uint32_t before = np_load32(&p->connected);
        server *s = serve(name);
        UNTIL(np_load32(&p->connected) > before);
        CHECK_EQUAL(np_load64(&p->errors), time);
        server_end(s);
    }
    server_end(m);
}

static void what_was_left_behind_does_not_come_back(void) {
    char name[64];
    server *s = server_new(), *m = manager_new(NULL);
    memcpy(name, s->name, sizeof name);
    s->config.continuous_read = false;  /* it reads nothing */
    server_start(s);
    peer *p = server_dial(m, name, 60000);
    UNTIL_EQUAL(np_load32(&p->connected), 1);
    cookie *lost = server_cookie(m);
    for (unsigned i = 0; i < 20; i++)
        CHECK_EQUAL(peer_write_pattern(p, 500000, i, lost), NP_OK);
    CHECK(np_connection_pending(p->connection) > 0);
    server_peer(s, 0);
    server_end(s);
    UNTIL_EQUAL(np_load32(&p->disconnected), 1);
    CHECK_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(cookie_given(lost), 20);
    CHECK(np_load32(&lost->failed) > 0);
    CHECK(peer_end(p).code != NP_OK);
    s = serve(name);
    UNTIL_EQUAL(np_load32(&p->connected), 2);
    exchange(p);
    CHECK_EQUAL(np_load64(&p->messages), 1);
    server_end(s);
    UNTIL_EQUAL(np_load32(&p->disconnected), 2);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    server_end(m);
}

static void a_close_ends_it_for_good(void) {
    server *s = serve(NULL), *m = manager_new(NULL);
    peer *connected = server_dial(m, s->name, 60000);
    UNTIL_EQUAL(np_load32(&connected->connected), 1);
    peer_close(connected);
    UNTIL_EQUAL(np_load32(&connected->ended), 1);
    peer *waiting = server_dial(m, s->name, 60000);
    UNTIL_EQUAL(np_load32(&waiting->connected), 1);
    server_peer(s, 1);
    server_end(s);
    UNTIL_EQUAL(np_load32(&waiting->disconnected), 1);
    peer_close(waiting);
    UNTIL_EQUAL(np_load32(&waiting->ended), 1);
    CHECK(!np_connection_is_opening(waiting->connection));
    server_end(m);
}

static void close_when_disconnected(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_DISCONNECTED)
        np_connection_close(p->connection);
}

static void a_handler_of_the_end_may_close_for_good(void) {
    server *s = serve(NULL), *m = manager_new(close_when_disconnected);
    peer *p = server_dial(m, s->name, 60000);
    UNTIL_EQUAL(np_load32(&p->connected), 1);
    server_peer(s, 0);
    server_end(s);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    CHECK_EQUAL(np_load32(&p->connected), 1);
    server_end(m);
}

static void hang_up(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_CONNECTED)
        np_connection_close(p->connection);
}

/* Connected, closed, connected: each stop meets another moment of it. */
static void a_stop_may_meet_a_reconnect(void) {
    enum { ROUNDS = 20, CLIENTS = 10 };
    server *s = server_new();
    s->on_event = hang_up;
    server_start(s);
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *m = manager_new(NULL);
        for (unsigned i = 0; i < CLIENTS; i++)
            server_dial(m, s->name, 60000);
        UNTIL(np_load32(&server_peer(m, round % CLIENTS)->disconnected) > round % 3);
        server_end(m);
    }
    server_end(s);
}

static void write_meanwhile(crew *w, unsigned number) {
    (void)number;
    peer *p = w->with;
    while (crew_goes_on(w)) {
        np_code code = peer_write(p, "hello", 5, server_cookie(p->server));
        CHECK(code == NP_OK || code == NP_E_CLOSED);
        system_sleep(1);
    }
}

static void threads_may_write_through_reconnects(void) {
    enum { WRITERS = 2 };
    server *s = server_new(), *m = manager_new(NULL);
    s->on_event = hang_up;
    server_start(s);
    peer *p = server_dial(m, s->name, 60000);
    crew writers;
    crew_start(&writers, WRITERS, write_meanwhile, p);
    UNTIL(np_load32(&p->connected) > 30);
    crew_end(&writers);
    server_end(m);
    server_end(s);
}

const test reconnect_tests[] = {
    {"a client comes back when its server does", a_client_comes_back_when_its_server_does,
     EVERY_MODE},
    {"a failure is reported once for each time without a server",
     a_failure_is_reported_once_for_each_time_without_a_server, EVERY_MODE},
    {"what was left behind does not come back", what_was_left_behind_does_not_come_back,
     EVERY_MODE},
    {"a close ends it for good", a_close_ends_it_for_good, EVERY_MODE},
    {"a handler of the end may close for good", a_handler_of_the_end_may_close_for_good,
     EVERY_MODE},
    {"a stop may meet a reconnect", a_stop_may_meet_a_reconnect, EVERY_MODE},
    {"threads may write through reconnects", threads_may_write_through_reconnects, EVERY_MODE},
    {0},
};
