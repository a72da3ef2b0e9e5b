/* The end of a whole server, from anywhere and at any moment. */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

static void a_server_nobody_used_stops(void) {
    server *s = server_new();
    server_start(s);
    server_end(s);
}

static void stop_may_be_called_again(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    server_peer(s, 0);
    np_endpoint_stop_begin(s->endpoint);
    np_endpoint_stop_begin(s->endpoint);
    server_stop(s);
    server_stop(s);
    CHECK(client_receive(c, TIMEOUT_MS) < 0);
    CHECK(!client_connect(server_address(s)));
    client_close(c);
    server_release(s);
}

static void many_servers_start_and_stop(void) {
    for (unsigned i = 0; i < 50; i++) {
        server *s = server_new();
        s->on_event = server_echo;
        server_start(s);
        client *c = i % 2 ? server_client(s) : NULL;
        server_end(s);
        if (c)
            client_close(c);
    }
}

static void a_name_is_free_after_a_stop(void) {
    char name[64] = "";
    for (unsigned i = 0; i < 5; i++) {
        server *s = server_new();
        if (*name)
            memcpy(s->name, name, sizeof name);
        memcpy(name, s->name, sizeof name);
        s->on_event = server_echo;
        server_start(s);
        client *c = server_client(s);
        client_exchange(c, 100, i);
        server_end(s);
        client_close(c);
    }
}

static void what_was_written_before_a_stop_goes_out(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    cookie *sent = server_cookie(s);
    CHECK_EQUAL(peer_write(p, "goodbye", 7, sent), NP_OK);
    server_stop(s);
    CHECK_EQUAL(np_load32(&sent->sent), 1);
    CHECK_EQUAL(peer_write(p, "x", 1, NULL), NP_E_CLOSED);
    client_expect(c, "goodbye");
    CHECK(client_receive(c, TIMEOUT_MS) < 0);
    client_close(c);
    server_release(s);
}

/* ---- from inside an event ---------------------------------------------- */

static void stop_on_message(peer *p, np_event *e) {
    server *s = p ? p->server : NULL;
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    server_echo(p, e);
    np_endpoint_stop_begin(s->endpoint);
    CHECK(!np_endpoint_is_running(s->endpoint));
    CHECK(!np_endpoint_stop_wait(s->endpoint, s->user, -1));
}

static void a_handler_may_stop_its_server(void) {
    server *s = server_new();
    s->on_event = stop_on_message;
    server_start(s);
    s->user = server_token(s);
    client *c = server_client(s);
    client *other = server_client(s);
    client_exchange(c, 100, 1);
    CHECK(client_receive(c, TIMEOUT_MS) < 0);
    if (harness_mode() != MODE_DISPATCH)
        CHECK(client_receive(other, TIMEOUT_MS) < 0);
    server_end(s);
    client_close(c);
    client_close(other);
}

static void drop_on_message(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    np_endpoint_stop_begin(p->server->endpoint);
    np_endpoint_release(p->server->endpoint);
}

/* The last reference may go while the workers still run: they end by
 * themselves.  By hand, as server_end would wait for them. */
static void a_stopping_server_may_be_dropped(void) {
    server *s = server_new();
    s->on_event = drop_on_message;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    CHECK(client_send(c, "x", 1));
    UNTIL_EQUAL(np_load32(&p->disconnected), 1);
    CHECK_EQUAL(np_load32(&s->released), 0);
    np_connection_release(p->connection);
    UNTIL_EQUAL(np_load32(&s->released), 1);
    CHECK_EQUAL(np_load32(&s->threads_begun), np_load32(&s->threads_ended));
    client_close(c);
    while (s->tokens)
        abort();
    free(p);
    free(s->peers);
    free(s);
}

/* ---- while something happens ------------------------------------------- */

static void flood(crew *w, unsigned number) {
    (void)number;
    client *c = client_connect(server_address(w->with));
    if (!c)
        return;
    static const char message[2000];
    for (unsigned i = 0; client_send(c, message, i % 2 ? sizeof message : 20); i++)
        ;
    client_close(c);
}

static void a_stop_ends_clients_that_flood(void) {
    enum { CLIENTS = 4 };
    server *s = server_new();
    server_start(s);
    crew clients;
    crew_start(&clients, CLIENTS, flood, s);
    for (unsigned i = 0; i < CLIENTS; i++)
        UNTIL(np_load64(&server_peer(s, i)->messages) > 100);
    server_stop(s);
    crew_join(&clients);
    server_release(s);
}

