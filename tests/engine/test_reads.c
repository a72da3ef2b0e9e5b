/* continuous_read=false: the host asks for every message.  And the pool, where
 * clients wait for one of a few instances. */
#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

static server *start_manual(void) {
    server *s = server_new();
    s->config.continuous_read = false;
    server_start(s);
    return s;
}

static void as_many_messages_come_as_reads(void) {
    server *s = start_manual();
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < 5; i++)
        CHECK(client_send(c, "0123456789", 10 - i));
    system_sleep(50);
    CHECK_EQUAL(np_load64(&p->messages), 0);
    cookie *first = server_cookie(s);
    CHECK_EQUAL(peer_read(p, first), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    CHECK_EQUAL(np_load32(&first->read), 1);
    CHECK_EQUAL(peer_read(p, NULL), NP_OK);
    CHECK_EQUAL(peer_read(p, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 3);
    system_sleep(20);
    CHECK_EQUAL(np_load64(&p->messages), 3);
    CHECK_EQUAL(np_load64(&p->bytes), 10 + 9 + 8);
    /* Asked for before they come. */
    cookie *cookies[5];
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQUAL(peer_read(p, cookies[i] = server_cookie(s)), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 5);
    for (unsigned i = 0; i < 4; i++)
        CHECK(client_send(c, "late", 4));
    UNTIL_EQUAL(np_load64(&p->messages), 8);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQUAL(np_load32(&cookies[i]->read), 1);
    system_sleep(20);
    CHECK_EQUAL(np_load64(&p->messages), 8);
    client_close(c);
    server_end(s);
}

static void large_messages_are_kept_until_they_are_read(void) {
    server *s = start_manual();
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    static const char data[100000];
    CHECK(client_send(c, data, sizeof data));
    system_sleep(20);
    CHECK_EQUAL(peer_read(p, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&p->bytes), sizeof data);
    client_close(c);
    server_end(s);
}

static void a_peer_that_leaves_is_noticed_without_a_read(void) {
    server *s = start_manual();
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    client_close(c);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    CHECK_EQUAL(peer_read(p, NULL), NP_E_CLOSED);
    server_end(s);
}

static void reads_that_get_no_message_are_given_back(void) {
    server *s = start_manual();
    client *leaves = server_client(s);
    peer *left = server_peer(s, 0);
    cookie *served = server_cookie(s), *eof = server_cookie(s), *eof_too = server_cookie(s);
    CHECK_EQUAL(peer_read(left, served), NP_OK);
    CHECK_EQUAL(peer_read(left, eof), NP_OK);
    CHECK_EQUAL(peer_read(left, NULL), NP_OK);
    CHECK_EQUAL(peer_read(left, eof_too), NP_OK);
    CHECK(client_send(leaves, "x", 1));
    client_close(leaves);
    CHECK_EQUAL(peer_end(left).code, NP_OK);
    CHECK_EQUAL(np_load32(&served->read), 1);
    CHECK_EQUAL(np_load32(&eof->failed), 1);
    CHECK_EQUAL(np_load32(&eof_too->failed), 1);
    CHECK_EQUAL(peer_error(left).code, NP_E_EOF);
    CHECK_EQUAL(peer_error(left).activity, NP_DOING_READ);

    client *stays = server_client(s);
    peer *closed = server_peer(s, 1);
    cookie *canceled = server_cookie(s);
    CHECK_EQUAL(peer_read(closed, canceled), NP_OK);
    peer_close(closed);
    CHECK_EQUAL(peer_read(closed, NULL), NP_E_CLOSED);
    CHECK_EQUAL(peer_end(closed).code, NP_OK);
    CHECK_EQUAL(np_load32(&canceled->failed), 1);
    CHECK_EQUAL(peer_error(closed).code, NP_E_CANCELED);
    client_close(stays);

    client *last = server_client(s);
    cookie *stopped = server_cookie(s);
    CHECK_EQUAL(peer_read(server_peer(s, 2), stopped), NP_OK);
    server_stop(s);
    CHECK_EQUAL(np_load32(&stopped->failed), 1);
    client_close(last);
    server_release(s);
}

static void messages_before_the_end_can_still_be_read(void) {
    server *s = start_manual();
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(client_send(c, "abc", 3));
    client_close(c);
    system_sleep(50);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(peer_read(p, NULL), NP_OK);
        UNTIL_EQUAL(np_load64(&p->messages), i + 1);
    }
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    server_end(s);
}

