/* Events that wait until a thread of the host takes them. */
#include "server.h"
#include "suites.h"
#include "system.h"

#define MS INT64_C(1000000)

static NP_THREAD_LOCAL bool is_guest;

static void check_guest(peer *p, np_event *e) {
    (void)e;
    CHECK(is_guest);
    if (p)
        server_echo(p, e);
}

/* Marshalled, and nobody inside. */
static server *marshalled(void) {
    server *s = server_new();
    s->config.marshalled = true;
    s->no_guest = true;
    s->on_event = check_guest;
    is_guest = true;
    return s;
}

static void dispatch_delivers_what_waits(void) {
    server *s = marshalled();
    server_start(s);
    void *me = server_token(s);
    intptr_t waitable = np_endpoint_waitable(s->endpoint);
    REQUIRE(system_waitable(waitable, TIMEOUT_MS));
    CHECK_EQUAL(np_load32(&s->ready), 0);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 0), 1);
    CHECK_EQUAL(np_load32(&s->ready), 1);
    CHECK(!system_waitable(waitable, 0));
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 0), 0);
    client *c = server_client(s);
    CHECK(client_send(c, "abc", 3));
    CHECK(client_send(c, "def", 3));
    np_stats stats;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.queued_events == 3));
    CHECK(system_waitable(waitable, 0));
    CHECK_EQUAL(server_count(s), 0);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 0), 3);
    CHECK(!system_waitable(waitable, 0));
    CHECK_EQUAL(np_load64(&server_peer(s, 0)->messages), 2);
    client_expect(c, "abc");
    client_expect(c, "def");
    client_close(c);
    REQUIRE(system_waitable(waitable, TIMEOUT_MS));
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 0), 1);
    CHECK_EQUAL(np_load32(&server_peer(s, 0)->disconnected), 1);
    server_end(s);
}

static void dispatch_waits_for_something_to_deliver(void) {
    server *s = marshalled();
    server_start(s);
    void *me = server_token(s);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, -1), 1);
    int64_t begin = np_now();
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 30 * MS), 0);
    CHECK(np_now() - begin >= 30 * MS);
    client *c = server_client(s);
    CHECK(np_endpoint_dispatch(s->endpoint, me, 30000 * MS) > 0);
    CHECK(client_send(c, "abc", 3));
    while (np_load64(&server_peer(s, 0)->messages) == 0)
        CHECK(np_endpoint_dispatch(s->endpoint, me, 30000 * MS) > 0);
    client_expect(c, "abc");
    np_endpoint_quit(s->endpoint);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, -1), 0);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 5 * MS), NP_RUN_TIMEOUT);
    client_close(c);
    server_end(s);
}

static void count_only(peer *p, np_event *e) {
    (void)p, (void)e;
    CHECK(is_guest);
}

/* Nobody dispatches: what waits is bounded, the rest stays with the client. */
static void the_backlog_is_bounded(void) {
    enum { SIZE = 10000, COUNT = 1000 };
    server *s = marshalled();
    s->on_event = count_only;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    sender x;
    sender_start(&x, c, SIZE, 0, COUNT);
    np_stats stats;
    uint64_t before = 0;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.messages_in > 50));
    while (stats.messages_in != before) {
        before = stats.messages_in;
        system_sleep(100);
        np_endpoint_stats(s->endpoint, &stats);
    }
    CHECK(stats.bytes_in > 500000);
    CHECK(stats.bytes_in < 3 << 20);
    while (server_count(s) == 0 || np_load64(&server_peer(s, 0)->messages) < COUNT)
        REQUIRE(np_endpoint_dispatch(s->endpoint, me, 30000 * MS) > 0);
    CHECK(sender_join(&x));
    client_close(c);
    server_end(s);
}

/* What comes while it delivers is the next call's. */
static void dispatch_returns_while_a_client_floods(void) {
    server *s = marshalled();
    s->on_event = count_only;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    sender x;
    sender_start(&x, c, 10, 0, UINT32_MAX);
    for (unsigned i = 0; i < 30; i++) {
        CHECK(np_endpoint_dispatch(s->endpoint, me, 0) >= 0);
        CHECK(np_endpoint_dispatch(s->endpoint, me, MS) >= 0);
    }
    server_stop(s);
    sender_end(&x);
    client_close(c);
    server_release(s);
}

/* ---- guests that come and go ------------------------------------------- */

typedef struct talker {
    server *server;
    np_atomic_u32 done;
    np_thread thread;
} talker;

static void talk(void *arg) {
    talker *t = arg;
    client_visit(server_address(t->server), 500);
    np_store32(&t->done, 1);
}

static void let_guests_come_and_go(uint32_t spin_us) {
    server *s = marshalled();
    s->config.spin_us = spin_us;
    server_start(s);
    void *me = server_token(s);
    talker t = {.server = s};
    REQUIRE_EQUAL(np_thread_start(&t.thread, talk, &t), 0);
    for (unsigned i = 0; !np_load32(&t.done); i++) {
        if (i % 3 == 0)
            np_endpoint_run(s->endpoint, me, i % 2 * MS);
        else if (i % 3 == 1)
            np_endpoint_dispatch(s->endpoint, me, 0);
        else
            np_endpoint_dispatch(s->endpoint, me, MS);
    }
    np_thread_join(t.thread);
    server_end(s);
}

static void guests_may_come_and_go(void) { let_guests_come_and_go(0); }

/* A guest must get in while the worker spins, too. */
static void guests_may_come_and_go_where_workers_spin(void) { let_guests_come_and_go(50); }

/* stop_wait is a guest itself: it delivers what nobody else does. */
static void a_stop_delivers_what_waits(void) {
    server *s = marshalled();
    s->on_event = check_guest;
    server_start(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < 10; i++)
        CHECK(client_send(c, "abc", 3));
    np_stats stats;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.queued_events == 12));
    server_stop(s);
    CHECK_EQUAL(np_load64(&server_peer(s, 0)->messages), 10);
    CHECK_EQUAL(np_load32(&server_peer(s, 0)->disconnected), 1);
    client_close(c);
    server_release(s);
}

static void only_marshalled_servers_have_a_waitable(void) {
    server *s = server_new();
    server_start(s);
    CHECK_EQUAL(np_endpoint_waitable(s->endpoint), -1);
    server_end(s);
}

const test dispatch_tests[] = {
    {"dispatch delivers what waits", dispatch_delivers_what_waits, 0},
    {"dispatch waits for something to deliver", dispatch_waits_for_something_to_deliver, 0},
    {"the backlog is bounded", the_backlog_is_bounded, 0},
    {"dispatch returns while a client floods", dispatch_returns_while_a_client_floods, 0},
    {"guests may come and go", guests_may_come_and_go, 0},
    {"guests may come and go where workers spin", guests_may_come_and_go_where_workers_spin, 0},
    {"a stop delivers what waits", a_stop_delivers_what_waits, 0},
    {"only marshalled servers have a waitable", only_marshalled_servers_have_a_waitable, MODE_FREE},
    {0},
};
