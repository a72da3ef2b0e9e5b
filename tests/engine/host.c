/* What the engine asks of a host: threads, a lock, buffers, and to take events.
 * Every call checks what the engine promises about it. */
#include "host.h"

#include <stdlib.h>

#include "allocations.h"
#include "traffic.h"

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

void host_free_tokens(server *s) {
    while (s->tokens) {
        token *next = s->tokens->next;
        free(s->tokens);
        s->tokens = next;
    }
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
    void *allowed = allocations_malloc(1);      /* the host's may fail as well */
    allocations_free(allowed);
    if (!allowed)
        return false;
    uint8_t *data = realloc(m->data, capacity + GROWTH);
    if (!data)
        return false;
    m->data = data;
    np_buffer_set(buffer, m, data, capacity + GROWTH);
    return true;
}

static const np_buffer_ops buffer_ops = {.grow = grow};

/* NULL: the engine has no memory for its part. */
static np_buffer *make_buffer(server *s, size_t size) {
    memory *m = malloc(sizeof *m);
    uint8_t *data = calloc(1, size ? size : 1);
    if (!m || !data)
        abort();
    np_buffer *b = np_buffer_wrap(data, size, &buffer_ops, m);
    if (!b) {
        free(data);
        free(m);
        return NULL;
    }
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
    bool spared = allocations_spare(true);
    np_buffer *b = make_buffer(s, size);
    allocations_spare(spared);
    if (!b)
        abort();
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

peer *host_peer_new(server *s) {
    peer *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->server = s;
    return p;
}

void host_peer_add(peer *p) {
    server *s = p->server;
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
}

static peer *add_accepted(server *s, np_connection *c) {
    peer *p = host_peer_new(s);
    p->connection = c;
    np_connection_retain(c);
    np_connection_set_user(c, p);
    host_peer_add(p);
    return p;
}

/* Once connected, then disconnected; of one that was dialed any number of
 * times, or never, and in the end ENDED. */
static void check_order(const peer *p, np_event_kind kind) {
    uint32_t now = np_load32(&p->connected) - np_load32(&p->disconnected);
    CHECK_EQUAL(np_load32(&p->ended), 0);
    if (!p->dialed) {
        CHECK_EQUAL(np_load32(&p->connected), kind != NP_EVENT_CONNECTED);
        CHECK_EQUAL(np_load32(&p->disconnected), 0);
        CHECK(kind != NP_EVENT_ENDED);
    } else if (kind != NP_EVENT_ERROR) {
        CHECK_EQUAL(now, kind != NP_EVENT_CONNECTED && kind != NP_EVENT_ENDED);
    }
}

static void trace(peer *p, np_event_kind kind) {
    np_mutex_lock(&p->server->guard);
    if (p->trace_size < sizeof p->trace - 1)
        p->trace[p->trace_size++] = "RCMSLNEDX"[kind];
    np_mutex_unlock(&p->server->guard);
}

static void count_cookie(np_event *e) {
    cookie *c = e->cookie;
    if (!c)
        return;
    CHECK(e->kind == NP_EVENT_SENT || e->kind == NP_EVENT_ERROR || e->kind == NP_EVENT_MESSAGE);
    np_add32(e->kind == NP_EVENT_SENT    ? &c->sent
             : e->kind == NP_EVENT_ERROR ? &c->failed
                                         : &c->read,
             1);
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
    case NP_EVENT_CONNECTED: np_add32(&p->connected, 1); break;
    case NP_EVENT_MESSAGE: np_add64(&p->bytes, e->u.message.size); break;
    case NP_EVENT_ERROR:
        CHECK(e->u.error.code > NP_PENDING);
        CHECK(e->u.error.activity != NP_DOING_NOTHING);
        keep_error(s, p ? &p->error : &s->error, e);
        break;
    case NP_EVENT_DISCONNECTED:
        CHECK(!np_connection_is_open(p->connection));
        keep_error(s, &p->end, e);
        break;
    default: break;
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
    case NP_EVENT_ENDED: np_add32(&p->ended, 1); break;
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
        p = np_connection_user(e->connection);
        if (!p && kind == NP_EVENT_CONNECTED)
            p = add_accepted(s, e->connection);
        CHECK(p != NULL);
        if (!p)
            return;
        CHECK_EQUAL(np_swap32(&p->inside, 1), 0);
        check_order(p, kind);
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

static void check_inside(void *user) { CHECK(is_inside(user)); }

np_host host_of(server *s) {
    if (s->keys) {
        s->keys->check = check_inside;
        s->keys->user = s;
    }
    return (np_host){
        .user = s,
        .thread_begin = thread_begin,
        .thread_end = thread_end,
        .enter = enter,
        .leave = leave,
        .deliver = deliver,
        .buffer_new = buffer_new,
        .discard = discard,
        .interrupted = interrupted,
        .released = released,
        .secrets = s->keys ? keyring_secrets(s->keys) : (np_secrets){0},
    };
}

static bool idle_enter(void *user, void *thread) {
    (void)user, (void)thread;
    return false;
}

static void idle_leave(void *user, void *thread) { (void)user, (void)thread; }

static bool idle_deliver(void *user, void *thread, np_event *events, size_t count) {
    (void)user, (void)thread, (void)events, (void)count;
    return true;
}

np_host idle_host(void) {
    return (np_host){.enter = idle_enter, .leave = idle_leave, .deliver = idle_deliver};
}
