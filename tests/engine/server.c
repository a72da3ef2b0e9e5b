#include "server.h"

#include <stdlib.h>
#include <string.h>

#include "allocations.h"
#include "host.h"
#include "system.h"

/* ---- the server's life ------------------------------------------------- */

server *server_new(void) {
    server *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    np_config_init(&s->config);
    mode m = harness_mode();
    s->config.marshalled = m == MODE_RUN || m == MODE_DISPATCH || m == MODE_DRIVE;
    s->config.driven = m == MODE_DRIVE;
    s->config.threads = m == MODE_MANY ? 4 : 1;
    s->locks = m != MODE_MANY;
    np_mutex_init(&s->host_lock);
    np_mutex_init(&s->guard);
    system_name(s->name, sizeof s->name);
    return s;
}

/* What an event loop does: calls when the port is readable, and when it was told to. */
static void drive(server *s, void *thread) {
    enum { LOOK_MS = 5 };
    intptr_t waitable = np_endpoint_waitable(s->endpoint);
    int64_t next = 0, due = 0;
    while (!np_load32(&s->ended)) {
        bool late = next >= 0 && np_now() >= due;
        if (!late && !system_waitable(waitable, LOOK_MS))
            continue;
        if (np_endpoint_drive(s->endpoint, thread, &next) < 0)
            system_sleep(1);
        due = np_now() + next;
    }
}

static void run_guest(void *arg) {
    server *s = arg;
    void *thread = server_token(s);
    if (harness_mode() == MODE_RUN) {
        do
            s->guest_result = np_endpoint_run(s->endpoint, thread, -1);
        while (s->guest_result != NP_RUN_STOPPED && s->guest_result != NP_RUN_BUSY);
        return;
    }
    if (harness_mode() == MODE_DRIVE) {
        drive(s, thread);
        return;
    }
    intptr_t waitable = np_endpoint_waitable(s->endpoint);
    while (!np_load32(&s->ended))
        if (system_waitable(waitable, 5) && np_endpoint_dispatch(s->endpoint, thread, 0) < 0)
            system_sleep(1);
}

static void start_guest(server *s) {
    bool spared = allocations_spare(true);
    int os = np_thread_start(&s->guest, run_guest, s);
    allocations_spare(spared);
    REQUIRE_EQUAL(os, 0);
    s->guest_started = true;
}

np_code server_try_start(server *s, np_error *error) {
    np_host host = host_of(s);
    np_code code = np_endpoint_new(&s->config, &host, &s->endpoint, error);
    if (code != NP_OK)
        return code;
    code = s->dials ? np_endpoint_open(s->endpoint, error)
                    : np_endpoint_listen(s->endpoint, s->name, error);
    if (code != NP_OK) {
        np_endpoint_release(s->endpoint);
        CHECK_EQUAL(np_swap32(&s->released, 0), 1);
        return code;
    }
    CHECK(np_endpoint_is_running(s->endpoint));
    if (s->config.marshalled && !s->no_guest)
        start_guest(s);
    return NP_OK;
}

void server_start(server *s) {
    np_error error;
    REQUIRE_EQUAL(server_try_start(s, &error), NP_OK);
}

server *manager_start(void) {
    server *m = server_new();
    m->dials = true;
    server_start(m);
    return m;
}

void server_stop(server *s) {
    np_endpoint_stop_begin(s->endpoint);
    REQUIRE(np_endpoint_stop_wait(s->endpoint, server_token(s), -1));
    CHECK(!np_endpoint_is_running(s->endpoint));
    np_store32(&s->ended, 1);
    if (s->guest_started)
        np_thread_join(s->guest);
    s->guest_started = false;
}

static void check_peers(server *s) {
    for (size_t i = 0; i < s->peer_count; i++) {
        peer *p = s->peers[i];
        if (!p->dialed)
            CHECK_EQUAL(np_load32(&p->connected), 1);
        CHECK_EQUAL(np_load32(&p->connected), np_load32(&p->disconnected));
        CHECK_EQUAL(np_load32(&p->ended), p->dialed);
        CHECK_EQUAL(np_connection_handle(p->connection), 0);
        CHECK_EQUAL(np_connection_pending(p->connection), 0);
        np_connection_release(p->connection);
        free(p);
    }
}

static void check_cookies(server *s) {
    while (s->cookies) {
        cookie *c = s->cookies;
        s->cookies = c->next;
        CHECK_EQUAL(cookie_given(c) + np_load32(&c->dropped), np_load32(&c->expected));
        free(c);
    }
}

void server_release(server *s) {
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    CHECK_EQUAL(stats.connections, 0);
    CHECK_EQUAL(stats.queued_bytes, 0);
    CHECK_EQUAL(stats.queued_events, 0);
    /* Some came too late to be told. */
    CHECK(s->dials || stats.connections_total >= s->peer_count);
    CHECK_EQUAL(np_load32(&s->ready), 1);
    CHECK_EQUAL(np_load32(&s->threads_begun), np_load32(&s->threads_ended));
    CHECK_EQUAL(np_load32(&s->released), 0);
    check_peers(s);
    check_cookies(s);
    np_endpoint_release(s->endpoint);
    CHECK_EQUAL(np_load32(&s->released), 1);
    CHECK_EQUAL(np_load32(&s->made), np_load32(&s->discarded) + np_load32(&s->taken));
    host_free_tokens(s);
    np_mutex_destroy(&s->host_lock);
    np_mutex_destroy(&s->guard);
    free(s->peers);
    free(s);
}

