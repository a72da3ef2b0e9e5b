/* Memory that runs out under blocking calls, with handshakes. */
#include "calls.h"
#include "lack.h"
#include "secrets.h"
#include "suites.h"
#include "system.h"
#include "traffic.h"

enum { SEED = 1, SMALL = 10, LARGE = 1100000 };

typedef struct visit {
    call call;
    const char *address;
    keyring keys;
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

/* The one answer, as those are taken that are there.  A take that fails loses nothing. */
static np_code take_answer(np_channel *c, np_error *error) {
    np_wait w = wait_of(TIMEOUT_MS);
    np_slice slice;
    size_t count = 0;
    bool more;
    np_code code = poll_code(c, TIMEOUT_MS);
    if (code == NP_OK)
        code = np_channel_receive_begin(c, &w, error);
    if (code != NP_OK)
        return code;
    while ((code = np_channel_take(c, &slice, 1, &count, &more, error)) == NP_E_MEMORY)
        lack_note(code, *error);
    np_channel_receive_end(c);
    return code == NP_OK && !count ? receive_code(c, TIMEOUT_MS) : code;
}

/* NP_E_EOF: the other side has ended it, and says why itself. */
static np_code visit_once(visit *v) {
    np_channel *c = NULL;
    np_code code = connect_once(v, &c);
    if (code != NP_OK)
        return code;
    code = send_pattern(c, SMALL, SEED, TIMEOUT_MS);
    if (code == NP_OK)
        code = send_pattern(c, LARGE, SEED, TIMEOUT_MS);
    if (code == NP_OK)
        code = take_answer(c, &v->error);
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
            lack_note(code, v->error);
    } while (code != NP_OK);
    return code;
}

/* Takes what comes; false: it is over before its end. */
static bool serve_one(np_channel *c) {
    np_code code = receive_code(c, TIMEOUT_MS);
    if (code == NP_OK)
        code = receive_code(c, TIMEOUT_MS);
    if (code == NP_OK)
        code = send_pattern(c, SMALL, SEED, TIMEOUT_MS);
    if (code != NP_OK && !is_end(code))
        lack_note(code, (np_error){0});
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
        lack_note(code, error);
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
            lack_note(code, error);
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
    lack_hold(talk_by_calls, 1, 5);
    lack_hold(talk_by_calls, 3, 5);
}

const test memory_calls_tests[] = {
    {"blocking calls live through every lack of memory",
     blocking_calls_live_through_every_lack_of_memory, MODE_NONE},
    {0},
};
