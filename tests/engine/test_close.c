/* The end of one connection, from either side. */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

enum { MIB = 1 << 20 };

/* What is left to receive until the server's end. */
static size_t receive_rest(client *c) {
    size_t total = 0;
    for (;;) {
        int64_t n = client_receive(c, TIMEOUT_MS);
        CHECK(n != CLIENT_TIMEOUT);
        if (n < 0)
            return total;
        total += (size_t)n;
    }
}

static void check_open_then_answer_and_close(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_CONNECTED) {
        CHECK(np_connection_is_open(e->connection));
        CHECK(!np_connection_is_opening(e->connection));
        CHECK(np_connection_handle(e->connection) != 0);
    }
    if (e->kind != NP_EVENT_MESSAGE || np_add64(&p->user, 1))
        return;
    server_echo(p, e);
    np_connection_close(e->connection);
    np_connection_close(e->connection);
    CHECK(!np_connection_is_open(e->connection));
    np_error error;
    CHECK_EQUAL(np_connection_write(e->connection, "x", 1, NULL, NULL, &error), NP_E_CLOSED);
}

static void a_handler_may_close(void) {
    static const size_t sizes[] = {1, 1000, MIB, 8 * MIB};
    server *s = server_new();
    s->on_event = check_open_then_answer_and_close;
    server_start(s);
    for (unsigned i = 0; i < 4; i++) {
        client *c = server_client(s);
        client_exchange(c, sizes[i], i);
        CHECK_EQUAL(client_receive(c, TIMEOUT_MS), CLIENT_END);
        client_close(c);
        CHECK_EQUAL(peer_end(server_peer(s, i)).code, NP_OK);
        CHECK_EQUAL(np_load64(&server_peer(s, i)->errors), 0);
    }
    server_end(s);
}

static void close_at_once(peer *p, np_event *e) {
    (void)p;
    if (e->kind == NP_EVENT_CONNECTED)
        np_connection_close(e->connection);
    CHECK(e->kind != NP_EVENT_ERROR);
}

static void a_handler_may_close_what_just_connected(void) {
    server *s = server_new();
    s->on_event = close_at_once;
    server_start(s);
    for (unsigned i = 0; i < 20; i++) {
        client *c = client_connect(server_address(s));
        CHECK(c != NULL);
        if (c) {
            CHECK(client_receive(c, TIMEOUT_MS) < 0);
            client_close(c);
        }
    }
    UNTIL_EQUAL(server_count(s), 20);
    server_end(s);
}

static void writes_before_a_close_are_all_delivered(void) {
    static const size_t sizes[] = {10, 100, 70000, MIB, 3 * MIB, 5};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQUAL(peer_write_held(p, sizes[i], i, server_cookie(s)), NP_OK);
    peer_close(p);
    CHECK(!np_connection_is_open(p->connection));
    CHECK_EQUAL(peer_write(p, "late", 4, NULL), NP_E_CLOSED);
    system_sleep(20);
    for (unsigned i = 0; i < COUNT; i++)
        client_expect_pattern(c, sizes[i], i);
    CHECK_EQUAL(client_receive(c, TIMEOUT_MS), CLIENT_END);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    CHECK_EQUAL(np_load64(&p->sent), COUNT);
    char trace[64];
    peer_trace(p, trace);
    CHECK_EQUAL(trace[0], 'C');
    CHECK_EQUAL(trace[strlen(trace) - 1], 'D');
    client_close(c);
    server_end(s);
}

