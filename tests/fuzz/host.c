#include "host.h"

#include <string.h>

#include "allocations.h"

host the_host;

static host *const h = &the_host;

/* ---- locks and threads ---------------------------------------------------- */

static void *thread_begin(void *user) {
    FUZZ_CHECK(user == h && world.locks == 0);
    return h;
}

static void thread_end(void *user, void *thread) {
    FUZZ_CHECK(user == h && thread == h && world.locks == 0 && !h->inside);
}

/* Now and then it took long. */
static bool enter(void *user, void *thread) {
    FUZZ_CHECK(user == h && thread == h && world.locks == 0 && !h->inside);
    h->inside++;
    return script_rarely(8);
}

static void leave(void *user, void *thread) {
    FUZZ_CHECK(user == h && thread == h && world.locks == 0);
    h->inside--;
}

static bool interrupted(void *user, void *thread) {
    FUZZ_CHECK(user == h && thread == h && world.locks == 0 && !h->inside);
    return !script_rarely(4);
}

static void released(void *user) {
    FUZZ_CHECK(user == h);
    h->released++;
}

/* ---- buffers -------------------------------------------------------------- */

typedef struct memory {
    uint8_t *data;
} memory;

bool host_lacked_memory(void) {
    return h->lacked_memory || allocations_failed() != h->failed_before;
}

static bool grow(np_buffer *buffer, size_t capacity) {
    memory *m = np_buffer_owner(buffer);
    FUZZ_CHECK(h->inside && world.locks == 0);
    if (!world.quiet && script_rarely(32)) {
        h->lacked_memory = true;
        return false;
    }
    size_t size = capacity + script_byte();     /* a host may round up */
    uint8_t *data = realloc(m->data, size);
    FUZZ_CHECK(data != NULL);
    m->data = data;
    np_buffer_set(buffer, m, data, size);
    return true;
}

static const np_buffer_ops buffer_ops = {.grow = grow};

static np_buffer *make_buffer(size_t size) {
    memory *m = malloc(sizeof *m);
    uint8_t *data = malloc(size ? size : 1);
    FUZZ_CHECK(m && data);
    m->data = data;
    np_buffer *b = np_buffer_wrap(data, size, &buffer_ops, m);
    if (b) {
        h->made++;
    } else {
        free(data);
        free(m);
    }
    return b;
}

static void free_buffer(np_buffer *b) {
    memory *m = np_buffer_owner(b);
    if (m) {
        free(m->data);
        free(m);
        h->discarded++;
    }
    np_buffer_free(b);
}

static np_buffer *buffer_new(void *user, size_t size) {
    FUZZ_CHECK(user == h && h->inside && world.locks == 0);
    if (!world.quiet && script_rarely(32)) {
        h->lacked_memory = true;
        return NULL;
    }
    return script_rarely(4) ? np_buffer_new(size) : make_buffer(size);
}

static void discard(void *user, np_buffer *b) {
    FUZZ_CHECK(user == h && h->inside && world.locks == 0);
    FUZZ_CHECK(np_buffer_owner(b));
    free_buffer(b);
}

np_buffer *host_buffer(const uint8_t *data, size_t size) {
    np_buffer *b = make_buffer(size);
    if (b && size)
        memcpy(np_buffer_data(b), data, size);
    return b;
}

void host_drop(np_buffer *b) {
    if (np_buffer_drop(b))
        free_buffer(b);
}

/* ---- events --------------------------------------------------------------- */

conn *host_conn(np_connection *c, bool dialed) {
    FUZZ_CHECK(h->conn_count < CONNS_MAX);
    conn *k = &h->conns[h->conn_count++];
    *k = (conn){.connection = c, .dialed = dialed};
    return k;
}

token *host_token(void) {
    token *t = calloc(1, sizeof *t);
    FUZZ_CHECK(t != NULL);
    t->number = ++h->token_count;
    t->next = h->tokens;
    h->tokens = t;
    return t;
}

