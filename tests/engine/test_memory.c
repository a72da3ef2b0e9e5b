/* Memory that runs out under servers and managers: nothing is stuck or left, and
 * who comes next is served as if nothing had been. */
#include <stdlib.h>

#include "lack.h"
#include "server.h"
#include "suites.h"

/* ---- a server ---------------------------------------------------------- */

/* The first bytes of a message say what the server is to do with it. */
typedef enum wish { ECHO = 1, MANY, EVERYBODY, GO } wish;

enum { SMALL = 10, MIDDLE = 70000, LARGE = 1100000 };

static void write_failed(peer *p, np_code code) {
    if (code == NP_OK || code == NP_E_CLOSED)
        return;
    lack_note(code, (np_error){0});
    peer_close(p);
}

static void take_cookie(void *c) { np_add32(&((cookie *)c)->expected, 1); }
static void drop_cookie(void *c) { np_add32(&((cookie *)c)->dropped, 1); }

static void write_many(peer *p) {
    server *s = p->server;
    uint8_t *large = pattern_new(MIDDLE, ECHO);
    np_buffer *held = server_buffer(s, SMALL, ECHO);
    const np_message messages[] = {{large, SMALL, NULL},
                                   {large, MIDDLE, NULL},
                                   {np_buffer_data(held), SMALL, held}};
    write_failed(p, peer_write_many(p, messages, 3, server_cookie(s)));
    server_drop(s, held);
    free(large);
}

static bool broadcast_once(server *s) {
    np_buffer *b = server_buffer(s, SMALL, ECHO);
    cookie *c = server_cookie(s);
    server_lock(s);
    bool done = np_endpoint_broadcast(s->endpoint, b, c, take_cookie, drop_cookie) >= 0;
    np_endpoint_discard(s->endpoint);
    server_unlock(s);
    server_drop(s, b);
    return done;
}

/* Of one that it does not reach, an event tells. */
static void broadcast(server *s) {
    while (!broadcast_once(s))
        lack_told();
}

static void do_as_wished(peer *p, np_event *e) {
    const uint8_t *data = e->u.message.data;
    size_t size = e->u.message.size;
    switch ((wish)data[0]) {
    case ECHO: write_failed(p, peer_write(p, data, size, NULL)); break;
    case MANY: write_many(p); break;
    case EVERYBODY: broadcast(p->server); break;
    case GO: peer_close(p); break;
    }
}

/* A connection that a failed broadcast has left open has missed something, so it
 * ends here, as it would in a program. */
static void on_event(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_MESSAGE) {
        do_as_wished(p, e);
    } else if (e->kind == NP_EVENT_ERROR && lack_is_told(&e->u.error)) {
        lack_told();
        if (p)
            peer_close(p);
    }
}

static void start(server *s) {
    np_error error;
    np_code code;
    unsigned attempts = 0;
    while ((code = server_try_start(s, &error)) != NP_OK && attempts++ < 10) {
        CHECK_EQUAL(error.activity, NP_DOING_START);
        lack_note(code, error);
    }
    REQUIRE_EQUAL(code, NP_OK);
}

static bool came(client *c, size_t size, unsigned seed) {
    int64_t n = client_receive(c, TIMEOUT_MS);
    if (n == CLIENT_END || n == CLIENT_RESET)
        return false;
    CHECK_EQUAL(n, size);
    return n == (int64_t)size && CHECK(pattern_is(client_data(c), size, seed));
}

static bool ask(client *c, size_t size, wish what) {
    uint8_t *data = pattern_new(size, what);
    bool sent = client_send(c, data, size);
    free(data);
    return sent;
}

static bool exchange(client *c, size_t size) { return ask(c, size, ECHO) && came(c, size, ECHO); }

static bool exchange_burst(client *c) {
    enum { BURST = 20 };
    for (unsigned i = 0; i < BURST; i++)
        if (!ask(c, SMALL, ECHO))
            return false;
    for (unsigned i = 0; i < BURST; i++)
        if (!came(c, SMALL, ECHO))
            return false;
    return true;
}

static bool receive_many(client *c) {
    return ask(c, SMALL, MANY) && came(c, SMALL, ECHO) && came(c, MIDDLE, ECHO)
           && came(c, SMALL, ECHO);
}

static bool receive_end(client *c) {
    if (!ask(c, SMALL, GO))
        return false;
    int64_t n = client_receive(c, TIMEOUT_MS);
    CHECK(n == CLIENT_END || n == CLIENT_RESET);
    return true;
}

static void end_client(client *c, bool ok) {
    if (!ok)
        lack_missed();
    client_close(c);
}

static uint64_t connections(server *s) {
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    return stats.connections;
}

/* One asks, and both should hear of it. */
static void hear_broadcasts(server *s) {
    client *a = server_client(s), *b = server_client(s);
    bool a_is = exchange(a, SMALL), b_is = exchange(b, SMALL);
    bool asked = a_is && ask(a, SMALL, EVERYBODY);
    /* What another thread writes at that time. */
    if (a_is && b_is)
        broadcast(s);
    bool heard = asked && b_is && came(a, SMALL, ECHO) && came(a, SMALL, ECHO);
    end_client(b, heard && came(b, SMALL, ECHO) && came(b, SMALL, ECHO));
    end_client(a, heard);
    /* Nothing that was asked for comes to others, later. */
    UNTIL_EQUAL(connections(s), 0);
}

