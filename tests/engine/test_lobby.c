/* A door and channels that prove a key. */
#include <string.h>

#include "calls.h"
#include "lobby.h"
#include "secrets.h"
#include "suites.h"
#include "system.h"
#include "traffic.h"

/* A thread that accepts until the door is closed, and greets whom it lets in. */
typedef struct porter {
    np_door *door;
    keyring keys;
    np_atomic_u32 let_in, refused;
    np_error error;                 /* of the last that was refused */
    np_mutex lock;                  /* guards it */
    np_thread thread;
} porter;

static void stand(void *arg) {
    porter *p = arg;
    np_secrets secrets = keyring_secrets(&p->keys);
    for (;;) {
        np_wait w = wait_of(FOREVER);
        np_channel *c;
        np_error error;
        np_code code = np_door_accept(p->door, &secrets, &w, &c, &error);
        if (code == NP_E_CLOSED)
            return;
        if (code == NP_REFUSED) {
            CHECK_EQUAL(error.activity, NP_DOING_ACCEPT);
            np_mutex_lock(&p->lock);
            p->error = error;
            np_mutex_unlock(&p->lock);
            np_add32(&p->refused, 1);
        } else if (code == NP_OK) {
            CHECK_EQUAL(send_message(c, "welcome", 7, TIMEOUT_MS), NP_OK);
            np_channel_free(c);
            np_add32(&p->let_in, 1);
        } else {
            CHECK_EQUAL(code, NP_E_INTERRUPTED);
        }
    }
}

static void porter_start(porter *p, char address[NP_ADDRESS_MAX]) {
    *p = (porter){.keys = {.key = "secret"}};
    np_mutex_init(&p->lock);
    p->door = door_new(address);
    REQUIRE_EQUAL(np_thread_start(&p->thread, stand, p), 0);
}

static void porter_end(porter *p) {
    np_door_close(p->door);
    np_thread_join(p->thread);
    np_door_free(p->door);
    np_mutex_destroy(&p->lock);
}

static np_error error_of(porter *p) {
    np_mutex_lock(&p->lock);
    np_error error = p->error;
    np_mutex_unlock(&p->lock);
    return error;
}

static np_code greet(np_channel *c, keyring *k, int timeout_ms, np_error *error) {
    np_secrets secrets = keyring_secrets(k);
    np_handshake h;
    np_wait w = wait_of(timeout_ms);
    np_code code;
    np_handshake_init(&h, false);
    do {
        code = np_channel_greet(c, &h, &secrets, &w, error);
    } while (code == NP_E_INTERRUPTED);
    return code;
}

static void visit(const char *address) {
    keyring keys = {.key = "secret"};
    np_channel *c = connect_to(address, TIMEOUT_MS, NP_OK);
    np_error error;
    REQUIRE_EQUAL(greet(c, &keys, TIMEOUT_MS, &error), NP_OK);
    CHECK_EQUAL(receive_code(c, TIMEOUT_MS), NP_OK);
    np_channel_free(c);
}

static client *call_on(const char *address) {
    client *c = client_connect(address);
    REQUIRE(c != NULL);
    return c;
}

/* ---- tests ------------------------------------------------------------- */

static void channels_with_the_key_are_let_in(void) {
    char address[NP_ADDRESS_MAX];
    porter p;
    porter_start(&p, address);
    for (unsigned i = 0; i < 20; i++) {
        np_store32(&p.keys.failures, i % 4);    /* now and then the host can't */
        visit(address);
    }
    CHECK_EQUAL(np_load32(&p.refused), 0);
    porter_end(&p);
}

static void both_sides_are_told_of_a_wrong_key(void) {
    char address[NP_ADDRESS_MAX];
    porter p;
    porter_start(&p, address);
    keyring wrong = {.key = "Secret"};
    for (unsigned i = 1; i <= 5; i++) {
        np_channel *c = connect_to(address, TIMEOUT_MS, NP_OK);
        np_error error;
        CHECK_EQUAL(greet(c, &wrong, TIMEOUT_MS, &error), NP_E_AUTH);
        CHECK_EQUAL(error.value, NP_AUTH_REJECTED);
        CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
        np_channel_free(c);
        UNTIL_EQUAL(np_load32(&p.refused), i);
        CHECK_EQUAL(error_of(&p).code, NP_E_AUTH);
        CHECK_EQUAL(error_of(&p).value, NP_AUTH_WRONG);
    }
    visit(address);
    porter_end(&p);
}

static void nobody_waits_for_those_who_say_nothing(void) {
    enum { SILENT = 30 };
    char address[NP_ADDRESS_MAX];
    porter p;
    keyring keys = {.key = "secret"};
    client *silent[SILENT];
    porter_start(&p, address);
    for (unsigned i = 0; i < SILENT; i++) {
        silent[i] = call_on(address);
        client_handshake_part(silent[i], &keys, i % 3);
    }
    int64_t begin = np_now();
    for (unsigned i = 0; i < 20; i++)
        visit(address);
    CHECK(np_now() - begin < NP_HANDSHAKE_NS);
    CHECK_EQUAL(np_load32(&p.refused), 0);
    UNTIL_EQUAL(np_load32(&p.let_in), 20);
    /* They may go on, in any order. */
    for (unsigned i = 0; i < SILENT; i++)
        client_close(silent[SILENT - 1 - i]);
    UNTIL_EQUAL(np_load32(&p.refused), SILENT);
    CHECK_EQUAL(error_of(&p).value, NP_AUTH_LEFT);
    porter_end(&p);
}

