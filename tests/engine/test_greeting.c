/* Connections of servers and managers that begin with a handshake. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "server.h"
#include "suites.h"
#include "system.h"

#define SECOND INT64_C(1000000000)

/* ---- servers with a clock that stands still ---------------------------- */

typedef struct fixture {
    keyring keys, theirs;           /* the server's, and its clients' */
    np_time_source source;
    np_atomic_u64 now;
    server *server;
} fixture;

static int64_t now_of(void *user) { return (int64_t)np_load64(&((fixture *)user)->now); }

static uint32_t no_random(void *user) {
    (void)user;
    return 0;
}

static server *fixture_new(fixture *f) {
    *f = (fixture){.keys = {.key = "secret"}, .theirs = {.key = "secret"}};
    f->source = (np_time_source){now_of, no_random, f};
    np_store64(&f->now, (uint64_t)SECOND);
    server *s = f->server = server_new();
    s->keys = &f->keys;
    s->config.time = &f->source;
    return s;
}

static server *fixture_start(fixture *f, event_function *on_event) {
    server *s = fixture_new(f);
    s->on_event = on_event;
    server_start(s);
    return s;
}

static uint64_t errors(const fixture *f) { return np_load64(&f->server->errors); }

static np_stats stats_of(server *s) {
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    return stats;
}

/* A client that is let in and goes again: every worker looks at its timers. */
static void poke(fixture *f) {
    client *clients[8];
    for (unsigned i = 0; i < 8; i++)
        clients[i] = server_client(f->server);
    for (unsigned i = 0; i < 8; i++) {
        client_handshake(clients[i], &f->theirs);
        client_close(clients[i]);
    }
}

static void check_error(fixture *f, np_code code, uint64_t value) {
    np_error error = server_error(f->server);
    CHECK_EQUAL(error.code, code);
    CHECK_EQUAL(error.value, value);
    CHECK_EQUAL(error.activity, NP_DOING_ACCEPT);
}

static client *enter(fixture *f) {
    client *c = server_client(f->server);
    REQUIRE_EQUAL(client_handshake(c, &f->theirs), NP_OK);
    return c;
}

/* ---- being let in ------------------------------------------------------ */

static void clients_with_the_key_are_connected(void) {
    fixture f;
    server *s = fixture_start(&f, server_echo);
    client *c = enter(&f);
    client_exchange(c, 100, 1);
    client_exchange(c, 200000, 2);
    np_stats stats = stats_of(s);
    CHECK_EQUAL(stats.connections, 1);
    CHECK_EQUAL(stats.connections_total, 1);
    CHECK_EQUAL(stats.messages_in, 2);
    CHECK_EQUAL(stats.bytes_in, 200100);
    CHECK_EQUAL(stats.errors, 0);
    CHECK(np_load32(&f.keys.calls) >= 4);
    client_close(c);
    server_end(s);
}

static void what_comes_with_the_last_message_is_not_lost(void) {
    fixture f;
    server *s = fixture_start(&f, server_echo);
    for (unsigned i = 0; i < 20; i++) {
        client *c = server_client(s);
        REQUIRE_EQUAL(client_handshake_and(c, &f.theirs, "hello at once", 13), NP_OK);
        client_expect(c, "hello at once");
        client_close(c);
    }
    server_end(s);
}

static void write_at_once(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_CONNECTED)
        CHECK_EQUAL(peer_write(p, "welcome", 7, NULL), NP_OK);
    server_echo(p, e);
}

static void a_server_writes_when_it_is_told_of_the_client(void) {
    fixture f;
    server *s = fixture_start(&f, write_at_once);
    client *c = enter(&f);
    client_expect(c, "welcome");
    client_close(c);
    server_end(s);
}

static void a_host_that_can_not_now_is_asked_again(void) {
    fixture f;
    server *s = fixture_start(&f, server_echo);
    for (unsigned i = 1; i < 8; i++) {
        np_store32(&f.keys.failures, i);
        client *c = enter(&f);
        client_exchange(c, 10, i);
        client_close(c);
    }
    CHECK_EQUAL(errors(&f), 0);
    server_end(s);
}

