/* Memory that runs out: a conversation is held again and again, and each time
 * another allocation of it fails, or several one after the other, until it comes
 * to its end before the one that was to fail.  Whatever has failed must be told
 * of, or have a way around; nothing may be stuck or left; and who comes next is
 * served as if nothing had been. */
#include <stdlib.h>
#include <string.h>

#include "allocations.h"
#include "calls.h"
#include "server.h"
#include "suites.h"
#include "system.h"

enum { MOST = 3000 };               /* allocations of one conversation */

/* What was told in one conversation. */
static np_atomic_u32 named;         /* errors that say that there is no memory */
static np_atomic_u32 missed;        /* things that did not come to pass */

static bool says_so(const np_error *e) {
    return e->code == NP_E_MEMORY || (e->code == NP_E_SYSTEM && system_is_no_memory(e->os));
}

/* A failure that must be a lack of memory. */
static void note(np_code code, np_error error) {
    error.code = code;
    CHECK(says_so(&error));
    np_add32(&named, 1);
    np_add32(&missed, 1);
}

static void hold_once(void (*conversation)(void), uint32_t first, uint32_t count, uint32_t *hits) {
    np_store32(&named, 0);
    np_store32(&missed, 0);
    allocations_fail(first, count);
    conversation();
    *hits = allocations_failed();
    if (np_load32(&missed))
        CHECK(np_load32(&named) > 0);
    if (!*hits)
        CHECK_EQUAL(np_load32(&missed), 0);
}

static void hold_all(void (*conversation)(void), uint32_t count, uint32_t least) {
    uint32_t first = 0, hits = 0, told = 0;
    hold_once(conversation, MOST, count, &hits);        /* what the system keeps is there now */
    int64_t live = allocations_live();
    unsigned handles = system_handles() + system_spare_handles;
    do {
        hold_once(conversation, ++first, count, &hits);
        UNTIL(allocations_live() <= live);
        UNTIL(system_handles() <= handles);
        told += np_load32(&named) > 0;
        if (harness_failed()) {
            CHECK_EQUAL(first, 0);      /* says which it was */
            return;
        }
    } while (hits && first < MOST);
    CHECK(!hits);
    CHECK(first > least);
    CHECK(told > least / 2);
}


/* ---- a server ---------------------------------------------------------- */

/* The first bytes of a message say what the server is to do with it. */
typedef enum wish { ECHO = 1, MANY, EVERYBODY, GO } wish;

enum { SMALL = 10, MIDDLE = 70000, LARGE = 1100000 };

static void write_failed(peer *p, np_code code) {
    if (code == NP_OK || code == NP_E_CLOSED)
        return;
    note(code, (np_error){0});
    peer_close(p);
}

static void take_cookie(void *c) { np_add32(&((cookie *)c)->expected, 1); }
static void drop_cookie(void *c) { np_add32(&((cookie *)c)->dropped, 1); }

static void write_many(peer *p) {
    server *s = p->server;
    uint8_t *large = pattern_new(MIDDLE, ECHO);
    np_buffer *held = server_buffer(s, SMALL, ECHO);
    const np_message messages[] = {{large, SMALL, NULL}, {large, MIDDLE, NULL},
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
        np_add32(&named, 1);
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
    } else if (e->kind == NP_EVENT_ERROR && says_so(&e->u.error)) {
        np_add32(&named, 1);
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
        note(code, error);
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
        np_add32(&missed, 1);
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
    allocations_failed();
    client *c = server_client(s);
    client_exchange(c, SMALL, ECHO);
    client_exchange(c, MIDDLE, ECHO);
    client_close(c);
}

static void talk_with_a_server(void) {
    server *s = server_new();
    s->on_event = on_event;
    s->config.listeners = 2;
    start(s);
    client *c = server_client(s);
    end_client(c, exchange(c, SMALL) && exchange_burst(c) && exchange(c, MIDDLE)
                  && exchange(c, LARGE));
    c = server_client(s);
    end_client(c, receive_many(c) && receive_end(c));
    hear_broadcasts(s);
    check_next_client(s);
    server_end(s);
}

static void a_server_lives_through_every_lack_of_memory(void) {
    hold_all(talk_with_a_server, 1, 20);
}

static void a_server_lives_through_several_in_a_row(void) { hold_all(talk_with_a_server, 2, 20); }

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

static void reads_live_through_every_lack_of_memory(void) {
    hold_all(talk_by_reads, 1, 15);
}

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
    if (e->kind == NP_EVENT_ERROR && says_so(&e->u.error)) {
        np_add32(&named, 1);
        if (p)
            peer_close(p);
    }
}

static void dial_and_talk(server *m, const char *name) {
    np_error error;
    peer *p = server_try_dial(m, name, 5000, &error);
    if (!p) {
        CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
        note(error.code, error);
        return;
    }
    UNTIL(np_load32(&p->connected) || np_load32(&p->ended));
    bool ok = np_load32(&p->connected) && say(p, SMALL) && until_heard(p, 1) && say(p, MIDDLE)
              && until_heard(p, 2);
    if (!ok)
        np_add32(&missed, 1);
    peer_close(p);
    UNTIL(np_load32(&p->ended));
}