static void unread_messages_end_with_their_connection(void) {
    server *s = start_manual();
    client *a = server_client(s);
    peer *p = server_peer(s, 0);
    client *b = server_client(s);
    server_peer(s, 1);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(client_send(a, "abc", 3));
        CHECK(client_send(b, "abc", 3));
    }
    system_sleep(20);
    peer_close(p);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    server_end(s);
    client_close(a);
    client_close(b);
}

static void read_is_for_hosts_that_ask(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    CHECK_EQUAL(peer_read(server_peer(s, 0), NULL), NP_E_STATE);
    client_close(c);
    server_end(s);
}

/* ---- max_instances ----------------------------------------------------- */

static void visit(crew *w, unsigned number) {
    (void)number;
    client_visit(server_address(w->with), 1);
}

static void clients_wait_while_all_instances_are_busy(void) {
    enum { POOL = 4, WAITING = 3 };
    server *s = server_new();
    s->config.max_instances = POOL;
    s->on_event = server_echo;
    server_start(s);
    client *clients[POOL];
    for (unsigned i = 0; i < POOL; i++) {
        clients[i] = server_client(s);
        client_exchange(clients[i], 100, i);
    }
    crew more;
    crew_start(&more, WAITING, visit, s);
    system_sleep(100);
    CHECK_EQUAL(server_count(s), POOL);
    for (unsigned i = 0; i < POOL; i++)
        client_exchange(clients[i], 100, i);
    client_close(clients[0]);           /* all that wait take turns on this one */
    crew_join(&more);
    CHECK_EQUAL(server_count(s), POOL + WAITING);
    for (unsigned i = 1; i < POOL; i++) {
        client_exchange(clients[i], 100, i);
        client_close(clients[i]);
    }
    server_end(s);
}

static void an_instance_is_free_again_after_any_end(void) {
    server *s = server_new();
    s->config.max_instances = 1;
    s->config.max_message_size = 1000;
    s->on_event = server_echo;
    server_start(s);
    for (unsigned i = 0; i < 20; i++) {
        client *c = server_client(s);
        client_exchange(c, 100, i);
        static const char large[2000];
        if (i % 3 == 0)
            peer_close(server_peer(s, i));
        else if (i % 3 == 1)
            client_send(c, large, sizeof large);
        if (i % 3 != 2)
            CHECK(client_receive(c, TIMEOUT_MS) < 0);
        client_close(c);
    }
    CHECK_EQUAL(server_count(s), 20);
    server_end(s);
}

const test reads_tests[] = {
    {"as many messages come as reads", as_many_messages_come_as_reads, EVERY_MODE},
    {"large messages are kept until they are read", large_messages_are_kept_until_they_are_read,
     EVERY_MODE},
    {"a peer that leaves is noticed without a read", a_peer_that_leaves_is_noticed_without_a_read,
     EVERY_MODE},
    {"reads that get no message are given back", reads_that_get_no_message_are_given_back,
     EVERY_MODE},
    {"messages before the end can still be read", messages_before_the_end_can_still_be_read,
     EVERY_MODE},
    {"unread messages end with their connection", unread_messages_end_with_their_connection,
     EVERY_MODE},
    {"read is for hosts that ask", read_is_for_hosts_that_ask, MODE_FREE},
    {"clients wait while all instances are busy", clients_wait_while_all_instances_are_busy,
     EVERY_MODE},
    {"an instance is free again after any end", an_instance_is_free_again_after_any_end,
     EVERY_MODE},
    {0},
};