static void closing_in_turn_frees_every_connection(void) {
    enum { CLIENTS = 50 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = server_client(s);
    for (unsigned i = 0; i < CLIENTS; i++)
        peer_close(server_peer(s, i));
    for (unsigned i = 0; i < CLIENTS; i++) {
        CHECK_EQUAL(client_receive(clients[i], TIMEOUT_MS), CLIENT_END);
        client_close(clients[i]);
        CHECK_EQUAL(peer_end(server_peer(s, i)).code, NP_OK);
    }
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    CHECK_EQUAL(stats.connections, 0);
    CHECK_EQUAL(stats.connections_total, CLIENTS);
    server_end(s);
}

static void write_and_close(crew *w, unsigned number) {
    (void)number;
    peer *p = w->with;
    for (unsigned i = 0; i < 50; i++) {
        np_code code = peer_write(p, "some", 4, server_cookie(p->server));
        CHECK(code == NP_OK || code == NP_E_CLOSED);
    }
    peer_close(p);
}

static void threads_may_close_and_write_at_once(void) {
    enum { ROUNDS = 10, CLOSERS = 4 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    for (unsigned round = 0; round < ROUNDS; round++) {
        client *c = server_client(s);
        crew closers;
        crew_start(&closers, CLOSERS, write_and_close, server_peer(s, round));
        size_t got = receive_rest(c);
        CHECK(got % 4 == 0 && got >= 200);
        crew_join(&closers);
        CHECK_EQUAL(peer_end(server_peer(s, round)).code, NP_OK);
        client_close(c);
    }
    server_end(s);
}

/* ---- peers that don't take what was written ---------------------------- */

static void a_stop_does_not_linger(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    cookie *lost = server_cookie(s);
    CHECK_EQUAL(peer_write_held(p, 8 * MIB, 1, lost), NP_OK);
    peer_close(p);
    system_sleep(50);
    CHECK_EQUAL(np_load32(&p->disconnected), 0);
    int64_t begin = np_now();
    server_stop(s);
    CHECK(np_now() - begin < NP_LINGER_NS * 4 / 5);
    CHECK_EQUAL(np_load32(&lost->failed), 1);
    CHECK_EQUAL(peer_error(p).code, NP_E_CANCELED);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    client_close(c);
    server_release(s);
}

/* A marshalled server that nobody runs; its client said something and left. */
static server *start_unattended(void) {
    server *s = server_new();
    s->config.marshalled = true;
    s->no_guest = true;
    server_start(s);
    client *c = server_client(s);
    CHECK(client_send(c, "abc", 3));
    np_stats stats;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.messages_in == 1));
    client_close(c);
    return s;
}

/* It waited for the host's answer, and ends as soon as that is known. */
static void end_unattended(server *s) {
    void *token = server_token(s);
    int64_t begin = np_now();
    while (server_count(s) == 0 || !np_load32(&server_peer(s, 0)->disconnected))
        REQUIRE(np_endpoint_dispatch(s->endpoint, token, INT64_C(30000000000)) > 0);
    CHECK(np_now() - begin < NP_LINGER_NS * 4 / 5);
    CHECK_EQUAL(np_load64(&server_peer(s, 0)->messages), 1);
    CHECK_EQUAL(np_load64(&server_peer(s, 0)->errors), 0);
    CHECK_EQUAL(peer_end(server_peer(s, 0)).code, NP_OK);
    server_end(s);
}

static void a_close_lingers_for_its_time_only(void) {
    server *unattended = start_unattended();
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    cookie *lost = server_cookie(s);
    int64_t begin = np_now();
    CHECK_EQUAL(peer_write_held(p, 8 * MIB, 1, lost), NP_OK);
    peer_close(p);
    np_error end = peer_end(p);
    int64_t took = np_now() - begin;
    CHECK(took >= NP_LINGER_NS);
    CHECK(took < 3 * NP_LINGER_NS);
    CHECK_EQUAL(end.code, NP_E_TIMEOUT);
    CHECK_EQUAL(end.activity, NP_DOING_WRITE);
    CHECK(end.value > 0 && end.value <= 8 * MIB + 4);
    CHECK_EQUAL(np_load32(&lost->failed), 1);
    client_close(c);
    server_end(s);
    end_unattended(unattended);
}

/* ---- peers that leave -------------------------------------------------- */

static void a_client_may_leave_at_once(void) {
    enum { COUNT = 100 };
    server *s = server_new();
    server_start(s);
    for (unsigned i = 0; i < COUNT; i++)
        client_close(server_client(s));
    client *c = server_client(s);
    UNTIL(server_count(s) > 0);
    client_close(c);
    server_end(s);
}

