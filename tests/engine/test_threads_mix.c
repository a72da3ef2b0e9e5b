/* Eight threads that do everything at once to two servers and to a manager of
 * their clients, and then all stop them.  What a thread does next comes from a
 * seed.  Every write and every read has a cookie, so server_end finds whatever
 * was not completed, or was completed twice. */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

enum {
    THREADS = 8,
    STEPS = 500,            /* of the first thread; the others make some more each, */
    STEPS_MORE = 12,        /* so that they are at it while the first ones stop */
    DIALED_FIRST = 16,
    DIALED_MOST = 60,
    RECENT = 24,            /* connections from whose latest one is taken */
    LARGE = 70000,          /* held by the engine, not copied */
    LIVES = 2               /* of the servers, while the manager goes on */
};

typedef struct mix {
    server *echoes;         /* answers every message with itself */
    server *asks;           /* reads when a thread asks for it */
    server *manager;        /* connects to both, again when they are back */
    np_mutex lock;          /* guards missing */
    np_cond complete;
    unsigned missing;       /* threads that are not at the start yet */
    bool last;              /* the manager is stopped as well */
    np_atomic_u32 writes, many, broadcasts, reads, closes, questions,
        turns;    /* that did something */
} mix;

typedef struct mixer {
    mix *mix;
    unsigned number;
    uint64_t random;
    void *tokens[3];        /* of the two servers and the manager */
} mixer;

static unsigned next(mixer *x, unsigned below) {
    x->random = x->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(x->random >> 33) % below;
}

/* All start together, or what they do would be over one after the other. */
static void start_together(mix *m) {
    np_mutex_lock(&m->lock);
    if (--m->missing == 0)
        np_cond_broadcast(&m->complete);
    while (m->missing)
        np_cond_wait(&m->complete, &m->lock);
    np_mutex_unlock(&m->lock);
}

/* ---- whom and what ----------------------------------------------------- */

static unsigned any_index(mixer *x) { return next(x, 3); }

static server *at(mix *m, unsigned index) {
    return index == 0 ? m->echoes : index == 1 ? m->asks : m->manager;
}

/* One of the latest connections, open or not; NULL: there are none yet. */
static peer *any_peer(mixer *x, server *s) {
    np_mutex_lock(&s->guard);
    size_t count = s->peer_count, recent = count < RECENT ? count : RECENT;
    peer *p = count ? s->peers[count - 1 - next(x, (unsigned)recent)] : NULL;
    np_mutex_unlock(&s->guard);
    return p;
}

static size_t any_size(mixer *x) {
    unsigned kind = next(x, 200);
    return kind == 0 ? LARGE : kind < 4 ? 4 + next(x, 20000) : 4 + next(x, 100);
}

/* A write that was refused gives its cookie back at once. */
static void check_write(np_atomic_u32 *counter, np_code code) {
    CHECK(code == NP_OK || code == NP_E_CLOSED || code == NP_E_FULL);
    if (code == NP_OK)
        np_add32(counter, 1);
}

/* ---- operations -------------------------------------------------------- */

static void write_one(mixer *x) {
    peer *p = any_peer(x, at(x->mix, any_index(x)));
    if (p)
        check_write(&x->mix->writes,
                    peer_write_pattern(p, any_size(x), next(x, 1000), server_cookie(p->server)));
}

static void write_held(mixer *x) {
    peer *p = any_peer(x, at(x->mix, any_index(x)));
    if (p)
        check_write(&x->mix->writes,
                    peer_write_held(p, any_size(x), next(x, 1000), server_cookie(p->server)));
}

static void write_several(mixer *x) {
    enum { COUNT = 5, SIZE = 64 };
    peer *p = any_peer(x, at(x->mix, any_index(x)));
    if (!p)
        return;
    uint8_t data[COUNT][SIZE];
    np_message messages[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        size_t size = 4 + next(x, SIZE - 4);
        pattern_fill(data[i], size, next(x, 1000));
        messages[i] = (np_message){data[i], size, NULL};
    }
    check_write(&x->mix->many, peer_write_many(p, messages, COUNT, server_cookie(p->server)));
}

static void take_cookie(void *c) { np_add32(&((cookie *)c)->expected, 1); }