static void those_who_came_first_make_room(void) {
    enum { SILENT = 2 * NP_LOBBY_SIZE };
    char address[NP_ADDRESS_MAX];
    porter p;
    client *silent[SILENT];
    porter_start(&p, address);
    for (unsigned i = 0; i < SILENT; i++)
        silent[i] = call_on(address);
    visit(address);
    CHECK(np_load32(&p.refused) >= SILENT - NP_LOBBY_SIZE);
    CHECK_EQUAL(error_of(&p).value, NP_AUTH_CROWDED);
    CHECK_EQUAL(error_of(&p).limit, NP_LOBBY_SIZE);
    for (unsigned i = 0; i < SILENT; i++)
        client_close(silent[i]);
    porter_end(&p);
}

static void garbage_is_sent_away(void) {
    char address[NP_ADDRESS_MAX];
    porter p;
    static uint8_t garbage[70000];
    porter_start(&p, address);
    static const size_t sizes[] = {0, 1, 256, 257, 70000};
    for (unsigned i = 0; i < 5; i++) {
        client *c = call_on(address);
        client_send(c, garbage, sizes[i]);
        UNTIL_EQUAL(np_load32(&p.refused), i + 1);
        CHECK_EQUAL(error_of(&p).code, sizes[i] > 256 ? NP_E_PROTOCOL : NP_E_AUTH);
        client_close(c);
    }
    visit(address);
    porter_end(&p);
}

static void a_silent_client_has_its_time(void) {
    char address[NP_ADDRESS_MAX];
    porter p;
    porter_start(&p, address);
    int64_t begin = np_now();
    client *c = call_on(address);
    UNTIL_EQUAL(np_load32(&p.refused), 1);
    CHECK(np_now() - begin >= NP_HANDSHAKE_NS);
    CHECK_EQUAL(error_of(&p).value, NP_AUTH_SLOW);
    client_close(c);
    porter_end(&p);
}

/* Threads that accepted for a moment, and ended, leave handshakes as they are. */
static np_code accept_shortly(call *c) {
    keyring keys = {.key = "secret"};
    np_secrets secrets = keyring_secrets(&keys);
    np_wait w = wait_of(20);
    np_error error;
    np_channel *channel;
    np_code code;
    do {
        code = np_door_accept(c->door, &secrets, &w, &channel, &error);
    } while (code == NP_E_INTERRUPTED);
    return code;
}

static void a_handshake_survives_the_threads_that_began_it(void) {
    char address[NP_ADDRESS_MAX];
    keyring keys = {.key = "secret"};
    np_secrets secrets = keyring_secrets(&keys);
    np_door *door = door_new(address);
    client *c = call_on(address);
    for (unsigned i = 0; i < 3; i++) {
        call short_one = {.door = door, .run = accept_shortly};
        call_start(&short_one);
        CHECK_EQUAL(call_join(&short_one), NP_E_TIMEOUT);
        if (i == 1)
            client_handshake_part(c, &keys, 1);     /* the challenge is there */
    }
    client_close(c);
    np_wait w = wait_of(TIMEOUT_MS);
    np_channel *none;
    np_error error;
    CHECK_EQUAL(np_door_accept(door, &secrets, &w, &none, &error), NP_REFUSED);
    CHECK_EQUAL(error.value, NP_AUTH_LEFT);
    np_door_free(door);
}

static void a_door_that_closes_sends_all_away(void) {
    char address[NP_ADDRESS_MAX];
    keyring keys = {.key = "secret"};
    porter p;
    porter_start(&p, address);
    client *clients[9];
    for (unsigned i = 0; i < 9; i++) {
        clients[i] = call_on(address);
        client_handshake_part(clients[i], &keys, i % 3);
    }
    np_door_close(p.door);
    for (unsigned i = 0; i < 9; i++) {
        while (client_receive(clients[i], TIMEOUT_MS) >= 0)
            ;
        client_close(clients[i]);
    }
    porter_end(&p);
}

static void a_server_that_says_nothing_is_not_waited_for_longer(void) {
    char address[NP_ADDRESS_MAX];
    keyring keys = {.key = "secret"};
    np_door *door = door_new(address);
    np_channel *c = connect_to(address, TIMEOUT_MS, NP_OK);
    np_error error;
    int64_t begin = np_now();
    CHECK_EQUAL(greet(c, &keys, 50, &error), NP_E_TIMEOUT);
    CHECK_EQUAL(error.value, NP_E_AUTH);
    CHECK(np_now() - begin >= 50 * 1000000);
    np_door_free(door);     /* with a client that nobody took */
    CHECK_EQUAL(greet(c, &keys, TIMEOUT_MS, &error), NP_E_EOF);
    CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
    np_channel_free(c);
}

const test lobby_tests[] = {
    {"channels with the key are let in", channels_with_the_key_are_let_in, 0},
    {"both sides are told of a wrong key", both_sides_are_told_of_a_wrong_key, 0},
    {"nobody waits for those who say nothing", nobody_waits_for_those_who_say_nothing, 0},
    {"those who came first make room", those_who_came_first_make_room, 0},
    {"garbage is sent away", garbage_is_sent_away, 0},
    {"a silent client has its time", a_silent_client_has_its_time, 0},
    {"a handshake survives the threads that began it",
     a_handshake_survives_the_threads_that_began_it, 0},
    {"a door that closes sends all away", a_door_that_closes_sends_all_away, 0},
    {"a server that says nothing is not waited for longer",
     a_server_that_says_nothing_is_not_waited_for_longer, 0},
    {0},
};