static void a_stop_ends_answers_that_nobody_reads(void) {
    enum { CLIENTS = 4 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    crew clients;
    crew_start(&clients, CLIENTS, flood, s);
    for (unsigned i = 0; i < CLIENTS; i++)
        UNTIL(np_connection_pending(server_peer(s, i)->connection) > 500000);
    server_stop(s);
    crew_join(&clients);
    server_release(s);
}

static void come_and_go(crew *w, unsigned number) {
    (void)number;
    for (unsigned i = 0; crew_goes_on(w); i++) {
        client *c = client_connect(server_address(w->with));
        if (!c)
            return;
        if (i % 2)
            client_send(c, "hello", 5);
        if (i % 4 == 3)
            client_receive(c, 10);
        client_close(c);
    }
}

static void a_stop_ends_clients_that_come_and_go(void) {
    enum { CLIENTS = 3, ROUNDS = 40 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        server *s = server_new();
        s->on_event = server_echo;
        server_start(s);
        crew clients;
        crew_start(&clients, CLIENTS, come_and_go, s);
        if (round % 2)
            system_sleep(round / 4);
        else
            UNTIL(server_count(s) > round);
        server_stop(s);
        crew_end(&clients);
        server_release(s);
    }
}

static void write_until_closed(crew *w, unsigned number) {
    (void)number;
    server *s = w->with;
    np_code code = NP_OK;
    for (unsigned i = 0; code != NP_E_CLOSED; i++) {
        code = peer_write_held(server_peer(s, i % 2), 1000, i, server_cookie(s));
        CHECK(code == NP_OK || code == NP_E_CLOSED || code == NP_E_FULL);
        if (i % 100 == 99)
            system_sleep(1);
    }
}

static void a_stop_ends_threads_that_write(void) {
    enum { WRITERS = 3 };
    server *s = server_new();
    s->config.max_pending_bytes = 1 << 20;
    s->config.max_message_size = 1 << 20;
    server_start(s);
    client *reads = server_client(s), *never = server_client(s);
    server_peer(s, 1);
    crew writers;
    crew_start(&writers, WRITERS, write_until_closed, s);
    for (unsigned i = 0; i < 200; i++)
        CHECK_EQUAL(client_receive(reads, TIMEOUT_MS), 1000);
    server_stop(s);
    crew_join(&writers);
    client_close(reads);
    client_close(never);
    server_release(s);
}

static void stop_too(crew *w, unsigned number) {
    (void)number;
    server *s = w->with;
    np_endpoint_stop_begin(s->endpoint);
    CHECK(np_endpoint_stop_wait(s->endpoint, server_token(s), -1));
    CHECK(!np_endpoint_is_running(s->endpoint));
}

static void threads_may_stop_at_once(void) {
    enum { STOPPERS = 4 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    crew stoppers;
    crew_start(&stoppers, STOPPERS, stop_too, s);
    crew_join(&stoppers);
    server_end(s);
    client_close(c);
}

/* ---- waiting ----------------------------------------------------------- */

static np_atomic_u32 blocked, go_on;

static void block_on_message(peer *p, np_event *e) {
    (void)p;
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    np_store32(&blocked, 1);
    UNTIL(np_load32(&go_on));
}

static void waiting_for_the_end_has_a_limit(void) {
    np_store32(&blocked, 0);
    np_store32(&go_on, 0);
    server *s = server_new();
    s->on_event = block_on_message;
    server_start(s);
    client *c = server_client(s);
    CHECK(client_send(c, "x", 1));
    UNTIL(np_load32(&blocked));
    void *token = server_token(s);
    np_endpoint_stop_begin(s->endpoint);
    CHECK(!np_endpoint_stop_wait(s->endpoint, token, 0));
    int64_t begin = np_now();
    CHECK(!np_endpoint_stop_wait(s->endpoint, token, 50000000));
    CHECK(np_now() - begin >= 50000000);
    np_store32(&go_on, 1);
    CHECK(np_endpoint_stop_wait(s->endpoint, token, INT64_MAX));
    server_end(s);
    client_close(c);
}

const test stop_tests[] = {
    {"a server nobody used stops", a_server_nobody_used_stops, EVERY_MODE},
    {"stop may be called again", stop_may_be_called_again, EVERY_MODE},
    {"many servers start and stop", many_servers_start_and_stop, EVERY_MODE},
    {"a name is free after a stop", a_name_is_free_after_a_stop, EVERY_MODE},
    {"what was written before a stop goes out", what_was_written_before_a_stop_goes_out,
     EVERY_MODE},
    {"a handler may stop its server", a_handler_may_stop_its_server, EVERY_MODE},
    {"a stopping server may be dropped", a_stopping_server_may_be_dropped, FREE_MODES},
    {"a stop ends clients that flood", a_stop_ends_clients_that_flood, EVERY_MODE},
    {"a stop ends answers that nobody reads", a_stop_ends_answers_that_nobody_reads, EVERY_MODE},
    {"a stop ends clients that come and go", a_stop_ends_clients_that_come_and_go, EVERY_MODE},
    {"a stop ends threads that write", a_stop_ends_threads_that_write, EVERY_MODE},
    {"threads may stop at once", threads_may_stop_at_once, EVERY_MODE},
    {"waiting for the end has a limit", waiting_for_the_end_has_a_limit, EVERY_MODE},
    {0},
};