void server_end(server *s) {
    server_stop(s);
    server_release(s);
}

/* ---- clients ----------------------------------------------------------- */

peer *server_try_dial(server *s, const char *name, int64_t timeout_ms, np_error *error) {
    peer *p = host_peer_new(s);
    p->dialed = true;
    int64_t ns = timeout_ms < 0 ? -1 : timeout_ms * 1000000;
    np_code code = np_endpoint_connect(s->endpoint, name, ns, p, &p->connection, error);
    error->code = code;
    if (code == NP_OK) {
        host_peer_add(p);
        return p;
    }
    CHECK(!p->connection);
    free(p);
    return NULL;
}

peer *server_dial(server *s, const char *name, int64_t timeout_ms) {
    np_error error;
    peer *p = server_try_dial(s, name, timeout_ms, &error);
    REQUIRE_EQUAL(error.code, NP_OK);
    return p;
}

/* ---- asking ------------------------------------------------------------ */

const char *server_address(const server *s) { return np_endpoint_address(s->endpoint); }

size_t server_count(server *s) {
    np_mutex_lock(&s->guard);
    size_t count = s->peer_count;
    np_mutex_unlock(&s->guard);
    return count;
}

peer *server_peer(server *s, size_t number) {
    UNTIL(server_count(s) > number);
    np_mutex_lock(&s->guard);
    peer *p = s->peers[number];
    np_mutex_unlock(&s->guard);
    return p;
}

static np_error locked_error(server *s, const np_error *from) {
    np_mutex_lock(&s->guard);
    np_error error = *from;
    np_mutex_unlock(&s->guard);
    return error;
}

np_error server_error(server *s) { return locked_error(s, &s->error); }

np_error peer_error(peer *p) { return locked_error(p->server, &p->error); }

np_error peer_end(peer *p) {
    UNTIL(np_load32(&p->disconnected));
    return locked_error(p->server, &p->end);
}

uint64_t peer_settled_messages(peer *p) {
    uint64_t before, now = np_load64(&p->messages);
    do {
        before = now;
        system_sleep(100);
        now = np_load64(&p->messages);
    } while (now != before);
    return now;
}

void peer_trace(peer *p, char out[64]) {
    np_mutex_lock(&p->server->guard);
    memcpy(out, p->trace, sizeof p->trace);
    np_mutex_unlock(&p->server->guard);
}

void peer_expect_trace(peer *p, const char *expected) {
    char found[64];
    UNTIL_EQUAL(np_load32(&p->ended), 1);
    peer_trace(p, found);
    CHECK(strcmp(found, expected) == 0);
}

/* ---- what a host calls ------------------------------------------------- */

cookie *server_cookie(server *s) {
    cookie *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    np_mutex_lock(&s->guard);
    c->next = s->cookies;
    s->cookies = c;
    np_mutex_unlock(&s->guard);
    return c;
}

uint32_t cookie_given(const cookie *c) {
    return np_load32(&c->sent) + np_load32(&c->failed) + np_load32(&c->read);
}

/* One message is written by the function for one. */
np_code peer_write_many(peer *p, const np_message *messages, size_t count, cookie *c) {
    np_error error;
    const np_message *m = messages;
    server_lock(p->server);
    np_code code = count == 1
                       ? np_connection_write(p->connection, m->data, m->size, m->hold, c, &error)
                       : np_connection_write_many(p->connection, m, count, c, &error);
    np_endpoint_discard(p->server->endpoint);
    server_unlock(p->server);
    if (code == NP_OK && c)
        np_add32(&c->expected, 1);
    if (code != NP_OK) {
        CHECK_EQUAL(error.code, code);
        CHECK_EQUAL(error.activity, NP_DOING_WRITE);
    }
    return code;
}

np_code peer_write(peer *p, const void *data, size_t size, cookie *c) {
    np_message m = {data, size, NULL};
    return peer_write_many(p, &m, 1, c);
}

np_code peer_write_buffer(peer *p, np_buffer *b, cookie *c) {
    np_message m = {np_buffer_data(b), np_buffer_size(b), b};
    return peer_write_many(p, &m, 1, c);
}

np_code peer_write_held(peer *p, size_t size, unsigned seed, cookie *c) {
    np_buffer *b = server_buffer(p->server, size, seed);
    np_code code = peer_write_buffer(p, b, c);
    server_drop(p->server, b);
    return code;
}

np_code peer_write_pattern(peer *p, size_t size, unsigned seed, cookie *c) {
    uint8_t *data = pattern_new(size, seed);
    np_code code = peer_write(p, data, size, c);
    free(data);
    return code;
}

np_code peer_read(peer *p, cookie *c) {
    np_code code = np_connection_read(p->connection, c);
    if (code == NP_OK && c)
        np_add32(&c->expected, 1);
    return code;
}

void peer_close(peer *p) { np_connection_close(p->connection); }

/* A connection that ends may have messages left that can't be answered. */
static void check_answer(peer *p, np_code code) {
    CHECK(code == NP_OK || (code == NP_E_CLOSED && !np_connection_is_open(p->connection)));
}

void server_echo(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_MESSAGE)
        check_answer(p, peer_write(p, e->u.message.data, e->u.message.size, NULL));
}

client *server_client(server *s) {
    client *c = client_connect(server_address(s));
    REQUIRE(c != NULL);
    return c;
}

client *server_client_bytes(server *s) {
    client *c = client_connect_bytes(server_address(s));
    REQUIRE(c != NULL);
    return c;
}
