/* run and quit: a thread of the host that waits, and where events are marshalled
 * takes them. */
#include "server.h"
#include "suites.h"
#include "system.h"

#define MS INT64_C(1000000)

static void run_ends_when_its_time_is_up(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    int64_t begin = np_now();
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 40 * MS), NP_RUN_TIMEOUT);
    int64_t took = np_now() - begin;
    CHECK(took >= 40 * MS && took < 10000 * MS);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 0), NP_RUN_TIMEOUT);
    server_end(s);
}

static void run_ends_in_time_while_a_client_floods(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    sender x;
    sender_start(&x, c, 10, 0, UINT32_MAX);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 5 * MS), NP_RUN_TIMEOUT);
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 0), NP_RUN_TIMEOUT);
    }
    server_stop(s);
    sender_end(&x);
    client_close(c);
    server_release(s);
}

static void quit_before_run_ends_the_next_run(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    np_endpoint_quit(s->endpoint);
    np_endpoint_quit(s->endpoint);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_QUIT);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 10 * MS), NP_RUN_TIMEOUT);
    CHECK(np_endpoint_is_running(s->endpoint));
    server_end(s);
}

typedef struct caller {
    server *server;
    unsigned delay_ms;
    void (*call)(np_endpoint *endpoint);
    np_thread thread;
} caller;

static void call_later(void *arg) {
    caller *c = arg;
    system_sleep(c->delay_ms);
    c->call(c->server->endpoint);
}

static void start_caller(caller *c, server *s, unsigned delay_ms, void (*call)(np_endpoint *)) {
    *c = (caller){.server = s, .delay_ms = delay_ms, .call = call};
    REQUIRE_EQUAL(np_thread_start(&c->thread, call_later, c), 0);
}

static void quit_ends_the_current_run(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    for (unsigned i = 0; i < 20; i++) {
        caller c;
        start_caller(&c, s, i % 5, np_endpoint_quit);
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_QUIT);
        np_thread_join(c.thread);
    }
    server_end(s);
}

static void quit_on_message(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_MESSAGE) {
        server_echo(p, e);
        np_endpoint_quit(p->server->endpoint);
    }
}

static void a_handler_may_quit(void) {
    server *s = server_new();
    s->no_guest = true;
    s->on_event = quit_on_message;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(client_send(c, "quit", 4));
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_QUIT);
        client_expect(c, "quit");
    }
    client_close(c);
    server_end(s);
}

static void a_stop_ends_run(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    caller stopper;
    start_caller(&stopper, s, 20, np_endpoint_stop_begin);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_STOPPED);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_STOPPED);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, -1), 0);
    np_thread_join(stopper.thread);
    server_end(s);
    client_close(c);
}

static void interrupted_hosts_leave_run(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    caller c;
    start_caller(&c, s, 10, np_endpoint_interrupt);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 100 * MS), NP_RUN_TIMEOUT);
    np_thread_join(c.thread);
    np_store32(&s->interrupt, 1);
    for (unsigned i = 0; i < 10; i++) {
        start_caller(&c, s, i % 3, np_endpoint_interrupt);
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_INTERRUPTED);
        np_thread_join(c.thread);
    }
    np_store32(&s->interrupt, 0);
    server_end(s);
}

/* The wake of an interrupt must not be lost on a poller that is not asleep. */
static void an_interrupt_is_seen_between_events(void) {
    server *s = server_new();
    s->no_guest = true;
    s->config.spin_us = 500;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    np_store32(&s->interrupt, 1);
    for (unsigned i = 0; i < 200; i++) {
        caller interrupter;
        start_caller(&interrupter, s, 0, np_endpoint_interrupt);
        CHECK(client_send(c, "x", 1));
        CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_INTERRUPTED);
        np_thread_join(interrupter.thread);
    }
    np_store32(&s->interrupt, 0);
    server_end(s);
    client_close(c);
}

static void a_delivery_may_end_run(void) {
    server *s = server_new();
    s->no_guest = true;
    s->on_event = server_echo;
    server_start(s);
    void *me = server_token(s);
    client *c = server_client(s);
    np_store32(&s->leave, 1);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_INTERRUPTED);
    CHECK_EQUAL(np_load32(&s->leave), 0);
    CHECK(client_send(c, "abc", 3));
    caller quitter;
    start_caller(&quitter, s, 50, np_endpoint_quit);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, -1), NP_RUN_QUIT);
    np_thread_join(quitter.thread);
    client_expect(c, "abc");
    client_close(c);
    server_end(s);
}

/* ---- one guest at a time ----------------------------------------------- */

typedef struct runner {
    server *server;
    void *token;
    np_run_result result;
    np_thread thread;
} runner;

static void run_until_quit(void *arg) {
    runner *r = arg;
    do      /* the other thread may be faster */
        r->result = np_endpoint_run(r->server->endpoint, r->token, -1);
    while (r->result == NP_RUN_BUSY);
}

static void a_second_run_is_busy(void) {
    server *s = server_new();
    s->no_guest = true;
    server_start(s);
    void *me = server_token(s);
    runner r = {.server = s, .token = server_token(s)};
    REQUIRE_EQUAL(np_thread_start(&r.thread, run_until_quit, &r), 0);
    UNTIL(np_endpoint_run(s->endpoint, me, 0) == NP_RUN_BUSY);
    if (s->config.marshalled)
        CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, me, 0), -1);
    np_endpoint_quit(s->endpoint);
    np_thread_join(r.thread);
    CHECK_EQUAL(r.result, NP_RUN_QUIT);
    CHECK_EQUAL(np_endpoint_run(s->endpoint, me, 0), NP_RUN_TIMEOUT);
    server_end(s);
}

static void run_inside(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    server *s = p->server;
    CHECK_EQUAL(np_endpoint_run(s->endpoint, s->user, -1), NP_RUN_BUSY);
    CHECK_EQUAL(np_endpoint_dispatch(s->endpoint, s->user, 0), s->config.marshalled ? -1 : 0);
    server_echo(p, e);
}

static void run_inside_a_handler_is_busy(void) {
    server *s = server_new();
    s->on_event = run_inside;
    s->user = server_token(s);
    server_start(s);
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    client_close(c);
    server_end(s);
}

const test run_tests[] = {
    {"run ends when its time is up", run_ends_when_its_time_is_up, FREE_MODES | MODE_RUN},
    {"run ends in time while a client floods", run_ends_in_time_while_a_client_floods, MODE_RUN},
    {"quit before run ends the next run", quit_before_run_ends_the_next_run, FREE_MODES | MODE_RUN},
    {"quit ends the current run", quit_ends_the_current_run, FREE_MODES | MODE_RUN},
    {"a handler may quit", a_handler_may_quit, FREE_MODES | MODE_RUN},
    {"a stop ends run", a_stop_ends_run, FREE_MODES | MODE_RUN},
    {"interrupted hosts leave run", interrupted_hosts_leave_run, FREE_MODES | MODE_RUN},
    {"an interrupt is seen between events", an_interrupt_is_seen_between_events, MODE_RUN},
    {"a delivery may end run", a_delivery_may_end_run, MODE_RUN},
    {"a second run is busy", a_second_run_is_busy, FREE_MODES | MODE_RUN},
    {"run inside a handler is busy", run_inside_a_handler_is_busy, EVERY_MODE},
    {0},
};
