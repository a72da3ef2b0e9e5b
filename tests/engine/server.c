#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "system.h"

enum { TOKEN_MAGIC = 0x7450, GROWTH = 100 };

/* What stands for a thread towards the host. */
typedef struct token {
    struct token *next;             /* of the server's, where it is a guest's */
    unsigned magic;
    server *server;
    struct token *outer;            /* this thread was inside already */
} token;

/* The host's memory behind a buffer. */
typedef struct memory {
    server *server;
    uint8_t *data;
} memory;

static NP_THREAD_LOCAL token *inside;   /* between enter and leave */

static NP_THREAD_LOCAL const server *holding;   /* between server_lock and unlock */

static bool is_inside(const server *s) {
    for (const token *t = inside; t; t = t->outer)
        if (t->server == s)
            return true;
    return false;
}

/* ---- threads and the host's lock --------------------------------------- */

static token *token_new(server *s) {
    token *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->magic = TOKEN_MAGIC;
    t->server = s;
    return t;
}

void *server_token(server *s) {
    token *t = token_new(s);
    np_mutex_lock(&s->guard);
    t->next = s->tokens;
    s->tokens = t;
    np_mutex_unlock(&s->guard);
    return t;
}

static void *thread_begin(void *user) {
    server *s = user;
    np_add32(&s->threads_begun, 1);
    return token_new(s);
}

static void thread_end(void *user, void *thread) {
    server *s = user;
    CHECK(!is_inside(s));
    free(thread);
    np_add32(&s->threads_ended, 1);
}

/* Says now and then that it took long, as that is a path of its own. */
static bool enter(void *user, void *thread) {
    server *s = user;
    token *t = thread;
    CHECK(t && t->magic == TOKEN_MAGIC && t->server == s);
    CHECK(!is_inside(s));
    bool contended = np_add32(&s->enters, 1) % 4 == 3;
    if (s->locks && !np_mutex_trylock(&s->host_lock)) {
        np_mutex_lock(&s->host_lock);
        contended = true;
    }
    t->outer = inside;
    inside = t;
    return contended;
}

static void leave(void *user, void *thread) {
    server *s = user;
    CHECK(inside == thread);
    inside = inside->outer;
    if (s->locks)
        np_mutex_unlock(&s->host_lock);
}

void server_lock(server *s) {
    if (is_inside(s))
        return;
    if (s->locks)
        np_mutex_lock(&s->host_lock);
    holding = s;
}

void server_unlock(server *s) {
    if (is_inside(s))
        return;
    holding = NULL;
    if (s->locks)
        np_mutex_unlock(&s->host_lock);
}

static bool interrupted(void *user, void *thread) {
    server *s = user;
    CHECK(((token *)thread)->server == s);
    CHECK(!is_inside(s));
    return !np_load32(&s->interrupt);
}

/* ---- buffers ----------------------------------------------------------- */

/* More than asked for: a host may round up. */
static bool grow(np_buffer *buffer, size_t capacity) {
    memory *m = np_buffer_owner(buffer);
    CHECK(is_inside(m->server));
    uint8_t *data = realloc(m->data, capacity + GROWTH);
    if (!data)
        return false;
    m->data = data;
    np_buffer_set(buffer, m, data, capacity + GROWTH);
    return true;
}

static const np_buffer_ops buffer_ops = {.grow = grow};

static np_buffer *make_buffer(server *s, size_t size) {
    memory *m = malloc(sizeof *m);
    uint8_t *data = calloc(1, size ? size : 1);
    np_buffer *b = m && data ? np_buffer_wrap(data, size, &buffer_ops, m) : NULL;
    if (!b)
        abort();
    *m = (memory){.server = s, .data = data};
    np_add32(&s->made, 1);
    return b;
}

static np_buffer *buffer_new(void *user, size_t size) {
    CHECK(is_inside(user));
    return make_buffer(user, size);
}

static void free_buffer(np_buffer *b) {
    memory *m = np_buffer_owner(b);
    if (m) {
        free(m->data);
        free(m);
    }
    np_buffer_free(b);
}

static void discard(void *user, np_buffer *b) {
    server *s = user;
    memory *m = np_buffer_owner(b);
    CHECK(is_inside(s) || holding == s);
    CHECK(m && m->server == s);
    np_add32(&s->discarded, 1);
    free_buffer(b);
}

np_buffer *server_buffer(server *s, size_t size, unsigned seed) {
    np_buffer *b = make_buffer(s, size);
    pattern_fill(np_buffer_data(b), size, seed);
    return b;
}