/* Once connected, then disconnected; of one that was dialed any number of
 * times, or never, and in the end ENDED. */
static void check_order(conn *k, np_event_kind kind) {
    bool now = k->connected != k->disconnected;
    FUZZ_CHECK(!k->ended);
    switch (kind) {
    case NP_EVENT_CONNECTED:
        FUZZ_CHECK(!now && (k->dialed || !k->connected));
        k->connected++;
        k->peer = k->connection->link.peer;
        break;
    case NP_EVENT_DISCONNECTED:
        FUZZ_CHECK(now);
        k->disconnected++;
        break;
    case NP_EVENT_ENDED:
        FUZZ_CHECK(k->dialed && !now);
        k->ended++;
        break;
    case NP_EVENT_ERROR: FUZZ_CHECK(now || k->dialed); break;
    default: FUZZ_CHECK(now && kind != NP_EVENT_READY);
    }
}

static void check_message(conn *k, const np_event *e) {
    decoder *d = &k->peer->in;
    h->messages++;
    h->bytes += e->u.message.size;
    if (e->u.message.buffer) {
        FUZZ_CHECK(np_buffer_data(e->u.message.buffer) == e->u.message.data);
        FUZZ_CHECK(np_buffer_size(e->u.message.buffer) == e->u.message.size);
    }
    while (!decoder_take(d, e->u.message.data, e->u.message.size)) {
        FUZZ_CHECK(k->lossy && d->first);
        FUZZ_CHECK(decoder_take(d, d->first->data, d->first->size));
    }
    if (e->cookie) {
        FUZZ_CHECK(!h->continuous);
        ((token *)e->cookie)->sent++;
    }
}

static void check_sent(conn *k, const np_event *e) {
    token *t = e->cookie;
    FUZZ_CHECK(t || h->want_sent);
    if (!t)
        return;
    FUZZ_CHECK(t->number > k->last_sent);
    k->last_sent = t->number;
    FUZZ_CHECK(t->sent + t->failed < t->due);
    FUZZ_CHECK(t->sent < t->whole);
    t->sent++;
}

static void check_error(conn *k, const np_event *e) {
    const np_error *error = &e->u.error;
    FUZZ_CHECK(error->code > NP_PENDING && error->activity != NP_DOING_NOTHING);
    h->errors++;
    if (error->code == NP_E_MEMORY) {
        FUZZ_CHECK(host_lacked_memory() || (k && k->peer && k->peer->failed));
        if (k)
            k->lossy = true;
    }
    if (e->cookie) {
        token *t = e->cookie;
        FUZZ_CHECK(t->sent + t->failed < t->due);
        t->failed++;
    }
}

/* Of one that nobody closed here, and that nothing else went wrong with. */
static void check_end(conn *k, const np_error *error) {
    fake_peer *p = k->peer;
    decoder *d = &p->in;
    if (k->closed || p->failed || k->lossy || host_lacked_memory())
        return;
    if (error->code == NP_E_TIMEOUT && error->activity == NP_DOING_READ) {
        /* More may have come before the cancel, and was not looked at. */
        FUZZ_CHECK(error->limit == (uint64_t)world.config.message_timeout_ns && error->limit);
        return;
    }
    if (d->bad) {
        FUZZ_CHECK(error->code == d->bad);
        FUZZ_CHECK(error->value == d->bad_value);
        FUZZ_CHECK(d->bad != NP_E_TOO_LARGE || error->limit == d->limit);
        FUZZ_CHECK(!h->continuous || !d->first);
        return;
    }
    FUZZ_CHECK(p->has_left);
    FUZZ_CHECK(!h->continuous || !d->first);
    if (decoder_is_partial(d)) {
        FUZZ_CHECK(error->code == NP_E_RESET);
        FUZZ_CHECK(error->value == (d->body ? d->body_size : d->header_size));
        FUZZ_CHECK(error->limit == (d->body ? d->expected : 0));
    } else if (p->out.pending) {
        FUZZ_CHECK(error->code == NP_E_BROKEN || error->code == NP_E_TIMEOUT);
    } else {
        FUZZ_CHECK(error->code == NP_OK || error->code == NP_E_TIMEOUT);
    }
}

