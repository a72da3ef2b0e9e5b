/* A process with a live server forks. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crew.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

typedef struct child {
    pid_t pid;
    int end;            /* closing it lets the child go */
} child;

/* The child of fork has no thread but this one and may not use what others
 * had locked: it asks, counts what is wrong, and leaves without cleaning up. */
static int failures_in_child(server *s, peer *p) {
    np_error error;
    np_peer who;
    np_stats stats;
    void *token = s->tokens;
    np_endpoint *ep = s->endpoint;
    int failed = 0;
    failed += np_endpoint_is_running(ep);
    failed += np_connection_is_open(p->connection);
    failed += np_connection_handle(p->connection) != 0;
    failed += np_connection_write(p->connection, "x", 1, NULL, NULL, &error) != NP_E_FORKED;
    failed += error.code != NP_E_FORKED;
    failed += np_connection_read(p->connection, NULL) != NP_E_FORKED;
    failed += np_connection_peer(p->connection, &who) != NP_E_FORKED;
    np_connection_close(p->connection);
    np_endpoint_stats(ep, &stats);
    failed += stats.connections != 0;
    failed += np_endpoint_broadcast(ep, NULL, NULL, NULL, NULL) != 0;
    np_endpoint_quit(ep);
    np_endpoint_interrupt(ep);
    np_endpoint_discard(ep);
    failed += np_endpoint_run(ep, token, -1) != NP_RUN_STOPPED;
    failed += np_endpoint_dispatch(ep, token, -1) > 0;
    np_endpoint_stop_begin(ep);
    failed += !np_endpoint_stop_wait(ep, token, -1);
    np_connection_release(p->connection);
    np_endpoint_release(ep);
    return failed;
}

static child fork_child(server *s, peer *p) {
    int ends[2];
    REQUIRE_EQUAL(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        int failed = failures_in_child(s, p);
        char byte;
        while (read(ends[0], &byte, 1) < 0)
            ;
        _exit(failed);
    }
    close(ends[0]);
    REQUIRE(pid > 0);
    return (child){.pid = pid, .end = ends[1]};
}

static void end_child(child *c) {
    int status = -1;
    close(c->end);
    CHECK_EQUAL(waitpid(c->pid, &status, 0), c->pid);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
}

static void a_fork_leaves_the_parent_as_it_is(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    server_token(s);
    client *c = server_client(s);
    client_exchange(c, 100, 1);
    child forked = fork_child(s, server_peer(s, 0));
    client_exchange(c, 100, 2);
    client *later = server_client(s);
    client_exchange(later, 100000, 3);
    client_close(later);
    client_close(c);
    /* The child holds copies of the client's end, which it knows nothing of,
     * so it has to go first. */
    end_child(&forked);
    CHECK_EQUAL(peer_end(server_peer(s, 0)).code, NP_OK);
    server_end(s);
}

static void peers_see_the_parents_close(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    server_token(s);
    client *closed = server_client(s);
    client_exchange(closed, 100, 1);
    client *stopped = server_client(s);
    client_exchange(stopped, 100, 2);
    child forked = fork_child(s, server_peer(s, 0));
    peer_close(server_peer(s, 0));
    CHECK_EQUAL(client_receive(closed, TIMEOUT_MS), CLIENT_END);
    client_exchange(stopped, 100, 3);
    char address[NP_ADDRESS_MAX];
    strcpy(address, server_address(s));
    server_end(s);
    CHECK_EQUAL(client_receive(stopped, TIMEOUT_MS), CLIENT_END);
    CHECK(!client_connect(address));
    end_child(&forked);
    client_close(closed);
    client_close(stopped);
}

static child forked_inside;

static void fork_on_message(peer *p, np_event *e) {
    server_echo(p, e);
    if (e->kind != NP_EVENT_MESSAGE || np_add64(&p->user, 1))
        return;
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(failures_in_child(p->server, p));
    }
    close(ends[0]);
    forked_inside = (child){.pid = pid, .end = ends[1]};
}

static void a_handler_may_fork(void) {
    server *s = server_new();
    s->on_event = fork_on_message;
    server_start(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < 10; i++)
        client_exchange(c, 100, i);
    end_child(&forked_inside);
    client_close(c);
    server_end(s);
}

static void talk(crew *w, unsigned number) {
    (void)number;
    while (crew_goes_on(w))
        client_visit(server_address(w->with), 10);
}

static void forks_at_any_moment_do_no_harm(void) {
    enum { TALKERS = 3, FORKS = 20 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    server_token(s);
    client *c = server_client(s);
    client_exchange(c, 10, 0);
    peer *p = server_peer(s, 0);
    crew talkers;
    crew_start(&talkers, TALKERS, talk, s);
    for (unsigned i = 0; i < FORKS; i++) {
        child forked = fork_child(s, p);
        end_child(&forked);
    }
    crew_end(&talkers);
    client_close(c);
    server_end(s);
}

const test fork_tests[] = {
    {"a fork leaves the parent as it is", a_fork_leaves_the_parent_as_it_is, EVERY_MODE},
    {"peers see the parent's close", peers_see_the_parents_close, EVERY_MODE},
    {"a handler may fork", a_handler_may_fork, EVERY_MODE},
    {"forks at any moment do no harm", forks_at_any_moment_do_no_harm, EVERY_MODE},
    {0},
};
