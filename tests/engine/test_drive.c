/* Driven by an event loop, and what such a host asks for beside events. */
#include <string.h>

#include "server.h"
#include "suites.h"
#include "system.h"

static int64_t drive(server *s, void *thread) {
    int64_t next;
    return np_endpoint_drive(s->endpoint, thread, &next);
}

static void without_a_thread_the_port_says_when(void) {
    server *s = server_new();
    s->no_guest = true;
    s->on_event = server_echo;
    server_start(s);
    void *thread = server_token(s);
    intptr_t waitable = np_endpoint_waitable(s->endpoint);
    CHECK(system_waitable(waitable, 0));
    CHECK_EQUAL(drive(s, thread), 1);           /* READY */
    CHECK(!system_waitable(waitable, 20));
    client *c = server_client(s);
    REQUIRE(system_waitable(waitable, TIMEOUT_MS));
    while (server_count(s) == 0)
        drive(s, thread);
    CHECK(!system_waitable(waitable, 20));
    client_send(c, "hello", 5);
    REQUIRE(system_waitable(waitable, TIMEOUT_MS));
    drive(s, thread);
    client_expect(c, "hello");
    CHECK(!system_waitable(waitable, 20));
    peer_close(server_peer(s, 0));              /* posted from outside */
    CHECK(system_waitable(waitable, 0));
    while (!np_load32(&server_peer(s, 0)->disconnected))
        drive(s, thread);
    CHECK_EQUAL(np_load32(&s->threads_begun), 0);
    client_close(c);
    server_end(s);
}

static void only_where_a_port_can_be_watched(void) {
    server *s = server_new();
    np_host host = {0};
    np_error error;
    np_endpoint *ep = NULL;
    s->config.marshalled = false;
    s->config.driven = true;
    CHECK_EQUAL(np_endpoint_new(&s->config, &host, &ep, &error), NP_E_INVALID);
    CHECK(!ep);
    s->config.driven = false;
    server_start(s);
    server_end(s);
}

static void a_peer_that_ends_its_sending_is_kept(void) {
    char trace[64];
    server *s = server_new();
    s->config.keep_ended = true;
    server_start(s);
    client *c = server_client(s);
    client_send(c, "one", 3);
    if (!client_end_sending(c)) {
        client_close(c);
        server_end(s);
        harness_skip("a pipe ends both ways at once");
        return;
    }
    peer *p = server_peer(s, 0);
    UNTIL((peer_trace(p, trace), strcmp(trace, "CMN") == 0));
    CHECK(np_connection_is_open(p->connection));
    CHECK_EQUAL(peer_write(p, "reply", 5, NULL), NP_OK);
    client_expect(c, "reply");
    peer_close(p);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    CHECK_EQUAL(client_receive(c, TIMEOUT_MS), CLIENT_END);
    client_close(c);
    server_end(s);
}

static void a_peer_that_has_left_ends_with_the_next_write_or_close(void) {
    server *s = server_new();
    s->config.keep_ended = true;
    server_start(s);
    client *gone = server_client(s), *other = server_client(s);
    peer *written = server_peer(s, 0), *closed = server_peer(s, 1);
    client_close(gone);
    client_close(other);
    while (peer_write(written, "x", 1, NULL) == NP_OK && !np_load32(&written->disconnected))
        system_sleep(1);
    UNTIL(np_load32(&written->disconnected));
    peer_close(closed);
    CHECK_EQUAL(peer_end(closed).code, NP_OK);
    server_end(s);
}

static void nothing_is_read_while_paused(void) {
    enum { COUNT = 400, SIZE = 10000 };
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    np_connection_pause(p->connection, true);
    sender x;
    sender_start(&x, c, SIZE, 0, COUNT);
    CHECK(peer_settled_messages(p) < COUNT / 2);
    np_connection_pause(p->connection, false);
    CHECK(sender_join(&x));
    UNTIL_EQUAL(np_load64(&p->messages), COUNT);
    client_close(c);
    server_end(s);
}

static void those_that_are_there_go_on_when_nobody_listens(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    server_peer(s, 0);
    np_endpoint_stop_listening(s->endpoint);
    np_endpoint_stop_listening(s->endpoint);
    CHECK(client_connect(server_address(s)) == NULL);
    client_exchange(c, 1000, 1);
    CHECK(np_endpoint_is_running(s->endpoint));
    client_close(c);
    server_end(s);
}

const test drive_tests[] = {
    {"without a thread the port says when", without_a_thread_the_port_says_when, MODE_DRIVE},
    {"only what is marshalled can be driven", only_where_a_port_can_be_watched, MODE_FREE},
    {"a peer that ends its sending is kept", a_peer_that_ends_its_sending_is_kept, EVERY_MODE},
    {"a peer that has left ends with the next write or close",
     a_peer_that_has_left_ends_with_the_next_write_or_close, EVERY_MODE},
    {"nothing is read while paused", nothing_is_read_while_paused, EVERY_MODE},
    {"those that are there go on when nobody listens",
     those_that_are_there_go_on_when_nobody_listens, MODE_FREE},      /* a client waits long */
    {0},
};