/* ---- not being let in -------------------------------------------------- */

static void never_connected(peer *p, np_event *e) {
    CHECK(!p);
    CHECK(e->kind == NP_EVENT_READY || e->kind == NP_EVENT_ERROR);
}

static void a_wrong_key_is_one_error_and_nothing_else(void) {
    fixture f;
    server *s = fixture_start(&f, never_connected);
    keyring wrong = {.key = "Secret"};
    for (unsigned i = 1; i <= 5; i++) {
        client *c = server_client(s);
        CHECK_EQUAL(client_handshake(c, &wrong), NP_E_AUTH);
        CHECK(client_receive(c, TIMEOUT_MS) < 0);
        UNTIL_EQUAL(errors(&f), i);
        check_error(&f, NP_E_AUTH, NP_AUTH_WRONG);
        client_close(c);
    }
    UNTIL_EQUAL(stats_of(s).connections, 0);
    CHECK_EQUAL(stats_of(s).connections_total, 0);
    CHECK_EQUAL(server_count(s), 0);
    server_end(s);
}

static void clients_that_leave_at_any_step_are_errors(void) {
    fixture f;
    server *s = fixture_start(&f, never_connected);
    for (unsigned steps = 0; steps < 3; steps++) {
        client *c = server_client(s);
        client_handshake_part(c, &f.theirs, steps);
        client_close(c);
        UNTIL_EQUAL(errors(&f), steps + 1);
        check_error(&f, NP_E_AUTH, NP_AUTH_LEFT);
    }
    server_end(s);
}

static void garbage_ends_a_handshake(void) {
    fixture f;
    server *s = fixture_start(&f, never_connected);
    static uint8_t garbage[100000];
    memset(garbage, 'g', sizeof garbage);
    client *c = server_client(s);
    client_send(c, garbage, 256);
    UNTIL_EQUAL(errors(&f), 1);
    check_error(&f, NP_E_AUTH, NP_AUTH_WRONG);
    client_close(c);
    c = server_client(s);
    client_send(c, garbage, 257);
    UNTIL_EQUAL(errors(&f), 2);
    check_error(&f, NP_E_PROTOCOL, 257);
    CHECK_EQUAL(server_error(s).limit, NP_HANDSHAKE_MAX);
    client_close(c);
    c = server_client(s);
    client_send(c, "", 0);
    UNTIL_EQUAL(errors(&f), 3);
    check_error(&f, NP_E_AUTH, NP_AUTH_WRONG);
    client_close(c);
    server_end(s);
}

static void an_echo_is_not_let_in(void) {
    fixture f;
    server *s = fixture_start(&f, never_connected);
    client *c = server_client(s);
    int64_t size = client_receive(c, TIMEOUT_MS);
    REQUIRE(size > 0);
    uint8_t copy[NP_HANDSHAKE_MAX];
    memcpy(copy, client_data(c), (size_t)size);
    client_send(c, copy, (size_t)size);
    UNTIL_EQUAL(errors(&f), 1);
    check_error(&f, NP_E_AUTH, NP_AUTH_WRONG);
    client_expect(c, "#FAILURE#");
    client_close(c);
    server_end(s);
}

/* ---- time and numbers -------------------------------------------------- */

static void silent_clients_have_five_seconds(void) {
    fixture f;
    server *s = fixture_start(&f, server_echo);
    client *silent[3];
    for (unsigned i = 0; i < 3; i++) {
        silent[i] = server_client(s);
        client_handshake_part(silent[i], &f.theirs, i);
    }
    poke(&f);
    np_add64(&f.now, (uint64_t)(5 * SECOND - 1000));
    poke(&f);
    CHECK_EQUAL(errors(&f), 0);
    client *c = enter(&f);
    np_add64(&f.now, 1000);
    for (unsigned i = 0; i < 20 && errors(&f) < 3; i++)
        poke(&f);
    UNTIL_EQUAL(errors(&f), 3);
    check_error(&f, NP_E_AUTH, NP_AUTH_SLOW);
    CHECK_EQUAL(server_error(s).limit, 5);
    client_exchange(c, 100, 1);
    client_close(c);
    for (unsigned i = 0; i < 3; i++)
        client_close(silent[i]);
    server_end(s);
}

