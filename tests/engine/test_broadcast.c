/* One message to everybody. */
#include "server.h"
#include "suites.h"

enum { MIB = 1 << 20 };

static void take_cookie(void *c) { np_add32(&((cookie *)c)->expected, 1); }

static void drop_cookie(void *c) { np_add32(&((cookie *)c)->dropped, 1); }

static int64_t broadcast(server *s, size_t size, unsigned number, cookie *c) {
    np_buffer *b = server_buffer(s, size, number);
    server_lock(s);
    int64_t count = np_endpoint_broadcast(s->endpoint, b, c, take_cookie, drop_cookie);
    np_endpoint_discard(s->endpoint);
    server_unlock(s);
    server_drop(s, b);
    return count;
}

static void a_broadcast_reaches_everybody(void) {
    enum { CLIENTS = 20 };
    server *s = server_new();
    server_start(s);
    CHECK_EQUAL(broadcast(s, 10, 0, server_cookie(s)), 0);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = server_client(s);
        server_peer(s, i);
    }
    cookie *c = server_cookie(s);
    CHECK_EQUAL(broadcast(s, 1000, 1, c), CLIENTS);
    CHECK_EQUAL(broadcast(s, 100000, 2, NULL), CLIENTS);
    CHECK_EQUAL(broadcast(s, 0, 3, c), CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_expect_patterns(clients[i], 1000, 1, 1);
        client_expect_patterns(clients[i], 100000, 2, 1);
        client_expect_patterns(clients[i], 0, 3, 1);
    }
    UNTIL_EQUAL(np_load32(&c->sent), 2 * CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    server_end(s);
}

static void a_broadcast_waits_for_nobody(void) {
    enum { CLIENTS = 4, COUNT = 100, SIZE = 65536 };
    server *s = server_new();
    s->config.max_pending_bytes = MIB;
    s->config.max_message_size = MIB;
    server_start(s);
    client *clients[CLIENTS];       /* the first never reads */
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = server_client(s);
        server_peer(s, i);
    }
    cookie *c = server_cookie(s);
    unsigned refused = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        size_t count = broadcast(s, SIZE, i, c);
        CHECK(count == CLIENTS || count == CLIENTS - 1);
        refused += count < CLIENTS;
        for (unsigned k = 1; k < CLIENTS; k++)
            client_expect_patterns(clients[k], SIZE, i, 1);
    }
    CHECK(refused > COUNT / 2);
    peer *slow = NULL;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (np_connection_pending(server_peer(s, i)->connection) > MIB / 2)
            slow = server_peer(s, i);
    REQUIRE(slow != NULL);
    UNTIL_EQUAL(np_load64(&slow->errors), refused);
    CHECK_EQUAL(peer_error(slow).code, NP_E_FULL);
    CHECK_EQUAL(peer_error(slow).activity, NP_DOING_BROADCAST);
    CHECK_EQUAL(np_load32(&c->failed), refused);
    CHECK(np_connection_is_open(slow->connection));
    for (unsigned i = 0; i < CLIENTS; i++)
        if (server_peer(s, i) != slow)
            CHECK_EQUAL(np_load64(&server_peer(s, i)->errors), 0);
    client_expect_patterns(clients[0], SIZE, 0, COUNT - refused);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    server_end(s);
}

const test broadcast_tests[] = {
    {"a broadcast reaches everybody", a_broadcast_reaches_everybody, EVERY_MODE},
    {"a broadcast waits for nobody", a_broadcast_waits_for_nobody, EVERY_MODE},
    {0},
};
