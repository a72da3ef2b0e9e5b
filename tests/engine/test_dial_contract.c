/* What platform.h promises of one attempt to connect, without the engine. */
#include <stdlib.h>
#include <string.h>

#include "listener.h"
#include "platform.h"
#include "server.h"
#include "suites.h"
#include "system.h"

#define MS INT64_C(1000000)
enum { COMPLETIONS = 8 };            /* more than a port can have for one dial */

/* A port, and a dial whose owner is this. */
typedef struct caller {
    np_port port;
    np_dial dial;
    np_config config;
    np_arena arena;
} caller;

static caller *caller_new(void) {
    caller *c = calloc(1, sizeof *c);
    np_error error;
    REQUIRE(c != NULL);
    REQUIRE_EQUAL(np_port_open(&c->port, &error), NP_OK);
    np_config_init(&c->config);
    np_dial_init(&c->dial, c);
    c->arena.size = 4096;
    c->arena.data = malloc(c->arena.size);
    return c;
}

static void caller_free(caller *c) {
    np_port_close(&c->port);
    free(c->arena.data);
    free(c);
}

/* True: a completion of the dial came in time. */
static bool completes(caller *c, np_completion *done, int64_t timeout_ns) {
    int64_t end = np_now() + timeout_ns;
    size_t count = 0;
    do {
        np_port_wait(&c->port, &c->arena, done, COMPLETIONS, 5 * MS, &count);
    } while (!count && np_now() < end);
    if (!count)
        return false;
    CHECK_EQUAL(count, 1);
    CHECK(done->operation == &c->dial.operation);
    CHECK_EQUAL(done->operation->kind, NP_OP_CONNECT);
    CHECK(done->operation->owner == c);
    return true;
}

static np_code result(caller *c) {
    np_completion done[COMPLETIONS];
    REQUIRE(completes(c, done, 30000 * MS));
    np_code code = done->code;
    CHECK(!completes(c, done, 10 * MS));
    return code;
}

static void close_link(caller *c) {
    np_link link = c->dial.link;
    np_error error;
    np_link_none(&c->dial.link);
    CHECK_EQUAL(np_link_attach(&link, &c->port, &c->config, &error), NP_OK);
    CHECK(np_link_handle(&link) > 0);
    np_link_close(&link);
    np_link_close(&link);
}

static void somewhere(char address[NP_ADDRESS_MAX]) {
    char name[64];
    np_error error = {0};
    system_name(name, sizeof name);
    REQUIRE_EQUAL(np_address(name, address, NP_ADDRESS_MAX, &error), NP_OK);
}

static void a_dial_completes_once_with_a_link(void) {
    caller *c = caller_new();
    server *s = server_new();
    server_start(s);
    for (unsigned i = 0; i < 10; i++) {
        np_dial_start(&c->dial, &c->port, &c->config, server_address(s), i % 2 ? 10 * MS : 0);
        CHECK_EQUAL(result(c), NP_OK);
        np_dial_cancel(&c->dial);
        close_link(c);
    }
    server_end(s);
    caller_free(c);
}

static void a_dial_finds_no_server(void) {
    caller *c = caller_new();
    char address[NP_ADDRESS_MAX];
    somewhere(address);
    for (unsigned i = 0; i < 3; i++) {
        np_dial_start(&c->dial, &c->port, &c->config, address, 10 * MS);
        CHECK_EQUAL(result(c), NP_E_NOT_FOUND);
    }
    caller_free(c);
}

/* Somebody else's, with no room for one more. */
typedef struct full_listener {
    char address[NP_ADDRESS_MAX];
    listener *listener;
    np_link taken[10];
    unsigned count;
} full_listener;

static void fill(full_listener *f, caller *c) {
    enum { MOST = sizeof f->taken / sizeof *f->taken };
    somewhere(f->address);
    f->listener = listener_open(f->address);
    REQUIRE(f->listener != NULL);
    for (f->count = 0;; f->count++) {
        np_dial_start(&c->dial, &c->port, &c->config, f->address, 0);
        np_code code = result(c);
        if (code != NP_OK) {
            CHECK_EQUAL(code, NP_E_BUSY);
            break;
        }
        REQUIRE(f->count < MOST);
        f->taken[f->count] = c->dial.link;
        np_link_none(&c->dial.link);
    }
    CHECK(f->count > 0);
}

static void full_end(full_listener *f) {
    while (f->count)
        np_link_close(&f->taken[--f->count]);
    listener_close(f->listener);
}

static void a_dial_finds_no_room(void) {
    caller *c = caller_new();
    full_listener full;
    fill(&full, c);
    np_dial_start(&c->dial, &c->port, &c->config, full.address, 50 * MS);
    CHECK_EQUAL(result(c), NP_E_BUSY);
    full_end(&full);
    caller_free(c);
}

/* Where the system waits for room, the cancel ends that; else it comes too late. */
static void a_cancelled_dial_completes_soon_and_once(void) {
    caller *c = caller_new();
    full_listener full;
    fill(&full, c);
    for (unsigned i = 0; i < 20; i++) {
        int64_t begin = np_now();
        np_dial_start(&c->dial, &c->port, &c->config, full.address, 10000 * MS);
        if (i % 2)
            system_sleep(2);
        np_dial_cancel(&c->dial);
        np_dial_cancel(&c->dial);
        np_code code = result(c);
        CHECK(code == NP_E_CANCELED || code == NP_E_BUSY);
        CHECK(np_now() - begin < 5000 * MS);
    }
    full_end(&full);
    caller_free(c);
}

/* What a cancelled attempt opens nevertheless is closed again. */
static void a_cancelled_dial_leaves_nothing_behind(void) {
    caller *c = caller_new();
    server *s = server_new();
    server_start(s);
    unsigned opened = 0;
    for (unsigned i = 0; i < 50; i++) {
        np_dial_start(&c->dial, &c->port, &c->config, server_address(s), 1000 * MS);
        np_dial_cancel(&c->dial);
        np_code code = result(c);
        CHECK(code == NP_E_CANCELED || code == NP_OK);
        if (code == NP_OK)
            close_link(c);
        opened += code == NP_OK;
    }
    UNTIL(server_count(s) >= opened);
    for (size_t i = 0; i < server_count(s); i++)
        UNTIL(np_load32(&server_peer(s, i)->disconnected));
    server_end(s);
    caller_free(c);
}

const test dial_contract_tests[] = {
    {"a dial completes once, with a link", a_dial_completes_once_with_a_link, MODE_FREE},
    {"a dial finds no server", a_dial_finds_no_server, 0},
    {"a dial finds no room", a_dial_finds_no_room, 0},
    {"a cancelled dial completes soon, and once", a_cancelled_dial_completes_soon_and_once, 0},
    {"a cancelled dial leaves nothing behind", a_cancelled_dial_leaves_nothing_behind, MODE_FREE},
    {0},
};