/* Their number is bounded; who comes later has it that the oldest makes room,
 * after its first tenth of a second. */
static void the_oldest_makes_room(void) {
    enum { ROOM = 4 };
    fixture f;
    server *s = fixture_new(&f);
    s->config.max_handshakes = ROOM;
    s->on_event = server_echo;
    server_start(s);
    client *silent[ROOM + 1];
    for (unsigned i = 0; i <= ROOM; i++) {
        silent[i] = server_client(s);
        REQUIRE(client_receive(silent[i], TIMEOUT_MS) > 0);     /* it is in */
    }
    CHECK_EQUAL(stats_of(s).connections, 0);
    CHECK_EQUAL(errors(&f), 0);
    np_add64(&f.now, (uint64_t)NP_HANDSHAKE_GRACE_NS);
    /* One was waited for already.  A client that has the key shows that who
     * comes now is served. */
    for (unsigned i = 0; i < ROOM; i++) {
        client *c = client_connect(server_address(s));
        REQUIRE(c != NULL);
        CHECK_EQUAL(client_handshake(c, &f.theirs), NP_OK);
        client_exchange(c, 100, i);
        client_close(c);
        if (errors(&f) == 0)
            continue;
        check_error(&f, NP_E_AUTH, NP_AUTH_CROWDED);
        CHECK_EQUAL(server_error(s).limit, ROOM);
    }
    CHECK(errors(&f) >= 1);
    CHECK(errors(&f) <= ROOM + 1);
    CHECK(client_receive(silent[0], TIMEOUT_MS) < 0);           /* the oldest is gone */
    CHECK_EQUAL(client_receive(silent[ROOM], 20), CLIENT_TIMEOUT);  /* the newest is not */
    for (unsigned i = 0; i <= ROOM; i++)
        client_close(silent[i]);
    server_end(s);
}

static void who_has_proved_the_key_makes_no_room(void) {
    enum { PROVED = 10 };
    fixture f;
    server *s = fixture_new(&f);
    s->config.max_handshakes = 1;
    s->on_event = server_echo;
    server_start(s);
    client *proved[PROVED];
    for (unsigned i = 0; i < PROVED; i++) {
        proved[i] = server_client(s);
        client_handshake_part(proved[i], &f.theirs, 2);     /* it was welcomed */
    }
    np_add64(&f.now, (uint64_t)NP_HANDSHAKE_GRACE_NS * 2);
    for (unsigned i = 0; i < 5; i++) {
        client *c = enter(&f);
        client_exchange(c, 100, i);
        client_close(c);
    }
    CHECK_EQUAL(errors(&f), 0);
    for (unsigned i = 0; i < PROVED; i++) {
        REQUIRE(client_receive(proved[i], TIMEOUT_MS) > 0);     /* the answer to its challenge */
        client_close(proved[i]);
    }
    UNTIL_EQUAL(errors(&f), PROVED);
    check_error(&f, NP_E_AUTH, NP_AUTH_LEFT);
    server_end(s);
}

static void a_crowd_with_the_key_is_let_in(void) {
    enum { CROWD = 40 };
    fixture f;
    server *s = fixture_new(&f);    /* whose time stands still: nobody is slow */
    s->config.max_handshakes = 1;
    s->on_event = server_echo;
    server_start(s);
    client *clients[CROWD];
    unsigned n = 0;
    /* Where a client that waits is not connected yet, fewer wait. */
    while (n < (NP_LINK_FRAMED ? CROWD : 2))
        clients[n++] = server_client(s);
    for (unsigned i = 0; i < n; i++) {
        REQUIRE_EQUAL(client_handshake(clients[i], &f.theirs), NP_OK);
        client_exchange(clients[i], 100, i);
    }
    CHECK_EQUAL(errors(&f), 0);
    for (unsigned i = 0; i < n; i++)
        client_close(clients[i]);
    server_end(s);
}

