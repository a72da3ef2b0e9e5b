/* Epoll reports what is ready again and again: while the server has a reason
 * not to take it, that must cost nothing. */
#include <time.h>

#include "linux_suites.h"
#include "server.h"
#include "system.h"

enum { MS = 1000000 };

static int64_t processor_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 * MS + t.tv_nsec;
}

/* What was under way may take a while on a busy machine, but it ends. */
static void check_idle(void) {
    enum { LOOKS = 50 };
    int64_t taken = 50 * MS;
    for (unsigned i = 0; i < LOOKS && taken >= 50 * MS; i++) {
        system_sleep(20);
        int64_t before = processor_time();
        system_sleep(150);
        taken = processor_time() - before;
    }
    CHECK(taken < 50 * MS);
}

static void unread_messages_cost_nothing(void) {
    server *s = server_new();
    s->config.continuous_read = false;
    server_start(s);
    client *stays = server_client(s);
    CHECK(client_send(stays, "abc", 3));
    UNTIL_EQUAL(server_count(s), 1);
    system_sleep(20);
    CHECK(client_send(stays, "def", 3));
    check_idle();
    client_close(stays);
    check_idle();
    CHECK_EQUAL(np_load32(&server_peer(s, 0)->disconnected), 0);
    server_end(s);
}

static void waiting_clients_cost_nothing(void) {
    server *s = server_new();
    s->config.max_instances = 1;
    s->on_event = server_echo;
    server_start(s);
    client *served = server_client(s), *waits = server_client(s);
    client_exchange(served, 10, 1);
    check_idle();
    client_close(served);
    client_exchange(waits, 10, 2);
    client_close(waits);
    server_end(s);
}

static void a_peer_that_does_not_read_costs_nothing(void) {
    server *s = server_new();
    s->on_event = server_echo;
    s->config.write_high_water = 1000;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    sender x;
    sender_start(&x, c, 3000, 0, 1000);
    UNTIL(np_connection_pending(p->connection) > 1000);
    check_idle();
    client_expect_patterns(c, 3000, 0, 1000);
    CHECK(sender_join(&x));
    client_close(c);
    server_end(s);
}

static void a_connection_that_lingers_costs_nothing(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    CHECK(client_send(c, "abc", 3));
    CHECK_EQUAL(peer_write_pattern(p, 4 << 20, 1, NULL), NP_OK);
    peer_close(p);
    CHECK(client_send(c, "abc", 3));
    check_idle();
    CHECK(client_end_sending(c));
    check_idle();
    client_expect_pattern(c, 4 << 20, 1);
    client_close(c);
    server_end(s);
}

const test idle_tests[] = {
    {"unread messages cost nothing", unread_messages_cost_nothing, MODE_FREE | MODE_DISPATCH},
    {"waiting clients cost nothing", waiting_clients_cost_nothing, MODE_FREE | MODE_DISPATCH},
    {"a peer that does not read costs nothing", a_peer_that_does_not_read_costs_nothing,
     MODE_FREE | MODE_DISPATCH},
    {"a connection that lingers costs nothing", a_connection_that_lingers_costs_nothing,
     MODE_FREE | MODE_DISPATCH},
    {0},
};