static void check_next_dial(server *m, const char *name) {
    allocations_failed();
    peer *p = server_dial(m, name, 5000);
    UNTIL(np_load32(&p->connected));
    REQUIRE_EQUAL(peer_write(p, "x", 1, NULL), NP_OK);
    /* 'x' is no wish. */
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
    hold_all(talk_with_keys, 1, 20);
    hold_all(talk_with_keys, 3, 20);
}

/* ---- blocking calls ---------------------------------------------------- */

typedef struct visit {
    call call;
    const char *address;
    keyring keys;
    np_code code;
    np_error error;
} visit;

static np_code connect_once(visit *v, np_channel **out) {
    np_channel_dial dial = {.address = v->address};
    np_wait w = wait_of(TIMEOUT_MS);
    np_handshake shake;
    np_secrets secrets = keyring_secrets(&v->keys);
    np_code code;
    do {
        code = np_channel_connect(&dial, &w, out, &v->error);
    } while (code == NP_E_INTERRUPTED);
    if (code != NP_OK)
        return code;
    np_handshake_init(&shake, false);
    do {
        code = np_channel_greet(*out, &shake, &secrets, &w, &v->error);
    } while (code == NP_E_INTERRUPTED);
    if (code != NP_OK)
        np_channel_free(*out);
    return code;
}

/* NP_E_EOF: the other side has ended it, and says why itself. */
static np_code visit_once(visit *v) {
    np_channel *c = NULL;
    np_code code = connect_once(v, &c);
    if (code != NP_OK)
        return code;
    code = send_pattern(c, SMALL, ECHO, TIMEOUT_MS);
    if (code == NP_OK)
        code = send_pattern(c, LARGE, ECHO, TIMEOUT_MS);
    if (code == NP_OK)
        code = receive_code(c, TIMEOUT_MS);
    channel_end(c);
    return code;
}

static bool is_end(np_code code) {
    return code == NP_E_EOF || code == NP_E_RESET || code == NP_E_BROKEN;
}

static np_code visiting(call *c) {
    visit *v = (visit *)c;
    np_code code;
    /* Somebody else's failure is not this one's. */
    do {
        code = visit_once(v);
        if (code != NP_OK && !is_end(code))
            note(code, v->error);
    } while (code != NP_OK);
    return code;
}

/* Takes what comes; false: it is over before its end. */
static bool serve_one(np_channel *c) {
    np_code code = receive_code(c, TIMEOUT_MS);
    for (unsigned i = 0; i < 1 && code == NP_OK; i++)
        code = receive_code(c, TIMEOUT_MS);
    if (code == NP_OK)
        code = send_pattern(c, SMALL, ECHO, TIMEOUT_MS);
    if (code != NP_OK && !is_end(code))
        note(code, (np_error){0});
    channel_end(c);
    return code == NP_OK;
}

static np_door *open_door(const char *address) {
    np_config config;
    np_error error;
    np_door *door;
    np_code code;
    unsigned attempts = 0;
    np_config_init(&config);
    while ((code = np_door_open(&config, address, &door, &error)) != NP_OK && attempts++ < 50) {
        CHECK_EQUAL(error.activity, NP_DOING_START);
        note(code, error);
    }
    REQUIRE_EQUAL(code, NP_OK);
    return door;
}

static void serve_until_one_is_done(np_door *door, const np_secrets *secrets) {
    bool done = false;
    while (!done && !harness_failed()) {
        np_wait w = wait_of(TIMEOUT_MS);
        np_channel *c;
        np_error error;
        np_code code = np_door_accept(door, secrets, &w, &c, &error);
        if (code == NP_OK)
            done = serve_one(c);
        else if (code != NP_REFUSED && code != NP_E_INTERRUPTED)
            note(code, error);
    }
}

static void talk_by_calls(void) {
    char name[64], address[NP_ADDRESS_MAX];
    np_error error;
    keyring keys = {.key = "secret"};
    np_secrets secrets = keyring_secrets(&keys);
    system_name(name, sizeof name);
    REQUIRE_EQUAL(np_address(name, address, sizeof address, &error), NP_OK);
    np_door *door = open_door(address);
    visit v = {.call = {.run = visiting}, .address = address, .keys = {.key = "secret"}};
    call_start(&v.call);
    serve_until_one_is_done(door, &secrets);
    call_join(&v.call);
    np_door_free(door);
}

static void blocking_calls_live_through_every_lack_of_memory(void) {
    hold_all(talk_by_calls, 1, 5);
    hold_all(talk_by_calls, 3, 5);
}

const test memory_tests[] = {
    {"a server lives through every lack of memory", a_server_lives_through_every_lack_of_memory,
     FREE_MODES | MODE_DISPATCH | MODE_DRIVE},
    {"a server lives through several lacks of memory in a row", a_server_lives_through_several_in_a_row,
     MODE_DISPATCH},
    {"reads live through every lack of memory", reads_live_through_every_lack_of_memory,
     MODE_FREE | MODE_DISPATCH},
    {"handshakes and clients live through every lack of memory",
     handshakes_and_clients_live_through_every_lack_of_memory, MODE_FREE | MODE_RUN | MODE_DRIVE},
    {"blocking calls live through every lack of memory",
     blocking_calls_live_through_every_lack_of_memory, MODE_NONE},
    {0},
};