void server_drop(server *s, np_buffer *b) {
    if (!np_buffer_drop(b))
        return;
    np_add32(&s->discarded, 1);
    free_buffer(b);
}

/* ---- events ------------------------------------------------------------ */

static peer *add_peer(server *s, np_connection *c) {
    peer *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->server = s;
    p->connection = c;
    np_connection_retain(c);
    np_connection_set_user(c, p);
    np_mutex_lock(&s->guard);
    if (s->peer_count == s->peer_capacity) {
        s->peer_capacity = s->peer_capacity ? s->peer_capacity * 2 : 64;
        s->peers = realloc(s->peers, s->peer_capacity * sizeof *s->peers);
        if (!s->peers)
            abort();
    }
    p->number = (unsigned)s->peer_count;
    s->peers[s->peer_count++] = p;
    np_mutex_unlock(&s->guard);
    return p;
}

static void trace(peer *p, np_event_kind kind) {
    np_mutex_lock(&p->server->guard);
    if (p->trace_size < sizeof p->trace - 1)
        p->trace[p->trace_size++] = "RCMSLED"[kind];
    np_mutex_unlock(&p->server->guard);
}

static void count_cookie(np_event *e) {
    cookie *c = e->cookie;
    if (!c)
        return;
    CHECK(e->kind == NP_EVENT_SENT || e->kind == NP_EVENT_ERROR || e->kind == NP_EVENT_MESSAGE);
    np_add32(e->kind == NP_EVENT_SENT ? &c->sent
                                      : e->kind == NP_EVENT_ERROR ? &c->failed : &c->read, 1);
}

static void keep_error(server *s, np_error *to, const np_event *e) {
    np_mutex_lock(&s->guard);
    *to = e->u.error;
    np_mutex_unlock(&s->guard);
}

static void count_event(server *s, peer *p, np_event *e) {
    switch (e->kind) {
    case NP_EVENT_READY:
        CHECK(!p);
        np_add32(&s->ready, 1);
        break;
    case NP_EVENT_CONNECTED:
        np_add32(&p->connected, 1);
        break;
    case NP_EVENT_MESSAGE:
        np_add64(&p->bytes, e->u.message.size);
        break;
    case NP_EVENT_ERROR:
        CHECK(e->u.error.code > NP_PENDING);
        CHECK(e->u.error.activity != NP_DOING_NOTHING);
        keep_error(s, p ? &p->error : &s->error, e);
        break;
    case NP_EVENT_DISCONNECTED:
        CHECK(!np_connection_is_open(p->connection));
        keep_error(s, &p->end, e);
        break;
    default:
        break;
    }
}

/* What a test waits for is counted when the test's own function has seen it. */
static void count_after(server *s, peer *p, np_event_kind kind) {
    switch (kind) {
    case NP_EVENT_MESSAGE: np_add64(&p->messages, 1); break;
    case NP_EVENT_SENT: np_add64(&p->sent, 1); break;
    case NP_EVENT_DRAINED: np_add64(&p->drained, 1); break;
    case NP_EVENT_ERROR: np_add64(p ? &p->errors : &s->errors, 1); break;
    case NP_EVENT_DISCONNECTED: np_add32(&p->disconnected, 1); break;
    default: break;
    }
}

static void take_message(server *s, np_event *e) {
    np_buffer *b = e->u.message.buffer;
    if (!b)
        return;
    CHECK(np_buffer_data(b) == e->u.message.data);
    CHECK_EQUAL(np_buffer_size(b), e->u.message.size);
    if (np_buffer_owner(b))
        np_add32(&s->taken, 1);
    free_buffer(b);
    e->u.message.buffer = NULL;
}

static void deliver_one(server *s, np_event *e) {
    peer *p = NULL;
    np_event_kind kind = e->kind;
    if (e->connection) {
        if (kind == NP_EVENT_CONNECTED)
            p = add_peer(s, e->connection);
        else
            p = np_connection_user(e->connection);
        CHECK(p != NULL);
        if (!p)
            return;
        CHECK_EQUAL(np_swap32(&p->inside, 1), 0);
        CHECK_EQUAL(np_load32(&p->connected), kind != NP_EVENT_CONNECTED);
        CHECK_EQUAL(np_load32(&p->disconnected), 0);
        CHECK(np_connection_endpoint(e->connection) == s->endpoint);
        trace(p, kind);
    }
    count_cookie(e);
    count_event(s, p, e);
    if (s->on_event)
        s->on_event(p, e);
    if (kind == NP_EVENT_MESSAGE && s->take_messages)
        take_message(s, e);
    if (p)
        np_store32(&p->inside, 0);
    count_after(s, p, kind);
}