static void disconnected(conn *k, const np_event *e) {
    FUZZ_CHECK(!np_connection_is_open(k->connection));
    FUZZ_CHECK(!k->peer->open && !k->peer->read && !k->peer->write);
    check_end(k, &e->u.error);
    outgoing_end(&k->peer->out);
    k->lossy = false;
}

static void deliver_one(np_event *e) {
    conn *k = NULL;
    if (e->connection) {
        k = np_connection_user(e->connection);
        if (!k) {
            FUZZ_CHECK(e->kind == NP_EVENT_CONNECTED);
            np_connection_retain(e->connection);
            k = host_conn(e->connection, false);
            np_connection_set_user(e->connection, k);
            k->closed = h->stopped;
        }
        FUZZ_CHECK(k->connection == e->connection);
        FUZZ_CHECK(np_connection_endpoint(e->connection) == h->endpoint);
        check_order(k, e->kind);
    }
    switch (e->kind) {
    case NP_EVENT_READY: FUZZ_CHECK(!h->ready++); break;
    case NP_EVENT_MESSAGE: check_message(k, e); break;
    case NP_EVENT_SENT: check_sent(k, e); break;
    case NP_EVENT_ERROR: check_error(k, e); break;
    case NP_EVENT_DISCONNECTED: disconnected(k, e); break;
    default: break;
    }
    for (unsigned n = script_below(3); n && !world.quiet; n--)
        host_acts(k);
    if (e->kind == NP_EVENT_MESSAGE && e->u.message.buffer && script_below(2)) {
        free_buffer(e->u.message.buffer);
        e->u.message.buffer = NULL;
    }
}

static bool deliver(void *user, void *thread, np_event *events, size_t count) {
    FUZZ_CHECK(user == h && thread == h && h->inside && count && world.locks == 0);
    FUZZ_CHECK(np_endpoint_is_inside(h->endpoint));
    for (size_t i = 0; i < count; i++)
        deliver_one(&events[i]);
    return world.quiet || !script_rarely(16);
}

np_host host_functions(void) {
    return (np_host){
        .user = h,
        .thread_begin = thread_begin,
        .thread_end = thread_end,
        .enter = enter,
        .leave = leave,
        .deliver = deliver,
        .buffer_new = buffer_new,
        .discard = discard,
        .interrupted = interrupted,
        .released = released,
    };
}

void host_check_end(const np_stats *stats) {
    FUZZ_CHECK(h->inside == 0);
    FUZZ_CHECK(stats->connections == 0 && stats->queued_bytes == 0 && stats->queued_events == 0);
    FUZZ_CHECK(host_lacked_memory() || stats->errors == h->errors);
    if (h->continuous && !host_lacked_memory())
        FUZZ_CHECK(stats->messages_in == h->messages && stats->bytes_in == h->bytes);
    uint64_t out = 0;
    for (fake_peer *p = world.peers; p; p = p->next)
        out += p->out.messages;
    /* Writes that were joined are counted when all of them have gone, and empty
     * ones of a stream without frames are nowhere. */
    FUZZ_CHECK(stats->messages_out <= out || world.config.byte_mode);
    for (unsigned i = 0; i < h->conn_count; i++) {
        conn *k = &h->conns[i];
        FUZZ_CHECK(k->connected == k->disconnected && k->ended == k->dialed);
        FUZZ_CHECK(np_connection_handle(k->connection) == 0);
        FUZZ_CHECK(np_connection_pending(k->connection) == 0);
        np_connection_release(k->connection);
    }
    while (h->tokens) {
        token *t = h->tokens;
        h->tokens = t->next;
        FUZZ_CHECK(t->sent + t->failed == t->due);
        free(t);
    }
}
