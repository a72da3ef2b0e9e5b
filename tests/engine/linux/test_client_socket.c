/* What only sockets have: abstract names, whose server it is, files that a crash
 * left behind, and fork beside clients. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crew.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

static server *manager_new(bool owner_only) {
    server *m = server_new();
    m->dials = true;
    m->config.owner_only = owner_only;
    server_start(m);
    return m;
}

static void a_server_of_this_user_is_taken(void) {
    for (unsigned i = 0; i < 4; i++) {
        server *s = server_new(), *m = manager_new(i % 2);
        if (i > 1) {
            memmove(s->name + 1, s->name, strlen(s->name) + 1);
            s->name[0] = '@';
        }
        server_start(s);
        peer *p = server_dial(m, s->name, 5000);
        UNTIL_EQUAL(np_load32(&p->connected), 1);
        np_peer who;
        CHECK_EQUAL(np_connection_peer(p->connection, &who), NP_OK);
        CHECK_EQUAL(who.uid, geteuid());
        CHECK_EQUAL(who.pid, getpid());
        server_end(m);
        server_end(s);
    }
}

static void dead_files_and_other_files_are_no_servers(void) {
    server *m = manager_new(false);
    char name[64], address[NP_ADDRESS_MAX];
    np_error error = {0};
    system_name(name, sizeof name);
    REQUIRE_EQUAL(np_address(name, address, sizeof address, &error), NP_OK);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, address, strlen(address));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE_EQUAL(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
    close(fd);
    peer *p = server_dial(m, name, 0);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    CHECK_EQUAL(peer_error(p).code, NP_E_NOT_FOUND);
    unlink(address);
    REQUIRE_EQUAL(mkdir(address, 0700), 0);
    p = server_dial(m, name, 0);
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    CHECK(peer_error(p).code != NP_OK);
    rmdir(address);
    server_end(m);
}

/* ---- fork -------------------------------------------------------------- */

static int failures_in_child(server *m, peer *live, peer *pending, int fd) {
    np_connection *c = NULL;
    np_error error;
    int failed = 0;
    failed += np_endpoint_is_running(m->endpoint);
    failed += np_connection_is_open(live->connection);
    failed += np_connection_is_opening(pending->connection);
    failed += np_connection_handle(live->connection) != 0;
    failed += np_endpoint_connect(m->endpoint, "x", 0, NULL, &c, &error) != NP_E_FORKED;
    failed += c != NULL;
    failed += fcntl(fd, F_GETFD) != -1;
    np_connection_close(live->connection);
    np_connection_close(pending->connection);
    np_endpoint_stop_begin(m->endpoint);
    failed += !np_endpoint_stop_wait(m->endpoint, m->tokens, -1);
    return failed;
}

static void a_child_of_fork_holds_no_client_open(void) {
    server *s = server_new(), *m = manager_new(false);
    s->on_event = server_echo;
    server_start(s);
    server_token(m);
    char nobody[64];
    system_name(nobody, sizeof nobody);
    peer *live = server_dial(m, s->name, 5000);
    peer *pending = server_dial(m, nobody, -1);
    UNTIL_EQUAL(np_load32(&live->connected), 1);
    int fd = (int)np_connection_handle(live->connection), ends[2];
    server_peer(s, 0);
    REQUIRE_EQUAL(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        int failed = failures_in_child(m, live, pending, fd);
        char byte;
        while (read(ends[0], &byte, 1) < 0)
            ;
        _exit(failed);
    }
    close(ends[0]);
    CHECK_EQUAL(peer_write(live, "hello", 5, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&live->messages), 1);
    peer_close(live);
    CHECK_EQUAL(peer_end(server_peer(s, 0)).code, NP_OK);
    int status = -1;
    close(ends[1]);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
    server_end(m);
    server_end(s);
}

static void connect_and_close(crew *w, unsigned number) {
    (void)number;
    peer *first = w->with;
    while (crew_goes_on(w)) {
        peer *p = server_dial(first->server, np_connection_address(first->connection), 5000);
        UNTIL(np_load32(&p->connected));
        peer_close(p);
    }
}

static void forks_beside_clients_do_no_harm(void) {
    enum { FORKS = 20 };
    server *s = server_new(), *m = manager_new(false);
    server_start(s);
    peer *first = server_dial(m, s->name, 5000);
    UNTIL_EQUAL(np_load32(&first->connected), 1);
    crew clients;
    crew_start(&clients, 1, connect_and_close, first);
    for (unsigned i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            _exit(np_connection_is_open(first->connection));
        }
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 0);
    }
    crew_end(&clients);
    server_end(m);
    server_end(s);
}

const test client_socket_tests[] = {
    {"a server of this user is taken", a_server_of_this_user_is_taken, MODE_FREE},
    {"dead files and other files are no servers", dead_files_and_other_files_are_no_servers,
     MODE_FREE},
    {"a child of fork holds no client open", a_child_of_fork_holds_no_client_open, EVERY_MODE},
    {"forks beside clients do no harm", forks_beside_clients_do_no_harm, EVERY_MODE},
    {0},
};