static bool deliver(void *user, void *thread, np_event *events, size_t count) {
    server *s = user;
    CHECK(inside == thread);
    CHECK(count > 0);
    CHECK(np_endpoint_is_inside(s->endpoint));
    for (size_t i = 0; i < count; i++)
        deliver_one(s, &events[i]);
    return !np_swap32(&s->leave, 0);
}

static void released(void *user) { np_add32(&((server *)user)->released, 1); }

/* ---- the server's life ------------------------------------------------- */

server *server_new(void) {
    server *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    np_config_init(&s->config);
    mode m = harness_mode();
    s->config.marshalled = m == MODE_RUN || m == MODE_DISPATCH;
    s->config.threads = m == MODE_MANY ? 4 : 1;
    s->locks = m != MODE_MANY;
    np_mutex_init(&s->host_lock);
    np_mutex_init(&s->guard);
    system_name(s->name, sizeof s->name);
    return s;
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
    intptr_t waitable = np_endpoint_waitable(s->endpoint);
    while (!np_load32(&s->ended))
        if (system_waitable(waitable, 5) && np_endpoint_dispatch(s->endpoint, thread, 0) < 0)
            system_sleep(1);
}

void server_start(server *s) {
    np_host host = {
        .user = s, .thread_begin = thread_begin, .thread_end = thread_end, .enter = enter,
        .leave = leave, .deliver = deliver, .buffer_new = buffer_new, .discard = discard,
        .interrupted = interrupted, .released = released,
    };
    np_error error;
    REQUIRE_EQUAL(np_endpoint_new(&s->config, &host, &s->endpoint, &error), NP_OK);
    REQUIRE_EQUAL(np_endpoint_listen(s->endpoint, s->name, &error), NP_OK);
    CHECK(np_endpoint_is_running(s->endpoint));
    if (s->config.marshalled && !s->no_guest) {
        REQUIRE_EQUAL(np_thread_start(&s->guest, run_guest, s), 0);
        s->guest_started = true;
    }
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
        CHECK_EQUAL(np_load32(&p->connected), 1);
        CHECK_EQUAL(np_load32(&p->disconnected), 1);
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
    CHECK(stats.connections_total >= s->peer_count);    /* some came too late to be told of */
    CHECK_EQUAL(np_load32(&s->ready), 1);
    CHECK_EQUAL(np_load32(&s->threads_begun), np_load32(&s->threads_ended));
    CHECK_EQUAL(np_load32(&s->released), 0);
    check_peers(s);
    check_cookies(s);
    np_endpoint_release(s->endpoint);
    CHECK_EQUAL(np_load32(&s->released), 1);
    CHECK_EQUAL(np_load32(&s->made), np_load32(&s->discarded) + np_load32(&s->taken));
    while (s->tokens) {
        token *next = s->tokens->next;
        free(s->tokens);
        s->tokens = next;
    }
    np_mutex_destroy(&s->host_lock);
    np_mutex_destroy(&s->guard);
    free(s->peers);
    free(s);
}

void server_end(server *s) {
    server_stop(s);
    server_release(s);
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

void peer_trace(peer *p, char out[64]) {
    np_mutex_lock(&p->server->guard);
    memcpy(out, p->trace, sizeof p->trace);
    np_mutex_unlock(&p->server->guard);
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

/* ---- clients ----------------------------------------------------------- */

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

/* The seed, then bytes that repeat with no period a block size has. */
void pattern_fill(uint8_t *to, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(i < 4 ? seed >> (8 * i) : (i + seed) % 251);
}

bool pattern_is(const uint8_t *data, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (data[i] != (uint8_t)(i < 4 ? seed >> (8 * i) : (i + seed) % 251))
            return false;
    return true;
}

uint8_t *pattern_new(size_t size, unsigned seed) {
    uint8_t *data = calloc(1, size ? size : 1);
    if (!data)
        abort();
    pattern_fill(data, size, seed);
    return data;
}

void client_expect_pattern(client *c, size_t size, unsigned seed) {
    REQUIRE_EQUAL(client_receive(c, TIMEOUT_MS), size);
    REQUIRE(pattern_is(client_data(c), size, seed));
}

void client_exchange(client *c, size_t size, unsigned seed) {
    uint8_t *data = pattern_new(size, seed);
    bool sent = client_send(c, data, size);
    free(data);
    REQUIRE(sent);
    client_expect_pattern(c, size, seed);
}

void client_expect(client *c, const char *text) {
    REQUIRE_EQUAL(client_receive(c, TIMEOUT_MS), strlen(text));
    CHECK(memcmp(client_data(c), text, strlen(text)) == 0);
}