static void the_last_instance_is_given_back(void) {
    fixture f = {.keys = {.key = "secret"}, .theirs = {.key = "secret"}};
    keyring wrong = {.key = "Secret"};
    server *s = f.server = server_new();
    s->keys = &f.keys;
    s->config.max_instances = 1;
    s->on_event = server_echo;
    server_start(s);
    for (unsigned i = 1; i <= 5; i++) {
        client *c = server_client(s);
        CHECK_EQUAL(client_handshake(c, &wrong), NP_E_AUTH);
        client_close(c);
        UNTIL_EQUAL(errors(&f), i);
    }
    client *c = enter(&f);
    client_exchange(c, 100, 1);
    client_close(c);
    server_end(s);
}

static void stop_ends_handshakes_without_a_word(void) {
    for (unsigned steps = 0; steps < 3; steps++) {
        fixture f;
        server *s = fixture_start(&f, never_connected);
        client *clients[10];
        for (unsigned i = 0; i < 10; i++) {
            clients[i] = server_client(s);
            client_handshake_part(clients[i], &f.theirs, steps);
        }
        server_stop(s);
        CHECK_EQUAL(errors(&f), 0);
        for (unsigned i = 0; i < 10; i++) {
            while (client_receive(clients[i], TIMEOUT_MS) >= 0)
                ;
            client_close(clients[i]);
        }
        server_release(s);
    }
}

static void stop_races_with_handshakes(void) {
    for (unsigned round = 0; round < 30; round++) {
        keyring keys = {.key = "secret"}, theirs = {.key = "secret"};
        server *s = server_new(), *m = server_new();
        s->keys = &keys;
        s->on_event = server_echo;
        m->keys = &theirs;
        m->dials = true;
        server_start(s);
        server_start(m);
        for (unsigned i = 0; i < 5; i++)
            server_dial(m, s->name, 1000);
        if (round % 3)
            system_sleep(round % 5);
        server_end(round % 2 ? s : m);
        server_end(round % 2 ? m : s);
    }
}

/* ---- managers ---------------------------------------------------------- */

static server *manager_new(keyring *k, bool reconnect) {
    server *m = server_new();
    m->dials = true;
    m->keys = k;
    m->config.reconnect = reconnect;
    m->config.reconnect_min_ns = 2000000;
    m->config.reconnect_max_ns = 20000000;
    server_start(m);
    return m;
}

static void trace_is(peer *p, const char *expected) {
    char found[64];
    peer_trace(p, found);
    CHECK(strcmp(found, expected) == 0);
}