static void drop_cookie(void *c) { np_add32(&((cookie *)c)->dropped, 1); }

static void broadcast(mixer *x) {
    server *s = at(x->mix, any_index(x));
    np_buffer *b = server_buffer(s, any_size(x), next(x, 1000));
    cookie *c = server_cookie(s);
    server_lock(s);
    int64_t count = np_endpoint_broadcast(s->endpoint, b, c, take_cookie, drop_cookie);
    np_endpoint_discard(s->endpoint);
    server_unlock(s);
    server_drop(s, b);
    if (count > 0)
        np_add32(&x->mix->broadcasts, 1);
}

static void read_one(mixer *x) {
    peer *p = any_peer(x, x->mix->asks);
    if (!p)
        return;
    np_code code = peer_read(p, server_cookie(p->server));
    CHECK(code == NP_OK || code == NP_E_CLOSED);
    if (code == NP_OK)
        np_add32(&x->mix->reads, 1);
}

/* Seldom: most of the others need connections that are open. */
static void close_one(mixer *x) {
    peer *p = next(x, 3) ? NULL : any_peer(x, at(x->mix, any_index(x)));
    if (!p)
        return;
    peer_close(p);
    CHECK(!np_connection_is_open(p->connection));
    np_add32(&x->mix->closes, 1);
}

static void dial_one(mixer *x) {
    mix *m = x->mix;
    np_error error;
    if (server_count(m->manager) >= DIALED_MOST)
        return;
    peer *p = server_try_dial(m->manager, at(m, next(x, 2))->name, 60000, &error);
    CHECK(p || error.code == NP_E_STATE);
}

/* All that can be asked of an endpoint and of its connections. */
static void ask(mixer *x) {
    server *s = at(x->mix, any_index(x));
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    np_endpoint_waitable(s->endpoint);
    CHECK(np_endpoint_is_running(s->endpoint) || !np_endpoint_is_forked(s->endpoint));
    for (unsigned i = 0; i < 4; i++) {
        peer *p = any_peer(x, s);
        if (!p)
            return;
        np_connection *c = p->connection;
        np_connection_is_full(c);
        np_connection_is_opening(c);
        np_connection_handle(c);
        np_connection_pending(c);
        CHECK(np_connection_endpoint(c) == s->endpoint);
        CHECK(*np_connection_address(c) != 0);
        CHECK(np_connection_failure(c).code != NP_PENDING);
        np_peer who;
        np_code code = np_connection_peer(c, &who);
        CHECK(code == NP_OK || code == NP_E_CLOSED);
    }
    np_add32(&x->mix->questions, 1);
}

static void pause_one(mixer *x) {
    peer *p = any_peer(x, at(x->mix, any_index(x)));
    if (!p)
        return;
    np_connection_pause(p->connection, true);
    np_connection_flush(p->connection);
    np_connection_pause(p->connection, false);
}

static void nudge(mixer *x) {
    np_endpoint *ep = at(x->mix, any_index(x))->endpoint;
    np_endpoint_want_sent(ep, next(x, 2));
    if (next(x, 2))
        np_endpoint_quit(ep);
    else
        np_endpoint_interrupt(ep);
}

/* This thread is the guest for a moment, or another one is.  Not where a thread
 * stays inside run, which would find itself replaced, or is told when to drive. */
static void take_a_turn(mixer *x) {
    unsigned index = any_index(x);
    np_endpoint *ep = at(x->mix, index)->endpoint;
    if (harness_mode() != MODE_DISPATCH)
        return;
    if (np_endpoint_dispatch(ep, x->tokens[index], next(x, 2) ? 0 : 1000000) > 0)
        np_add32(&x->mix->turns, 1);
}

static void (*const operations[])(mixer *) = {
    write_one,     write_one, write_one, write_one, write_held, write_several,
    write_several, broadcast, read_one,  read_one,  read_one,   read_one,
    close_one,     dial_one,  ask,       pause_one, nudge,      take_a_turn,
};

/* ---- threads ----------------------------------------------------------- */

