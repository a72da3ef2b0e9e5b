#include "calls.h"

#include <stdlib.h>

#include "allocations.h"
#include "system.h"
#include "traffic.h"

np_wait wait_of(int timeout_ms) {
    np_wait w = {.deadline = NP_FOREVER};
    if (timeout_ms >= 0)
        w.deadline = np_now() + timeout_ms * INT64_C(1000000);
    return w;
}

ends ends_new(void) {
    ends e = {0};
    np_error error;
    REQUIRE_EQUAL(np_channel_pair(&e.a, &e.b, &error), NP_OK);
    return e;
}

void channel_end(np_channel *c) {
    free(c->in.owner);
    np_channel_free(c);
}

void ends_free(ends e) {
    channel_end(e.a);
    channel_end(e.b);
}

np_door *door_new(char address[NP_ADDRESS_MAX]) {
    char name[64];
    np_config config;
    np_error error;
    np_door *door;
    np_config_init(&config);
    system_name(name, sizeof name);
    REQUIRE_EQUAL(np_address(name, address, NP_ADDRESS_MAX, &error), NP_OK);
    REQUIRE_EQUAL(np_door_open(&config, address, &door, &error), NP_OK);
    return door;
}

np_channel *connect_to(const char *address, int timeout_ms, np_code expected) {
    np_channel_dial dial = {.address = address};
    np_wait w = wait_of(timeout_ms);
    np_channel *c = NULL;
    np_error error;
    np_code code;
    do {
        code = np_channel_connect(&dial, &w, &c, &error);
    } while (code == NP_E_INTERRUPTED);
    REQUIRE_EQUAL(code, expected);
    return c;
}

np_code send_message(np_channel *c, const void *data, size_t size, int timeout_ms) {
    np_wait w = wait_of(timeout_ms);
    np_error error;
    np_slice message = {data, size};
    np_outgoing out = {.messages = &message, .count = 1};
    np_code code = np_channel_send_begin(c, &w, &error);
    while (code == NP_E_INTERRUPTED)
        code = np_channel_send_begin(c, &w, &error);
    if (code != NP_OK)
        return code;
    do {
        code = np_channel_send(c, &out, &w, &error);
    } while (code == NP_E_INTERRUPTED);
    np_channel_send_end(c, &out);
    return code;
}

np_code send_pattern(np_channel *c, size_t size, unsigned seed, int timeout_ms) {
    uint8_t *data = pattern_new(size, seed);
    np_code code = send_message(c, data, size, timeout_ms);
    free(data);
    return code;
}

static np_code receive_steps(np_channel *c, np_wait *w, np_error *error) {
    for (;;) {
        np_code code = np_channel_receive(c, w, UINT64_MAX, error);
        if (code == NP_WANTED) {
            size_t size = np_channel_wanted(c);
            uint8_t *data = realloc(c->in.owner, size);
            REQUIRE(data != NULL);
            np_channel_room(c, data, data, size);
        } else if (code != NP_E_INTERRUPTED) {
            return code;
        }
    }
}

static np_code take_turn(np_channel *c, np_wait *w, np_error *error) {
    np_code code;
    do {
        code = np_channel_receive_begin(c, w, error);
    } while (code == NP_E_INTERRUPTED);
    return code;
}

np_code receive_begin(np_channel *c, int timeout_ms, np_error *error) {
    np_wait w = wait_of(timeout_ms);
    np_code code = take_turn(c, &w, error);
    return code == NP_OK ? receive_steps(c, &w, error) : code;
}

static void take(np_channel *c) {
    free(c->in.owner);
    np_channel_received(c);
}

void expect_pattern(np_channel *c, size_t size, unsigned seed) {
    np_error error;
    REQUIRE_EQUAL(receive_begin(c, TIMEOUT_MS, &error), NP_OK);
    CHECK_EQUAL(c->in.arrived, size);
    CHECK(pattern_is(c->in.data, c->in.arrived, seed));
    take(c);
    np_channel_receive_end(c);
}

np_code receive_code(np_channel *c, int timeout_ms) {
    np_wait w = wait_of(timeout_ms);
    np_error error;
    np_code code = take_turn(c, &w, &error);
    if (code != NP_OK)
        return code;
    code = receive_steps(c, &w, &error);
    CHECK_EQUAL(code == NP_OK ? 0 : (int)error.code, code);
    CHECK(code == NP_OK || error.activity == NP_DOING_RECEIVE);
    if (code == NP_OK)
        take(c);
    np_channel_receive_end(c);
    return code;
}

np_code poll_code(np_channel *c, int timeout_ms) {
    np_wait w = wait_of(timeout_ms);
    np_error error;
    np_code code = take_turn(c, &w, &error);
    if (code != NP_OK)
        return code;
    do {
        code = np_channel_poll(c, &w, &error);
    } while (code == NP_E_INTERRUPTED);
    np_channel_receive_end(c);
    return code;
}

static void run(void *arg) {
    call *c = arg;
    np_store32(&c->started, 1);
    c->code = c->run(c);
    np_store32(&c->ended, 1);
}

void call_start(call *c) {
    bool spared = allocations_spare(true);
    int os = np_thread_start(&c->thread, run, c);
    allocations_spare(spared);
    REQUIRE_EQUAL(os, 0);
    UNTIL(np_load32(&c->started));
}

np_code call_join(call *c) {
    UNTIL(np_load32(&c->ended));
    np_thread_join(c->thread);
    return c->code;
}

bool call_waits(call *c) {
    system_sleep(30);
    return !np_load32(&c->ended);
}
