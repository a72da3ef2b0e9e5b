/* Channels and doors: what the blocking side promises on every system. */
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "crew.h"
#include "suites.h"
#include "system.h"
#include "traffic.h"

static np_code receiving(call *c) { return receive_code(c->channel, FOREVER); }
static np_code polling(call *c) { return poll_code(c->channel, FOREVER); }
static np_code sending(call *c) {
    np_code code = NP_OK;
    for (unsigned i = 0; code == NP_OK && i < c->count; i++)
        code = send_pattern(c->channel, c->size, c->seed, FOREVER);
    return code;
}

/* ---- messages ---------------------------------------------------------- */

static void messages_of_all_sizes_arrive(void) {
    static const size_t sizes[] = {0,    1,     4,       8191,          8192,
                                   8193, 65536, 1 << 20, (1 << 20) + 1, 5000000};
    ends e = ends_new();
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        call c = {.channel = e.a, .run = sending, .size = sizes[i], .seed = i, .count = 1};
        call_start(&c);
        expect_pattern(e.b, sizes[i], i);
        CHECK_EQUAL(call_join(&c), NP_OK);
    }
    ends_free(e);
}

static void messages_wait_and_keep_their_boundaries(void) {
    ends e = ends_new();
    for (unsigned i = 0; i < 20; i++)
        REQUIRE_EQUAL(send_pattern(e.a, i * 30, i, 0), NP_OK);
    for (unsigned i = 0; i < 20; i++)
        expect_pattern(e.b, i * 30, i);
    CHECK_EQUAL(receive_code(e.b, 0), NP_E_TIMEOUT);
    ends_free(e);
}