static void stop_all(mixer *x) {
    mix *m = x->mix;
    unsigned count = m->last ? 3 : 2, first = next(x, count);
    for (unsigned i = 0; i < count; i++) {
        unsigned index = (first + i) % count;
        server *s = at(m, index);
        if (x->number % 2)
            np_endpoint_stop_listening(s->endpoint);
        np_endpoint_stop_begin(s->endpoint);
        CHECK(np_endpoint_stop_wait(s->endpoint, x->tokens[index], -1));
        CHECK(np_endpoint_has_stopped(s->endpoint));
    }
}

static void mix_operations(crew *w, unsigned number) {
    enum { COUNT = sizeof operations / sizeof *operations };
    mixer *x = (mixer *)w->with + number;
    start_together(x->mix);
    for (unsigned i = 0; i < STEPS + x->number * STEPS_MORE; i++)
        operations[next(x, COUNT)](x);
    stop_all(x);
}

/* Whatever came and went meanwhile, a message is one of those that were written. */
static void check_message(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    const uint8_t *data = e->u.message.data;
    if (!CHECK(e->u.message.size >= 4))
        return;
    unsigned seed = data[0] | (unsigned)data[1] << 8;
    CHECK(pattern_is(data, e->u.message.size, seed));
    if (p->server->user)
        return;
    np_code code = peer_write(p, data, e->u.message.size, server_cookie(p->server));
    CHECK(code == NP_OK || code == NP_E_CLOSED || code == NP_E_FULL);
}

static server *serve(mix *m, const char *name, bool echoes) {
    server *s = server_new();
    s->on_event = check_message;
    s->user = echoes ? NULL : m;
    s->config.continuous_read = echoes;
    s->take_messages = echoes;
    if (*name)
        memcpy(s->name, name, sizeof s->name);
    server_start(s);
    return s;
}

static void live(mix *m, unsigned seed) {
    mixer mixers[THREADS];
    crew threads;
    m->missing = THREADS;
    for (unsigned i = 0; i < DIALED_FIRST; i++)
        server_dial(m->manager, at(m, i % 2)->name, -1);
    UNTIL(server_count(m->echoes) >= DIALED_FIRST / 2 && server_count(m->asks) >= DIALED_FIRST / 2);
    for (unsigned i = 0; i < THREADS; i++) {
        mixer *x = &mixers[i];
        *x = (mixer){.mix = m, .number = i, .random = seed * 100 + i};
        for (unsigned k = 0; k < 3; k++)
            x->tokens[k] = server_token(at(m, k));
    }
    crew_start(&threads, THREADS, mix_operations, mixers);
    crew_join(&threads);
}

/* What was accepted came to an end; no more, no less, is server_end's to say. */
static void check_mix(mix *m) {
    CHECK(np_load32(&m->writes) > 0);
    CHECK(np_load32(&m->many) > 0);
    CHECK(np_load32(&m->broadcasts) > 0);
    CHECK(np_load32(&m->reads) > 0);
    CHECK(np_load32(&m->closes) > 0);
    CHECK(np_load32(&m->questions) > 0);
}

static void eight_threads_do_everything_at_once(void) {
    mix m = {0};
    char echoes[64] = "", asks[64] = "";
    np_mutex_init(&m.lock);
    np_cond_init(&m.complete);
    m.manager = server_new();
    m.manager->dials = true;
    m.manager->user = &m;
    m.manager->on_event = check_message;
    m.manager->config.reconnect = true;
    m.manager->config.reconnect_min_ns = 2000000;
    m.manager->config.reconnect_max_ns = 20000000;
    server_start(m.manager);
    for (unsigned life = 1; life <= LIVES; life++) {
        m.echoes = serve(&m, echoes, true);
        m.asks = serve(&m, asks, false);
        memcpy(echoes, m.echoes->name, sizeof echoes);
        memcpy(asks, m.asks->name, sizeof asks);
        m.last = life == LIVES;
        live(&m, life);
        server_end(m.echoes);
        server_end(m.asks);
    }
    server_end(m.manager);
    check_mix(&m);
    np_cond_destroy(&m.complete);
    np_mutex_destroy(&m.lock);
}

const test threads_mix_tests[] = {
    {"eight threads do everything at once", eight_threads_do_everything_at_once, EVERY_MODE},
    {0},
};