static void managers_and_servers_prove_the_key(void) {
    fixture f;
    server *s = fixture_start(&f, server_echo), *m = manager_new(&f.theirs, false);
    peer *p = server_dial(m, s->name, 5000);
    UNTIL(np_load32(&p->connected));
    CHECK_EQUAL(peer_write(p, "hello", 5, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    CHECK_EQUAL(stats_of(m).connections, 1);
    /* One worker may have the answer while another has yet to see that the message was written. */
    UNTIL_EQUAL(stats_of(m).messages_out, 1);
    trace_is(p, "CM");
    server_end(m);
    server_end(s);
}

static void a_refused_client_ends_with_one_error(void) {
    fixture f;
    keyring wrong = {.key = "Secret"};
    server *s = fixture_start(&f, never_connected), *m = manager_new(&wrong, false);
    peer *p = server_dial(m, s->name, 5000);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    trace_is(p, "EX");
    np_error error = peer_error(p);
    CHECK_EQUAL(error.code, NP_E_AUTH);
    CHECK_EQUAL(error.value, NP_AUTH_REJECTED);
    CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
    UNTIL_EQUAL(errors(&f), 1);
    server_end(m);
    server_end(s);
}

static void a_write_before_the_end_of_it_is_too_early(void) {
    keyring keys = {.key = "secret"};
    server *s = server_new();       /* says nothing, as it has no key */
    server_start(s);
    server *m = manager_new(&keys, false);
    peer *p = server_dial(m, s->name, 5000);
    server_peer(s, 0);
    np_error error;
    CHECK_EQUAL(np_connection_write(p->connection, "x", 1, NULL, NULL, &error), NP_E_CLOSED);
    CHECK(np_connection_is_opening(p->connection));
    CHECK(!np_connection_is_open(p->connection));
    CHECK_EQUAL(stats_of(m).connections, 0);
    peer_close(p);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    trace_is(p, "X");
    server_end(m);
    server_end(s);
}

static void a_client_that_reconnects_proves_it_each_time(void) {
    keyring keys = {.key = "secret"}, other = {.key = "Secret"}, theirs = {.key = "secret"};
    server *m = manager_new(&theirs, true);
    char name[64];
    system_name(name, sizeof name);
    peer *p = server_dial(m, name, 60000);
    for (unsigned life = 1; life <= 6; life++) {
        server *s = server_new();
        /* Every second server has another key, which is one error. */
        bool right = life % 2;
        s->keys = right ? &keys : &other;
        s->on_event = server_echo;
        memcpy(s->name, name, sizeof name);
        server_start(s);
        if (right) {
            UNTIL_EQUAL(np_load32(&p->connected), (life + 1) / 2);
            CHECK_EQUAL(peer_write(p, "hello", 5, NULL), NP_OK);
            UNTIL_EQUAL(np_load64(&p->messages), (life + 1) / 2);
        } else {
            UNTIL_EQUAL(np_load64(&p->errors), life / 2);
            CHECK_EQUAL(peer_error(p).code, NP_E_AUTH);
            UNTIL(np_load64(&s->errors) >= 3);      /* it goes on trying, quietly */
            CHECK_EQUAL(np_load64(&p->errors), life / 2);
        }
        server_end(s);
        UNTIL_EQUAL(np_load32(&p->disconnected), (life + 1) / 2);
    }
    server_end(m);
}

const test greeting_tests[] = {
    {"clients with the key are connected", clients_with_the_key_are_connected, EVERY_MODE},
    {"what comes with the last message is not lost", what_comes_with_the_last_message_is_not_lost,
     EVERY_MODE},
    {"a server writes when it is told of the client", a_server_writes_when_it_is_told_of_the_client,
     EVERY_MODE},
    {"a host that can not now is asked again", a_host_that_can_not_now_is_asked_again, EVERY_MODE},
    {"a wrong key is one error and nothing else", a_wrong_key_is_one_error_and_nothing_else,
     EVERY_MODE},
    {"clients that leave at any step are errors", clients_that_leave_at_any_step_are_errors,
     EVERY_MODE},
    {"garbage ends a handshake", garbage_ends_a_handshake, EVERY_MODE},
    {"an echo is not let in", an_echo_is_not_let_in, EVERY_MODE},
    {"silent clients have five seconds", silent_clients_have_five_seconds, EVERY_MODE},
    {"the oldest makes room", the_oldest_makes_room, EVERY_MODE},
    {"who has proved the key makes no room", who_has_proved_the_key_makes_no_room, EVERY_MODE},
    {"a crowd with the key is let in", a_crowd_with_the_key_is_let_in, EVERY_MODE},
    {"the last instance is given back", the_last_instance_is_given_back, EVERY_MODE},
    {"stop ends handshakes without a word", stop_ends_handshakes_without_a_word, EVERY_MODE},
    {"stop races with handshakes", stop_races_with_handshakes, EVERY_MODE},
    {"managers and servers prove the key", managers_and_servers_prove_the_key, EVERY_MODE},
    {"a refused client ends with one error", a_refused_client_ends_with_one_error, EVERY_MODE},
    {"a write before the end of it is too early", a_write_before_the_end_of_it_is_too_early,
     EVERY_MODE},
    {"a client that reconnects proves it each time", a_client_that_reconnects_proves_it_each_time,
     EVERY_MODE},
    {0},
};