static void many_messages_go_out_with_one_send(void) {
    enum { COUNT = 500, SIZE = 100 };
    uint8_t *data = pattern_new(SIZE, 1), *large = pattern_new(50000, 2);
    np_slice messages[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        messages[i] = i == 100 ? (np_slice){large, 50000} : (np_slice){data, SIZE};
    ends e = ends_new();
    np_wait w = wait_of(TIMEOUT_MS);
    np_error error;
    np_outgoing out = {.messages = messages, .count = COUNT};
    REQUIRE_EQUAL(np_channel_send_begin(e.a, &w, &error), NP_OK);
    np_wait soon = wait_of(0);
    np_code code = np_channel_send(e.a, &out, &soon, &error);
    CHECK(code == NP_OK || code == NP_E_TIMEOUT);
    for (unsigned i = 0; i < COUNT && code == NP_OK; i++)
        expect_pattern(e.b, i == 100 ? 50000 : SIZE, i == 100 ? 2 : 1);
    np_channel_send_end(e.a, &out);
    ends_free(e);
    free(data);
    free(large);
}

static void what_is_there_is_taken_together(void) {
    enum { COUNT = 50 };
    ends e = ends_new();
    for (unsigned i = 0; i < COUNT; i++)
        REQUIRE_EQUAL(send_pattern(e.a, 1 + i, i, 0), NP_OK);
    np_wait w = wait_of(TIMEOUT_MS);
    np_error error;
    np_slice slices[COUNT];
    size_t count, got = 0;
    bool more;
    REQUIRE_EQUAL(np_channel_receive_begin(e.b, &w, &error), NP_OK);
    while (got < COUNT) {
        REQUIRE_EQUAL(np_channel_take(e.b, slices, 20, &count, &more, &error), NP_OK);
        REQUIRE(count > 0 && count <= 20);
        for (size_t i = 0; i < count; i++, got++) {
            CHECK_EQUAL(slices[i].size, 1 + got);
            CHECK(pattern_is(slices[i].data, slices[i].size, (unsigned)got));
        }
    }
    CHECK_EQUAL(np_channel_take(e.b, slices, 20, &count, &more, &error), NP_OK);
    CHECK_EQUAL(count, 0);
    np_channel_receive_end(e.b);
    ends_free(e);
}

enum { SENDERS = 8, EACH = 60 };

static void senders_do_not_mix(void) {
    ends e = ends_new();
    call calls[SENDERS];
    unsigned counts[SENDERS] = {0};
    for (unsigned i = 0; i < SENDERS; i++) {
        calls[i] =
            (call){.channel = e.a, .run = sending, .size = 1 + i * 3001, .seed = i, .count = EACH};
        call_start(&calls[i]);
    }
    for (unsigned n = 0; n < SENDERS * EACH; n++) {
        np_error error;
        REQUIRE_EQUAL(receive_begin(e.b, TIMEOUT_MS, &error), NP_OK);
        size_t i = (e.b->in.arrived - 1) / 3001;
        REQUIRE(i < SENDERS && e.b->in.arrived == 1 + i * 3001);
        CHECK(pattern_is(e.b->in.data, e.b->in.arrived, (unsigned)i));
        counts[i]++;
        free(e.b->in.owner);
        np_channel_received(e.b);
        np_channel_receive_end(e.b);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_EQUAL(call_join(&calls[i]), NP_OK);
        CHECK_EQUAL(counts[i], EACH);
    }
    ends_free(e);
}

/* ---- limits ------------------------------------------------------------ */

static void a_message_beyond_the_limit_stays(void) {
    static const size_t sizes[] = {11, 9000, 100000};
    ends e = ends_new();
    for (unsigned i = 0; i < 3; i++) {
        call c = {.channel = e.a, .run = sending, .size = sizes[i], .seed = 7, .count = 1};
        call_start(&c);
        np_wait w = wait_of(TIMEOUT_MS);
        np_error error;
        REQUIRE_EQUAL(np_channel_receive_begin(e.b, &w, &error), NP_OK);
        for (int again = 0; again < 2; again++) {
            REQUIRE_EQUAL(np_channel_receive(e.b, &w, 10, &error), NP_E_TOO_LARGE);
            CHECK_EQUAL(error.value, sizes[i]);
            CHECK_EQUAL(error.limit, 10);
        }
        np_channel_receive_end(e.b);
        expect_pattern(e.b, sizes[i], 7);
        CHECK_EQUAL(call_join(&c), NP_OK);
    }
    np_channel_set_max_message_size(e.b, 5);
    REQUIRE_EQUAL(send_message(e.a, "123456", 6, 0), NP_OK);
    CHECK_EQUAL(receive_code(e.b, TIMEOUT_MS), NP_E_TOO_LARGE);
    ends_free(e);
}

static void a_channel_waits_no_longer_than_told(void) {
    ends e = ends_new();
    int64_t begin = np_now();
    CHECK_EQUAL(receive_code(e.a, 30), NP_E_TIMEOUT);
    CHECK_EQUAL(poll_code(e.a, 30), NP_E_TIMEOUT);
    CHECK(np_now() - begin >= 60 * 1000000);
    CHECK_EQUAL(poll_code(e.a, 0), NP_E_TIMEOUT);
    REQUIRE_EQUAL(send_message(e.b, "", 0, 0), NP_OK);
    CHECK_EQUAL(poll_code(e.a, TIMEOUT_MS), NP_OK);
    CHECK_EQUAL(poll_code(e.a, 0), NP_OK);
    CHECK_EQUAL(receive_code(e.a, 0), NP_OK);
    CHECK_EQUAL(poll_code(e.a, 0), NP_E_TIMEOUT);
    ends_free(e);
}

static void a_send_that_ends_inside_is_the_last(void) {
    ends e = ends_new();
    np_code code = NP_OK;
    while (code == NP_OK)
        code = send_pattern(e.a, 100000, 1, 20);
    CHECK_EQUAL(code, NP_E_TIMEOUT);
    CHECK_EQUAL(send_message(e.a, "x", 1, 0), NP_E_HALF_SENT);
    REQUIRE_EQUAL(send_message(e.b, "y", 1, 0), NP_OK);
    CHECK_EQUAL(receive_code(e.a, TIMEOUT_MS), NP_OK);
    ends_free(e);
}

static void a_turn_is_waited_for(void) {
    ends e = ends_new();
    call c = {.channel = e.a, .run = receiving};
    call_start(&c);
    CHECK(call_waits(&c));
    CHECK_EQUAL(receive_code(e.a, 20), NP_E_TIMEOUT);
    call d = {.channel = e.a, .run = receiving};
    call_start(&d);
    REQUIRE_EQUAL(send_message(e.b, "1", 1, 0), NP_OK);
    REQUIRE_EQUAL(send_message(e.b, "2", 1, 0), NP_OK);
    CHECK_EQUAL(call_join(&c), NP_OK);
    CHECK_EQUAL(call_join(&d), NP_OK);
    ends_free(e);
}

static void a_thread_that_has_the_turn_is_told(void) {
    ends e = ends_new();
    np_wait w = wait_of(FOREVER);
    np_error error;
    REQUIRE_EQUAL(np_channel_receive_begin(e.a, &w, &error), NP_OK);
    CHECK_EQUAL(np_channel_receive_begin(e.a, &w, &error), NP_E_STATE);
    np_channel_receive_end(e.a);
    CHECK_EQUAL(receive_code(e.a, 0), NP_E_TIMEOUT);
    ends_free(e);
}

/* ---- ends -------------------------------------------------------------- */

static void close_ends_every_wait(void) {
    ends e = ends_new();
    /* One sender that waits for the peer, one that waits for its turn. */
    call calls[] = {
        {.channel = e.a, .run = sending, .size = 100000, .count = 1000},
        {.channel = e.a, .run = sending, .size = 100000, .count = 1000},
        {.channel = e.a, .run = receiving},
        {.channel = e.a, .run = receiving},
        {.channel = e.a, .run = polling},
    };
    for (unsigned i = 0; i < 5; i++)
        call_start(&calls[i]);
    for (unsigned i = 0; i < 5; i++)
        CHECK(call_waits(&calls[i]));
    np_channel_close(e.a);
    np_channel_close(e.a);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQUAL(call_join(&calls[i]), NP_E_CLOSED);
    CHECK_EQUAL(receive_code(e.a, 0), NP_E_CLOSED);
    CHECK_EQUAL(send_message(e.a, "x", 1, 0), NP_E_CLOSED);
    CHECK(np_gate_is_closed(&e.a->gate));
    ends_free(e);
}

static void close_races_with_a_message(void) {
    for (unsigned i = 0; i < 200; i++) {
        ends e = ends_new();
        call c = {.channel = e.a, .run = receiving};
        call_start(&c);
        np_code sent = send_message(e.b, "x", 1, 0);
        np_channel_close(e.a);
        np_code code = call_join(&c);
        CHECK(sent == NP_OK && (code == NP_OK || code == NP_E_CLOSED));
        ends_free(e);
    }
}

static void what_was_sent_comes_before_the_end(void) {
    ends e = ends_new();
    REQUIRE_EQUAL(send_pattern(e.a, 100, 3, 0), NP_OK);
    np_channel_close(e.a);
    expect_pattern(e.b, 100, 3);
    CHECK_EQUAL(receive_code(e.b, TIMEOUT_MS), NP_E_EOF);
    CHECK_EQUAL(receive_code(e.b, TIMEOUT_MS), NP_E_EOF);
    CHECK_EQUAL(poll_code(e.b, TIMEOUT_MS), NP_OK);
    CHECK_EQUAL(send_message(e.b, "x", 1, 0), NP_E_BROKEN);
    ends_free(e);
}

/* ---- doors ------------------------------------------------------------- */

static np_code accept_code(np_door *door, int timeout_ms, np_channel **out) {
    np_wait w = wait_of(timeout_ms);
    np_error error;
    np_code code;
    do {
        code = np_door_accept(door, NULL, &w, out, &error);
    } while (code == NP_E_INTERRUPTED);
    return code;
}

static np_code accepting(call *c) {
    np_channel *channel;
    return accept_code(c->door, FOREVER, &channel);
}

static void a_door_lets_clients_in(void) {
    char address[NP_ADDRESS_MAX];
    np_door *door = door_new(address);
    np_channel *none;
    CHECK_EQUAL(accept_code(door, 20, &none), NP_E_TIMEOUT);
    for (unsigned i = 0; i < 20; i++) {
        ends e = {.a = connect_to(address, TIMEOUT_MS, NP_OK)};
        REQUIRE_EQUAL(accept_code(door, TIMEOUT_MS, &e.b), NP_OK);
        REQUIRE_EQUAL(send_pattern(e.a, 100, i, 0), NP_OK);
        expect_pattern(e.b, 100, i);
        ends_free(e);
    }
    np_door_free(door);
}

/* ---- asked by others ---------------------------------------------------- */

typedef struct asked {
    ends e;
    np_door *door;
} asked;

static void ask_on(crew *w, unsigned number) {
    (void)number;
    asked *x = w->with;
    while (crew_goes_on(w)) {
        intptr_t handle = np_channel_handle(x->e.a);
        CHECK(handle != NP_NO_HANDLE || np_channel_is_closed(x->e.a));
        np_channel_holds(x->e.b);
        np_channel_is_partial(x->e.b);
        np_channel_set_took_empty(x->e.b, np_channel_took_empty(x->e.b));
        np_channel_set_max_message_size(x->e.b, 64 << 20);
        CHECK_EQUAL(np_channel_max_message_size(x->e.b), 64 << 20);
        np_door_handle(x->door);
    }
}

static void channels_and_doors_may_be_asked_while_others_use_and_close_them(void) {
    enum { ROUNDS = 10, COUNT = 20, SIZE = 2000 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        char address[NP_ADDRESS_MAX];
        asked x = {.e = ends_new(), .door = door_new(address)};
        crew asker;
        crew_start(&asker, 1, ask_on, &x);
        for (unsigned i = 0; i < COUNT; i++) {
            CHECK_EQUAL(send_pattern(x.e.a, SIZE, i, TIMEOUT_MS), NP_OK);
            expect_pattern(x.e.b, SIZE, i);
        }
        np_channel_close(x.e.a);
        np_channel_close(x.e.b);
        np_door_close(x.door);
        CHECK_EQUAL(np_channel_handle(x.e.a), NP_NO_HANDLE);
        CHECK_EQUAL(np_door_handle(x.door), NP_NO_HANDLE);
        CHECK(!np_channel_holds(x.e.b) && !np_channel_is_partial(x.e.b));
        crew_end(&asker);
        np_door_free(x.door);
        ends_free(x.e);
    }
}

static void a_door_that_closes_ends_every_wait(void) {
    char address[NP_ADDRESS_MAX];
    np_door *door = door_new(address);
    call calls[3];
    for (unsigned i = 0; i < 3; i++) {
        calls[i] = (call){.door = door, .run = accepting};
        call_start(&calls[i]);
    }
    CHECK(call_waits(&calls[0]));
    np_door_close(door);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQUAL(call_join(&calls[i]), NP_E_CLOSED);
    np_channel *none;
    CHECK_EQUAL(accept_code(door, 0, &none), NP_E_CLOSED);
    CHECK(!connect_to(address, 0, NP_E_TIMEOUT));
    np_door_free(door);
}

static np_code accepting_shortly(call *c) {
    np_channel *channel;
    return accept_code(c->door, 20, &channel);
}

/* The system may cancel what a thread waited for when that thread ends. */
static void threads_that_accepted_and_ended_take_nobody_with_them(void) {
    char address[NP_ADDRESS_MAX];
    np_door *door = door_new(address);
    for (unsigned i = 0; i < 3; i++) {
        call c = {.door = door, .run = accepting_shortly};
        call_start(&c);
        CHECK_EQUAL(call_join(&c), NP_E_TIMEOUT);
    }
    for (unsigned i = 0; i < 10; i++) {
        ends e = {.a = connect_to(address, TIMEOUT_MS, NP_OK)};
        REQUIRE_EQUAL(accept_code(door, TIMEOUT_MS, &e.b), NP_OK);
        REQUIRE_EQUAL(send_pattern(e.a, 10, i, 0), NP_OK);
        expect_pattern(e.b, 10, i);
        ends_free(e);
    }
    np_door_free(door);
}

static void nobody_there_is_waited_for(void) {
    char address[NP_ADDRESS_MAX];
    np_door_free(door_new(address));
    int64_t begin = np_now();
    CHECK(!connect_to(address, 40, NP_E_TIMEOUT));
    CHECK(np_now() - begin >= 40 * 1000000);
    np_channel_dial dial = {.address = address};
    np_wait at_once = {.deadline = NP_AT_ONCE};
    np_channel *none;
    np_error error;
    CHECK_EQUAL(np_channel_connect(&dial, &at_once, &none, &error), NP_E_NOT_FOUND);
    CHECK_EQUAL(error.activity, NP_DOING_CONNECT);
}

const test channel_tests[] = {
    {"messages of all sizes arrive", messages_of_all_sizes_arrive, 0},
    {"messages wait and keep their boundaries", messages_wait_and_keep_their_boundaries, 0},
    {"many messages go out with one send", many_messages_go_out_with_one_send, 0},
    {"what is there is taken together", what_is_there_is_taken_together, 0},
    {"senders do not mix", senders_do_not_mix, 0},
    {"a message beyond the limit stays", a_message_beyond_the_limit_stays, 0},
    {"a channel waits no longer than told", a_channel_waits_no_longer_than_told, 0},
    {"a send that ends inside is the last", a_send_that_ends_inside_is_the_last, 0},
    {"a turn is waited for", a_turn_is_waited_for, 0},
    {"a thread that has the turn is told", a_thread_that_has_the_turn_is_told, 0},
    {"close ends every wait", close_ends_every_wait, 0},
    {"close races with a message", close_races_with_a_message, 0},
    {"what was sent comes before the end", what_was_sent_comes_before_the_end, 0},
    {"a door lets clients in", a_door_lets_clients_in, 0},
    {"channels and doors may be asked while others use and close them",
     channels_and_doors_may_be_asked_while_others_use_and_close_them, 0},
    {"a door that closes ends every wait", a_door_that_closes_ends_every_wait, 0},
    {"threads that accepted and ended take nobody with them",
     threads_that_accepted_and_ended_take_nobody_with_them, 0},
    {"nobody there is waited for", nobody_there_is_waited_for, 0},
    {0},
};