/* As if nothing had been. */
static void check_next_client(server *s) {
    lack_end();
    client *c = server_client(s);
    client_exchange(c, SMALL, ECHO);
    client_exchange(c, MIDDLE, ECHO);
    client_close(c);
}

/* Larger than what is believed of a length before bytes come; once is enough. */
static bool exchange_large(client *c) { return harness_mode() != MODE_FREE || exchange(c, LARGE); }

static void talk_with_a_server(void) {
    server *s = server_new();
    s->on_event = on_event;
    s->config.listeners = 2;
    start(s);
    client *c = server_client(s);
    end_client(c,
               exchange(c, SMALL) && exchange_burst(c) && exchange(c, MIDDLE) && exchange_large(c));
    c = server_client(s);
    end_client(c, receive_many(c) && receive_end(c));
    hear_broadcasts(s);
    check_next_client(s);
    server_end(s);
}

static void a_server_lives_through_every_lack_of_memory(void) {
    lack_hold(talk_with_a_server, 1, 20);
}

static void a_server_lives_through_several_in_a_row(void) { lack_hold(talk_with_a_server, 2, 20); }

/* ---- messages that are asked for --------------------------------------- */

static void read_next(peer *p) {
    np_code code = peer_read(p, server_cookie(p->server));
    if (code != NP_E_CLOSED)
        write_failed(p, code);
}

static void on_read_event(peer *p, np_event *e) {
    on_event(p, e);
    if (e->kind == NP_EVENT_CONNECTED || e->kind == NP_EVENT_MESSAGE)
        read_next(p);
}

static void talk_by_reads(void) {
    server *s = server_new();
    s->on_event = on_read_event;
    s->config.continuous_read = false;
    start(s);
    client *c = server_client(s);
    end_client(c, exchange_burst(c) && exchange(c, MIDDLE) && receive_end(c));
    check_next_client(s);
    server_end(s);
}

static void reads_live_through_every_lack_of_memory(void) { lack_hold(talk_by_reads, 1, 15); }

/* ---- connections that the engine makes, with a handshake --------------- */

static bool until_heard(peer *p, uint64_t messages) {
    UNTIL(np_load64(&p->messages) >= messages || np_load32(&p->ended));
    return np_load64(&p->messages) >= messages;
}

static bool say(peer *p, size_t size) {
    np_code code = peer_write_pattern(p, size, ECHO, server_cookie(p->server));
    write_failed(p, code);
    return code == NP_OK;
}

/* The other side's events. */
static void on_manager_event(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_ERROR && lack_is_told(&e->u.error)) {
        lack_told();
        if (p)
            peer_close(p);
    }
}

static void dial_and_talk(server *m, const char *name) {
    np_error error;
    peer *p = server_try_dial(m, name, 5000, &error);
    if (!p) {
        CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
        lack_note(error.code, error);
        return;
    }
    UNTIL(np_load32(&p->connected) || np_load32(&p->ended));
    bool ok = np_load32(&p->connected) && say(p, SMALL) && until_heard(p, 1) && say(p, MIDDLE)
              && until_heard(p, 2);
    if (!ok)
        lack_missed();
    peer_close(p);
    UNTIL(np_load32(&p->ended));
}

static void check_next_dial(server *m, const char *name) {
    lack_end();
    peer *p = server_dial(m, name, 5000);
    UNTIL(np_load32(&p->connected));
    REQUIRE_EQUAL(peer_write_pattern(p, MIDDLE, ECHO, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    peer_close(p);
    UNTIL(np_load32(&p->ended));
    CHECK_EQUAL(peer_end(p).code, NP_OK);
}

static void talk_with_keys(void) {
    keyring keys = {.key = "secret"}, theirs = {.key = "secret"};
    server *s = server_new(), *m = server_new();
    s->keys = &keys;
    s->on_event = on_event;
    m->keys = &theirs;
    m->on_event = on_manager_event;
    m->dials = true;
    start(s);
    start(m);
    dial_and_talk(m, s->name);
    check_next_dial(m, s->name);
    server_end(m);
    server_end(s);
}

static void handshakes_and_clients_live_through_every_lack_of_memory(void) {
    lack_hold(talk_with_keys, 1, 20);
    lack_hold(talk_with_keys, 3, 20);
}

const test memory_tests[] = {
    {"a server lives through every lack of memory", a_server_lives_through_every_lack_of_memory,
     FREE_MODES | MODE_DISPATCH | MODE_DRIVE},
    {"a server lives through several lacks of memory in a row",
     a_server_lives_through_several_in_a_row, MODE_DISPATCH},
    {"reads live through every lack of memory", reads_live_through_every_lack_of_memory,
     MODE_FREE | MODE_DISPATCH},
    {"handshakes and clients live through every lack of memory",
     handshakes_and_clients_live_through_every_lack_of_memory, MODE_FREE | MODE_RUN | MODE_DRIVE},
    {0},
};