/* What it sent before is delivered, in every mode of reading. */
static void a_clients_last_messages_are_delivered(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    uint8_t *data = pattern_new(100000, 3);
    for (unsigned i = 0; i < 10; i++)
        CHECK(client_send(c, data, i % 2 ? 100 : 100000));
    free(data);
    client_close(c);
    peer *p = server_peer(s, 0);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    CHECK_EQUAL(np_load64(&p->messages), 10);
    server_end(s);
}

static void a_client_may_leave_replies_unread(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    for (unsigned i = 0; i < 20; i++) {
        client *c = server_client(s);
        peer *p = server_peer(s, i);
        CHECK(client_send(c, "question", 8));
        UNTIL_EQUAL(np_load64(&p->messages), 1);
        client_close(c);
        peer_end(p);
    }
    server_end(s);
}

static void a_client_that_leaves_while_the_server_writes_is_an_error(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    cookie *lost = server_cookie(s), *lost_too = server_cookie(s);
    np_buffer *b = server_buffer(s, 16 * MIB, 1);
    CHECK_EQUAL(peer_write_buffer(p, b, lost), NP_OK);
    CHECK_EQUAL(peer_write_buffer(p, b, lost_too), NP_OK);
    server_drop(s, b);
    client_close(c);
    np_error end = peer_end(p);
    CHECK_EQUAL(end.code, NP_E_BROKEN);
    CHECK_EQUAL(end.activity, NP_DOING_WRITE);
    CHECK(end.value > 16 * MIB);
    CHECK_EQUAL(np_load32(&lost->failed), 1);
    CHECK_EQUAL(np_load32(&lost_too->failed), 1);
    CHECK_EQUAL(np_load64(&p->sent), 0);
    CHECK_EQUAL(peer_write(p, "x", 1, NULL), NP_E_CLOSED);
    server_end(s);
}

static void the_error_of_one_is_nobody_elses(void) {
    server *s = server_new();
    s->on_event = server_echo;
    s->config.max_message_size = 1000;
    server_start(s);
    client *good = server_client(s);
    server_peer(s, 0);
    for (unsigned i = 0; i < 10; i++) {
        static const char large[5000];
        client *bad = server_client(s);
        client_send(bad, large, sizeof large);
        client_exchange(good, 500, i);
        CHECK_EQUAL(peer_end(server_peer(s, i + 1)).code, NP_E_TOO_LARGE);
        client_close(bad);
    }
    CHECK_EQUAL(np_load64(&server_peer(s, 0)->errors), 0);
    CHECK(np_connection_is_open(server_peer(s, 0)->connection));
    client_close(good);
    CHECK_EQUAL(peer_end(server_peer(s, 0)).code, NP_OK);
    server_end(s);
}

static void the_peer_is_known(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    np_peer who;
    CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_OK);
    CHECK(who.pid > 0);
    client_close(c);
    peer_end(p);
    CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_E_CLOSED);
    server_end(s);
}

const test close_tests[] = {
    {"a handler may close", a_handler_may_close, EVERY_MODE},
    {"a handler may close what just connected", a_handler_may_close_what_just_connected,
     EVERY_MODE},
    {"writes before a close are all delivered", writes_before_a_close_are_all_delivered,
     EVERY_MODE},
    {"closing in turn frees every connection", closing_in_turn_frees_every_connection, EVERY_MODE},
    {"threads may close and write at once", threads_may_close_and_write_at_once, EVERY_MODE},
    {"a stop does not linger", a_stop_does_not_linger, EVERY_MODE},
    {"a close lingers for its time only", a_close_lingers_for_its_time_only, MODE_FREE},
    {"a client may leave at once", a_client_may_leave_at_once, EVERY_MODE},
    {"a client's last messages are delivered", a_clients_last_messages_are_delivered, EVERY_MODE},
    {"a client may leave replies unread", a_client_may_leave_replies_unread, EVERY_MODE},
    {"a client that leaves while the server writes is an error",
     a_client_that_leaves_while_the_server_writes_is_an_error, EVERY_MODE},
    {"the error of one is nobody else's", the_error_of_one_is_nobody_elses, EVERY_MODE},
    {"the peer is known", the_peer_is_known, MODE_FREE},
    {0},
};
